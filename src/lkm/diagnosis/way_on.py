# SPDX-License-Identifier: MIT
"""The way on that several findings and verdicts share."""

from __future__ import annotations

from lkm.names import ModuleName, quarantine_number

__all__ = ["or_quarantine"]


def or_quarantine(module: ModuleName) -> str:
    """What is left where the memory must stay, to be added to a remedy; "" for one in quarantine."""
    if quarantine_number(module):
        return ""
    return f"; lkm quarantine {module} releases its name meanwhile, and keeps its memory"
