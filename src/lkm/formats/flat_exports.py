# SPDX-License-Identifier: MIT
"""The tables of exports in a flat image, which has no sections: arm64's.

They stand one behind the other in its read-only data, their names sorted, and the strings behind them:

    up to 7.0   __ksymtab, __ksymtab_gpl, __kcrctab, __kcrctab_gpl, __ksymtab_strings
    since 7.1   __ksymtab, __kcrctab, __kflagstab, __ksymtab_strings

Entries hold distances only, so that nothing need be known of addresses: places are offsets in the image. Source:
RO_DATA in include/asm-generic/vmlinux.lds.h (5.10 to 7.3), struct kernel_symbol. Up to 5.18 arm64's CRCs were
distances as well (CONFIG_MODULE_REL_CRCS): such an image is not read.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.formats.exports import Export

__all__ = ["parse_flat_exports"]

_ENTRY = struct.Struct("<iii")
_NAMES = (b"kfree\0", b"memcpy\0", b"jiffies\0", b"module_layout\0")
"""Whichever of these is found: every kernel exports them."""
_REACH = 1 << 21
"""Bytes from an entry to its name: tables and strings together take half of it."""
_TRIES = 8
"""Places of each name, and of entries, that are looked at: the right ones are among the first."""
_LEAST = 100
"""Exports: fewer are no kernel's."""
_STRING = 512
_NAME = re.compile(rb"[A-Za-z_$.][\w$.]*\0")
_VERSION = re.compile(rb"Linux version (\d+)\.(\d+)\.")
_GPL_ONLY = 1


class _Row(NamedTuple):
    name: str
    at: int
    """Where its name begins."""
    namespace: str


def parse_flat_exports(data: bytes) -> tuple[Export, ...]:
    """The exports of the kernel in a flat image; none where the tables are not found."""
    version = _VERSION.search(data)
    if version is None or (int(version[1]), int(version[2])) < (5, 19):
        return ()
    for place in itertools.islice(_entries_of_known(data), _TRIES):
        start, rows = _table(data, place)
        if len(rows) >= _LEAST:
            return _exports(data, start + _ENTRY.size * len(rows), rows)
    return ()


def _entries_of_known(data: bytes) -> Iterator[int]:
    """Places that may be the entry of one of `_NAMES`."""
    for name in _NAMES:
        at = data.find(name)
        for _ in range(_TRIES):
            if at < 0:
                break
            start = max(0, at - _REACH) & ~3
            words = memoryview(data)[start : at & ~3].cast("i")
            distance = at - start
            yield from (
                start + 4 * number - 4
                for number, word in enumerate(words)
                if word + 4 * number == distance and number
            )
            at = data.find(name, at + 1)


def _table(data: bytes, place: int) -> tuple[int, list[_Row]]:
    """The entries around the one at `place`, and where the first is."""
    before: list[_Row] = []
    at = place - _ENTRY.size
    while (row := _row(data, at)) is not None:
        before.append(row)
        at -= _ENTRY.size
    start = at + _ENTRY.size
    rows = before[::-1]
    at = place
    while (row := _row(data, at)) is not None:
        rows.append(row)
        at += _ENTRY.size
    return start, rows


def _row(data: bytes, at: int) -> Optional[_Row]:
    """The entry at `at`, if it can be one."""
    if at < 0 or at + _ENTRY.size > len(data):
        return None
    _, name, space = _ENTRY.unpack_from(data, at)
    place = at + 4 + name
    found = _NAME.match(data, place, place + _STRING) if 0 < name < _REACH else None
    if found is None:
        return None
    namespace = b""
    if space:
        if not 0 < space < _REACH:
            return None
        end = data.find(b"\0", at + 8 + space, at + 8 + space + _STRING)
        if end < 0:
            return None
        namespace = data[at + 8 + space : end]
    return _Row(found[0][:-1].decode("ascii"), place, namespace.decode("utf-8", "backslashreplace"))


def _exports(data: bytes, end: int, rows: list[_Row]) -> tuple[Export, ...]:
    """What stands behind the entries, which end at `end`, up to the strings, tells CRCs and licences."""
    count = len(rows)
    order = [row.name.encode() for row in rows]
    gpl_from = next((i for i in range(1, count) if order[i] < order[i - 1]), count)
    behind = min(row.at for row in rows) - end
    has_crcs = behind >= 4 * count
    crcs = struct.unpack_from(f"<{count}I", data, end) if has_crcs else ()
    flags_at = end + (4 * count if has_crcs else 0)
    flags = data[flags_at : flags_at + count] if gpl_from == count else b""
    return tuple(
        Export(
            row.name,
            bool(flags[number] & _GPL_ONLY) if flags else number >= gpl_from,
            crcs[number] if crcs else None,
            row.namespace,
        )
        for number, row in enumerate(rows)
    )
