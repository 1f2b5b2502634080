# SPDX-License-Identifier: MIT
"""arm64's flat Image: its header, and the addresses that it gets only when it is relocated.

A relocatable kernel has its pointers in a table of ELF relocations (`.rela.dyn`, R_AARCH64_RELATIVE), which
`__relocate_kernel` (arch/arm64/kernel/head.S; since 6.10 `relocate_kernel` in arch/arm64/kernel/pi/) applies
at boot; the fields themselves may be zero. With CONFIG_RELR (since 5.15 where the linker can do it) most are
in place, and nothing says where the image is linked to.
"""

from __future__ import annotations

import struct
from typing import Optional

__all__ = ["ALIGNMENT", "is_arm64_image", "relocate"]

ALIGNMENT = 1 << 21
"""The image is linked to a multiple of this: KIMAGE_VADDR, with a TEXT_OFFSET of 0 since 5.8."""

_RELATIVE = struct.pack("<Q", 1027)
_ENTRY = struct.Struct("<QQQ")
_FEWEST = 256
"""Entries of a table; there are tens of thousands without RELR and a few dozen with it."""


def is_arm64_image(data: bytes) -> bool:
    """Whether `data` begins with the header of Documentation/arch/arm64/booting.rst."""
    return data[56:60] == b"ARM\x64"


def relocate(data: bytes) -> Optional[tuple[int, bytes]]:
    """The address that the image is linked to, and its bytes as they are after that; None without a table."""
    start = _find_table(data)
    if start is None:
        return None
    entries = []
    for at in range(start, len(data) - _ENTRY.size, _ENTRY.size):
        entry = _ENTRY.unpack_from(data, at)
        if entry[1] != 1027:
            break
        entries.append(entry)
    base = min(min(place, value) for place, _, value in entries) // ALIGNMENT * ALIGNMENT
    done = bytearray(data)
    for place, _, value in entries:
        if not 0 <= place - base <= len(data) - 8:
            return None
        struct.pack_into("<Q", done, place - base, value)
    return base, bytes(done)


def _find_table(data: bytes) -> Optional[int]:
    """Where entry stands behind entry, `_FEWEST` times at least."""
    at = data.find(_RELATIVE)
    while at >= 8:
        ends = range(at, at + _FEWEST * _ENTRY.size, _ENTRY.size)
        if all(data[end : end + 8] == _RELATIVE for end in ends):
            return at - 8
        at = data.find(_RELATIVE, at + 1)
    return None
