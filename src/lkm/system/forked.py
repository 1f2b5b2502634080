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

__all__ = ["processors", "run_forked", "split_by_weight"]


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


def run_forked(work: Callable[[Part], bytes], parts: Sequence[Part]) -> list[bytes]:
    """`work` of each part, in order: the first one here, the others in children.

    A part whose child dies or cannot be started is done here: an exception of `work` is raised either way. Only for
    a process without threads of its own.
    """
    waiting = [(part, _start(work, part)) for part in parts[1:]]
    results = []
    try:
        results += [work(part) for part in parts[:1]]
        while waiting:
            part, child = waiting.pop(0)
            result = None if child is None else _finish(*child)
            results.append(work(part) if result is None else result)
    finally:
        for _, child in waiting:  # nobody asks for them any more
            if child is not None:
                _finish(*child)
    return results


def _start(work: Callable[[Part], bytes], part: Part) -> tuple[int, int] | None:
    """A child and the file for its result; None where there is no memory for them, or no process is to be had."""
    try:
        file = os.memfd_create("lkm-part", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        os.close(file)
        return None
    if pid:
        return pid, file
    code = 1
    try:
        _write_all(file, work(part))
        code = 0
    finally:
        os._exit(code)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _finish(pid: int, file: int) -> bytes | None:
    """What the child has written, None if it failed."""
    _, status = os.waitpid(pid, 0)
    with open(file, "rb", buffering=0) as stream:
        stream.seek(0)
        return None if status else stream.readall()
