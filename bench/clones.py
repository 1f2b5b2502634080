# SPDX-License-Identifier: MIT
"""The lab: the first command of a clone against the first command of a cold boot."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.measure import Comparison, progress

from lkm.lab.guest import Guest

__all__ = ["compare_clone"]

KERNEL = "6.1"
AT_MOST = 0.5
TIMES_FASTER = 5.0


def compare_clone(rounds: int) -> Comparison:
    """From nothing to the result of `true`."""
    _seconds(_clone)  # makes the template, if there is none
    ours, peer = [], []
    for turn in range(rounds):
        progress(f"clone and boot {turn + 1} of {rounds}")
        ours += [_seconds(_clone) for _ in range(2)]
        peer.append(_seconds(_boot))
    return Comparison(
        "first command in a clone", ours, "in a cold boot", peer, times_faster=TIMES_FASTER, at_most=AT_MOST
    )


def _seconds(start: Callable[[], Guest]) -> float:
    """From the start of a guest to the result of its first command; its end is not counted."""
    begin = time.perf_counter()
    with start() as guest:
        guest.run(["true"])
        return time.perf_counter() - begin


def _clone() -> Guest:
    return Guest.clone(KERNEL, progress=progress)


def _boot() -> Guest:
    return Guest.boot(KERNEL)
