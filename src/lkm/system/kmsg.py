# SPDX-License-Identifier: MIT
"""The kernel's messages of one operation: /dev/kmsg, from its end at the start of it.

Source: `devkmsg_read` and `devkmsg_llseek`, kernel/printk/printk.c (6.1).
"""

from __future__ import annotations

import errno
import os
from typing import Callable, NamedTuple, Optional, final

from lkm.errors import LkmError, NeedsRoot
from lkm.formats.kmsg import parse_kmsg_record
from lkm.root import Root

__all__ = ["KmsgLine", "KmsgTail", "drain", "hidden_from_console", "read_all"]

_RECORD = 1 << 16
"""Room for one record; the kernel returns EINVAL where it does not fit (at most 8 KiB up to 6.x)."""


class KmsgLine(NamedTuple):
    """One message. `level` 0 (emergency) to 7 (debug); `timestamp` in seconds since boot; `caller` as KmsgRecord."""

    level: int
    text: str
    seq: int
    timestamp: float
    caller: str = ""


@final
class KmsgTail:
    """Messages that are logged from now on. `note` says why there are none, or that some were lost; else "".

    with KmsgTail(root) as tail:
        …
        lines = tail.read_new()
    """

    def __init__(self, root: Root) -> None:
        self.note = ""
        self._handle: Optional[int] = None
        path = root.join("/dev/kmsg")
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._handle, 0, os.SEEK_END)
        except OSError as error:
            self.note = f"the kernel's messages cannot be read: /dev/kmsg: {error.strerror}"
            self.close()

    def __enter__(self) -> KmsgTail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close /dev/kmsg; then there is nothing new any more."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def read_new(self) -> tuple[KmsgLine, ...]:
        """What was logged since the last call, oldest first. Never waits."""
        handle = self._handle
        if handle is None:
            return ()
        lines, note = drain(lambda: os.read(handle, _RECORD))
        self.note = note or self.note
        return lines


def read_all(root: Root) -> tuple[tuple[KmsgLine, ...], str]:
    """Everything that the kernel's buffer still holds, oldest first, and a note on what it does not.

    Never waits. NeedsRoot where dmesg_restrict forbids it, LkmError where there is no /dev/kmsg.
    """
    path = root.join("/dev/kmsg")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise NeedsRoot(f"/dev/kmsg: {error.strerror}", remedy="run it as root") from error
    except OSError as error:
        raise LkmError(f"/dev/kmsg: {error.strerror}") from error
    try:
        lines, note = drain(lambda: os.read(handle, _RECORD))
    finally:
        os.close(handle)
    if not note and lines and lines[0].seq:
        note = f"the kernel's first {lines[0].seq} messages were overwritten: boot with log_buf_len=16M"
    return lines, note


def drain(read: Callable[[], bytes]) -> tuple[tuple[KmsgLine, ...], str]:
    """All records that `read` returns, one a call, until it would wait; and a note on what was lost."""
    lines: list[KmsgLine] = []
    note = ""
    while True:
        try:
            data = read()
        except OSError as error:
            if error.errno == errno.EPIPE:  # the oldest were overwritten; the next read goes on after them
                note = "some of the kernel's messages were overwritten before they were read"
                continue
            if error.errno != errno.EAGAIN:
                note = f"the kernel's messages could not be read to their end: {error.strerror}"
            break
        if not data:
            break
        line = _parsed(data)
        if line:
            lines.append(line)
    return tuple(lines), note


def _parsed(data: bytes) -> Optional[KmsgLine]:
    try:
        record = parse_kmsg_record(data)
    except ValueError:
        return None
    return KmsgLine(record.level, record.text, record.seq, record.timestamp_us / 1e6, record.caller)


def hidden_from_console(line: KmsgLine, loglevel: Optional[int]) -> bool:
    """Whether the console does not show it: only levels below console_loglevel (4 in most systems) are."""
    return loglevel is not None and line.level >= loglevel
