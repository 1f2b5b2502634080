# SPDX-License-Identifier: MIT
"""Types of command-line arguments."""

from __future__ import annotations

import argparse

__all__ = ["seconds"]

LONGEST = 7 * 24 * 3600.0


def seconds(text: str) -> float:
    """A time to wait, in seconds: from 0 to a week."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LONGEST:.0f}")
    return value
