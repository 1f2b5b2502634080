# SPDX-License-Identifier: MIT
"""Many files against one kernel, on all processors: each process takes every n-th file."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from lkm.preflight.check import check_module
from lkm.preflight.files import FileFault, read_module_file
from lkm.preflight.kernel import Request, Target
from lkm.preflight.values import Prediction

__all__ = ["check_file", "check_files"]

_MIN_SHARE = 64
"""Files for which it pays to start a process."""


class _Job(NamedTuple):
    """What the processes inherit."""

    paths: Sequence[str]
    target: Target
    request: Request


_JOBS: list[_Job] = []


def check_file(path: str, target: Target, request: Request) -> Prediction:
    """The prediction for one module file, compressed or not. LkmError for one that is too large to be looked at."""
    try:
        given = read_module_file(path)
    except FileFault as fault:
        problem = fault.problem
        return Prediction("", target.release, (problem,), problem.errno)
    return check_module(given.data, target, request._replace(unpacked=given.unpacked))


def check_files(
    paths: Sequence[str], target: Target, request: Request, *, processes: Optional[int] = None
) -> list[Prediction]:
    """As `check_file` for each, in order. `processes`: as many as there are processors, if None."""
    count = min(processes or len(os.sched_getaffinity(0)), len(paths) // _MIN_SHARE)
    if count < 2:
        return [check_file(path, target, request) for path in paths]
    import multiprocessing

    _JOBS.append(_Job(paths, target, request))  # inherited: a Target holds functions, which are not sent
    try:
        with multiprocessing.get_context("fork").Pool(count) as pool:
            shares = pool.map(_share, [(number, count) for number in range(count)], chunksize=1)
    finally:
        _JOBS.pop()
    found: list[Optional[Prediction]] = [None] * len(paths)
    for number, share in enumerate(shares):
        found[number::count] = share
    return [prediction for prediction in found if prediction is not None]


def _share(place: tuple[int, int]) -> list[Prediction]:
    gc.disable()  # nothing that is made here points in a circle, and looking for that takes a fifth of the time
    number, count = place
    job = _JOBS[-1]
    return [check_file(path, job.target, job.request) for path in job.paths[number::count]]
