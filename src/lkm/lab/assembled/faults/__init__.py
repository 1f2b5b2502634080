# SPDX-License-Identifier: MIT
"""The faults themselves: one function each, from a target to a module.

Each does what the C module of its name does (`lkm/lab/faults`, whose README tells the state that it leads to).
"""

from __future__ import annotations

from typing import Callable

from lkm.lab.assembled.faults import counts, exits, inits, left_devices, left_files, left_running, sound
from lkm.lab.assembled.language import Module
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS", "Fault", "fault_set"]

Fault = Callable[[Target], Module]

FAULTS: tuple[Fault, ...] = (
    *sound.FAULTS,
    *inits.FAULTS,
    *counts.FAULTS,
    *exits.FAULTS,
    *left_devices.FAULTS,
    *left_files.FAULTS,
    *left_running.FAULTS,
)


def fault_set(target: Target) -> list[Module]:
    """Every fault, as it is for this kernel."""
    return [fault(target) for fault in FAULTS]
