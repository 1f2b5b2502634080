# SPDX-License-Identifier: MIT
"""Work in a child process with a deadline: the kernel may kill the one who asks, or never answer.

An oops in a system call ends its caller by SIGKILL, a BUG by SIGSEGV, and a lock whose owner is dead is never
given: the caller then sleeps uninterruptibly (state D), and not even SIGKILL ends it. So whatever enters the
module code of the kernel is done by a child, and the parent goes on in every case.
"""

from __future__ import annotations

import marshal
import os
import select
import time
from typing import Any, Callable, NamedTuple, Optional

__all__ = ["ChildResult", "run_in_child"]

_SIGKILL = 9
_GRACE = 0.1
"""Seconds in which a child that was killed, or has closed its pipe, is expected to be gone."""

_left: list[int] = []
"""Children that outlived their deadline; each is reaped once it has ended."""


class ChildResult(NamedTuple):
    """How the work ended. `value` is what it returned, unless one of the others says why there is none.

    error      an exception's text, or how the child ended without a result
    signal     the number of the signal that killed it: 9 after an oops, 11 after a BUG
    timed_out  no answer within the deadline; the child may still be there
    """

    value: Any = None
    error: str = ""
    signal: Optional[int] = None
    timed_out: bool = False
    pid: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return not self.error


def run_in_child(
    function: Callable[[], Any], *, seconds: float, name: str, kill: bool = True, keep: tuple[int, ...] = ()
) -> ChildResult:
    """Call `function` in a child process and wait for at most `seconds`.

    The result comes back through a pipe by marshal, so it is made of plain values (numbers, strings, bytes,
    tuples, lists, dicts). `name` (15 bytes) is how the child is seen in ps. The child holds none of the
    parent's file descriptors but `keep`, so whoever waits for the end of our output is not held by it.

    After the deadline the child gets SIGKILL, unless `kill` is False because it is meant to go on, and is
    left alone: one that sleeps in state D does not die, and must not be waited for. That the system has no
    process or descriptor left to give is an `error` too.
    """
    _reap_left()
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        return ChildResult(error=f"no child could be made: {error.strerror}")
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        return ChildResult(error=f"no child could be made: {error.strerror}")
    if pid == 0:
        _work(function, writer, name, keep)
    os.close(writer)
    deadline = time.monotonic() + seconds
    try:
        data = _read_until(reader, deadline)
        if data is None:
            return _give_up(pid, seconds, kill=kill)
        return _result(pid, data, _wait(pid, max(deadline, time.monotonic() + _GRACE)))
    except BaseException:  # Ctrl-C: the child, in a session of its own, has not seen it
        if kill:
            _kill(pid)
        _left.append(pid)
        raise
    finally:
        os.close(reader)


def _work(function: Callable[[], Any], writer: int, name: str, keep: tuple[int, ...]) -> None:
    """The child: never returns, runs no handler of the parent and flushes none of its buffers."""
    try:
        _detach(name, {writer, *keep})
        try:
            data = marshal.dumps((True, function()))
        except BaseException as error:  # noqa: BLE001  whatever it was, the parent shall read it
            data = marshal.dumps((False, f"{type(error).__name__}: {error}"))
        view = memoryview(data)
        while view:
            view = view[os.write(writer, view) :]
        os._exit(0)
    finally:
        os._exit(1)


def _detach(name: str, keep: set[int]) -> None:
    import signal

    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - keep:
        os.dup2(null, standard)
    for handle in _open_descriptors():
        if handle > 2 and handle not in keep:
            try:
                os.close(handle)
            except OSError:
                pass
    try:
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, name.encode()[:15])
        os.close(comm)
    except OSError:
        pass


def _open_descriptors() -> list[int]:
    try:
        return [int(entry) for entry in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc here
        return list(range(3, 1024))


def _read_until(reader: int, deadline: float) -> Optional[bytes]:
    """All that the child writes until it closes its end, or None when the deadline comes first."""
    pieces: list[bytes] = []
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            if left <= 0:
                return None
            continue
        piece = os.read(reader, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _wait(pid: int, deadline: float) -> Optional[int]:
    """The child's wait status, or None if it has not ended by then."""
    pause = 0.0002
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # the program ignores SIGCHLD: the kernel has reaped it
            return 0
        if done:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _result(pid: int, data: bytes, status: Optional[int]) -> ChildResult:
    if data:
        try:
            done, value = marshal.loads(data)
        except (ValueError, EOFError, TypeError):
            done, value = False, "the child's answer was cut off"
        if status is None:
            _left.append(pid)
        if done:
            return ChildResult(value=value, pid=pid)
        return ChildResult(error=value, pid=pid)
    if status is None:
        _left.append(pid)
        return ChildResult(error="the child closed its pipe but does not end", timed_out=True, pid=pid)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ChildResult(error=f"the child was killed by signal {number}", signal=number, pid=pid)
    return ChildResult(error=f"the child ended with code {os.WEXITSTATUS(status)} and no answer", pid=pid)


def _give_up(pid: int, seconds: float, *, kill: bool) -> ChildResult:
    if kill:
        _kill(pid)
    if not kill or _wait(pid, time.monotonic() + _GRACE) is None:
        _left.append(pid)
    return ChildResult(error=f"no answer in {seconds:g} s", timed_out=True, pid=pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _SIGKILL)
    except OSError:
        pass


def _reap_left() -> None:
    for pid in list(_left):
        if _wait(pid, 0) is not None:
            _left.remove(pid)
