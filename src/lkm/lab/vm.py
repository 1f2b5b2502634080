# SPDX-License-Identifier: MIT
"""The lab's Python interface, in one import."""

from __future__ import annotations

from lkm.lab.guest import Completed, Guest, GuestDied, GuestTimeout

__all__ = ["Completed", "Guest", "GuestDied", "GuestTimeout"]
