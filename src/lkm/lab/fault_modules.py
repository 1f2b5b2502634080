# SPDX-License-Identifier: MIT
"""The faulty modules for any kernel of the lab: compiled where it has headers, else assembled."""

from __future__ import annotations

import os

from lkm.lab.assembled.build import assembled_modules
from lkm.lab.build import build_modules
from lkm.lab.cache import Progress, silent
from lkm.lab.series import find_series

__all__ = ["FAULTS", "fault_modules"]

FAULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults")
"""The sources in C."""


def fault_modules(kernel: str, *, progress: Progress = silent) -> list[str]:
    """The paths of the `.ko` files, all in one directory. `assembled_modules` gives assembled ones on any kernel.

    Raises what `build_modules` and `assembled_modules` raise.
    """
    if find_series(kernel).headers:
        return build_modules(FAULTS, kernel, progress=progress)
    return assembled_modules(kernel, progress=progress)
