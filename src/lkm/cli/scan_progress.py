# SPDX-License-Identifier: MIT
"""How far the search of kernel memory is: a line on the terminal, none where standard error is not one."""

from __future__ import annotations

import sys
import time

__all__ = ["ScanProgress"]

_WIDTH = 30
_PAUSE = 0.1
"""Seconds between two looks of the line."""


class ScanProgress:
    """Called with bytes done and in all. `end` takes the line away."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._last = 0.0
        self._drawn = False

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._shown or not total or (now - self._last < _PAUSE and done < total):
            return
        self._last, self._drawn = now, True
        filled = _WIDTH * done // total
        bar = "#" * filled + "." * (_WIDTH - filled)
        sys.stderr.write(f"\rkernel memory [{bar}] {100 * done // total:3d} % of {total / 1e6:.0f} MB")
        sys.stderr.flush()
