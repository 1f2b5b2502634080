# SPDX-License-Identifier: MIT
"""The same work on several processors, each part in a process of its own that is forked for it.

Threads would wait for one another wherever Python itself works; multiprocessing starts and talks for longer than
such a part takes. A part's result comes back as bytes through a memory file, so that nobody waits for a reader.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Part = TypeVar("Part")

__all__ = ["Helper", "processors", "run_forked", "split_by_weight"]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def split_by_weight(weights: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Cut the indexes of `weights` into at most `count` ranges (start, stop) that weigh about the same."""
    found: list[tuple[int, int]] = []
    total, start, so_far = sum(weights), 0, 0
    for index, weight in enumerate(weights):
        so_far += weight
        full = so_far * count >= total * (len(found) + 1) and len(found) < count - 1
        if full or index == len(weights) - 1:
            found.append((start, index + 1))
            start = index + 1
    return found


_END = b"\nlkm: done"  # the last of what a process writes


class Helper:
    """A process that has begun to make something. Whoever starts one has to take its result.

    Where there is no memory for it, or no process to be had, it has failed.
    """

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._file = self._process = -1
        try:
            self._file = os.memfd_create("lkm-part", os.MFD_CLOEXEC)
            self._process = os.fork()
        except OSError:
            return
        if self._process == 0:
            _work(make, self._file)

    def result(self) -> bytes | None:
        """What it has made; None if it failed or was killed."""
        try:
            if self._process < 0:
                return None
            try:
                os.waitpid(self._process, 0)
            except (
                ChildProcessError
            ):  # whoever started this program ignores SIGCHLD: the kernel has reaped it
                pass
            made = os.pread(self._file, os.fstat(self._file).st_size, 0)
            return made[: -len(_END)] if made.endswith(_END) else None
        except OSError:
            return None
        finally:
            if self._file >= 0:
                os.close(self._file)


def _work(make: Callable[[], bytes], file: int) -> None:
    """The life of the process, without what an interpreter does at its end: it has its parent's buffers."""
    code = 1
    try:
        for part in (make(), _END):
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(file, rest) :]
        code = 0
    finally:
        os._exit(code)


def run_forked(work: Callable[[Part], bytes], parts: Sequence[Part]) -> list[bytes]:
    """`work` of each part, in order: the first one here, the others in children.

    A part whose child fails is done here: an exception of `work` is raised either way. Only for a process without
    threads of its own.
    """
    waiting = [(part, Helper(lambda part=part: work(part))) for part in parts[1:]]  # type: ignore[misc]
    results = []
    try:
        results += [work(part) for part in parts[:1]]
        while waiting:
            part, helper = waiting.pop(0)
            result = helper.result()
            results.append(work(part) if result is None else result)
    finally:
        for _, helper in waiting:  # nobody asks for them any more
            helper.result()
    return results
