# SPDX-License-Identifier: MIT
"""Work done by another process beside this one, which gives back bytes.

A plain fork and a file in memory: `multiprocessing` takes longer to start than the work does.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["Helper", "processors"]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


class Helper:
    """A process that has begun to make something. Whoever starts one has to take its result."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._file = os.memfd_create("lkm-depmod")
        self._process = os.fork()
        if self._process == 0:
            _work(make, self._file)

    def result(self) -> bytes | None:
        """What it has made; None if it failed or was killed."""
        try:
            _, status = os.waitpid(self._process, 0)
            return os.pread(self._file, os.fstat(self._file).st_size, 0) if status == 0 else None
        except OSError:
            return None
        finally:
            os.close(self._file)


def _work(make: Callable[[], bytes], file: int) -> None:
    """The life of the process, without what an interpreter does at its end: it has its parent's buffers."""
    code = 1
    try:
        rest = memoryview(make())
        while rest:
            rest = rest[os.write(file, rest) :]
        code = 0
    finally:
        os._exit(code)
