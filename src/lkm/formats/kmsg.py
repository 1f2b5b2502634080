# SPDX-License-Identifier: MIT
r"""Records of `/dev/kmsg`, one a read.

    PRIORITY,SEQUENCE,TIMESTAMP,FLAGS[,…];TEXT\n[ KEY=VALUE\n]…

Source: `Documentation/ABI/testing/dev-kmsg`; `msg_print_ext_header` and `msg_add_ext_text` in the kernel's
`kernel/printk/printk.c` (6.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lkm.errors import ParseError

__all__ = ["KmsgError", "KmsgRecord", "parse_kmsg_record"]

TIME_LIMIT = 1 << 63
"""Microseconds. The kernel's clock has 64 bits of nanoseconds."""
_CALLER = b"caller="
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


class KmsgError(ParseError):
    """Bytes that are not a record of `/dev/kmsg`."""


class KmsgRecord(NamedTuple):
    """A message. `level` is 0 (emergency) to 7 (debug), `facility` 0 for the kernel.

    `timestamp_us` is microseconds since boot. `flags` is `-`, or `c` and `+` for parts of a continued line.
    `fields` are its dictionary: SUBSYSTEM and DEVICE of dev_printk. `caller` is `T` and the task's number, or `C`
    and the processor's outside of tasks; "" without CONFIG_PRINTK_CALLER.
    """

    level: int
    facility: int
    seq: int
    timestamp_us: int
    flags: str
    text: str
    fields: Mapping[str, str]
    caller: str = ""


def parse_kmsg_record(data: bytes) -> KmsgRecord:
    """The record in one read of `/dev/kmsg`. Raises `KmsgError`."""
    header, semicolon, body = data.partition(b";")
    parts = header.split(b",")
    if not semicolon or len(parts) < 4:
        raise KmsgError(f"/dev/kmsg: expected priority,seq,time,flags;text, found {data[:80]!r}")
    try:
        priority, seq, timestamp = (int(part) for part in parts[:3])
    except ValueError as error:
        raise KmsgError(f"/dev/kmsg: {error}: {data[:80]!r}") from error
    if not 0 <= timestamp < TIME_LIMIT:
        raise KmsgError(f"/dev/kmsg: {timestamp} microseconds are no time: {data[:80]!r}")
    text, *lines = body.split(b"\n")
    fields: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition(b"=")
        if line.startswith(b" ") and equals:
            fields[_text(key[1:])] = _text(value)
    flags = parts[3].decode("ascii", "backslashreplace")
    callers = (part[len(_CALLER) :] for part in parts[4:] if part.startswith(_CALLER))
    caller = next(callers, b"").decode("ascii", "backslashreplace")
    return KmsgRecord(priority & 7, priority >> 3, seq, timestamp, flags, _text(text), fields, caller)


def _text(raw: bytes) -> str:
    r"""Text with the kernel's `\xNN` undone; what is not UTF-8 then keeps it."""
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)
    return plain.decode("utf-8", "backslashreplace")
