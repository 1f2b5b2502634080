# SPDX-License-Identifier: MIT
"""One at a time: the lock that whoever loads a helper holds, so that two lkm do not edit one kernel at once.

It is held from the look that an edit is planned from, where that is made right before it, until the helper has
answered. The kernel gives it back when its holder ends, however that comes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lkm.errors import LkmError
from lkm.root import Root

__all__ = ["LOCK_PATH", "Busy", "sole_turn"]

LOCK_PATH = "/run/lkm.lock"
SECONDS = 10.0
"""How long another one is waited for: a helper works for microseconds, the look before it takes a second or two."""
_PAUSE = 0.1
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Busy(LkmError):
    """Another lkm is at work on this kernel, or that cannot be told. Nothing was written."""


@contextmanager
def sole_turn(root: Root, *, seconds: float = SECONDS) -> Iterator[None]:
    """While this lasts, no other lkm loads a helper. Busy where another one does, for `seconds`. Not to be nested."""
    path = root.join(LOCK_PATH)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(path, _OPEN, 0o600)
    except OSError as error:
        raise Busy(
            f"{path}, the lock against another lkm, cannot be opened ({error.strerror}); nothing was written",
            remedy="be root, with a /run that can be written to",
        ) from error
    try:
        _wait(handle, path, time.monotonic() + seconds)
        os.truncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, path: str, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
        time.sleep(_PAUSE)
    pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "not known"
    raise Busy(
        f"another lkm (pid {pid}) edits this kernel, and holds {path}; nothing was written",
        remedy="try again when it has ended",
    )
