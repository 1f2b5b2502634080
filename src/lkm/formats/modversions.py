# SPDX-License-Identifier: MIT
"""CRCs of the symbols that a module imports: `__versions`, and the extended form of 6.14.

Source: `struct modversion_info` in the kernel's `include/linux/module.h` (6.1), `check_version` in
`kernel/module/version.c`; `modversion_ext_start` (6.14) for long names.
Both forms are of 64-bit little-endian kernels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.names import MAX_NAME, NAME_SIZE

__all__ = [
    "ENTRY_SIZE",
    "ModVersionsError",
    "Version",
    "parse_ext_versions",
    "parse_versions",
    "render_ext_versions",
    "render_versions",
]

_ENTRY = struct.Struct(f"<Q{NAME_SIZE}s")
ENTRY_SIZE = _ENTRY.size


class ModVersionsError(ParseError):
    """A table of CRCs that is cut off, or whose parts differ in length."""


class Version(NamedTuple):
    """An imported symbol, and the CRC of it that the module was built with (32 bits)."""

    name: str
    crc: int


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def parse_versions(data: bytes | memoryview, *, name: str = "<bytes>") -> tuple[Version, ...]:
    """The entries of `__versions`, in file order. Raises `ModVersionsError`."""
    if len(data) % ENTRY_SIZE:
        raise ModVersionsError(
            f"{name}: __versions: expected a multiple of {ENTRY_SIZE} bytes, found {len(data)}"
        )
    return tuple(
        Version(_text(raw.split(b"\0", 1)[0]), crc & 0xFFFFFFFF)
        for crc, raw in _ENTRY.iter_unpack(bytes(data))
    )


def parse_ext_versions(
    crcs: bytes | memoryview, names: bytes | memoryview, *, name: str = "<bytes>"
) -> tuple[Version, ...]:
    """The entries of `__version_ext_crcs` (u32 each) and `__version_ext_names` (NUL-terminated each).

    Raises `ModVersionsError` when the two differ in length.
    """
    if len(crcs) % 4:
        raise ModVersionsError(
            f"{name}: __version_ext_crcs: expected a multiple of 4 bytes, found {len(crcs)}"
        )
    strings = bytes(names).split(b"\0")
    if strings.pop():
        raise ModVersionsError(f"{name}: __version_ext_names: expected a NUL at the end")
    if len(strings) != len(crcs) // 4:
        raise ModVersionsError(
            f"{name}: __version_ext_names: expected {len(crcs) // 4} names, one a CRC, found {len(strings)}"
        )
    numbers = struct.unpack(f"<{len(strings)}I", crcs)
    return tuple(Version(_text(raw), crc) for raw, crc in zip(strings, numbers))


def render_versions(versions: Iterable[Version]) -> bytes:
    """The bytes of a `__versions` section. Raises `ModVersionsError` for a name that does not fit."""
    made = bytearray()
    for version in versions:
        raw = version.name.encode()
        if len(raw) > MAX_NAME or b"\0" in raw:
            raise ModVersionsError(f"__versions: {version.name!r} does not fit in {MAX_NAME} bytes")
        made += _ENTRY.pack(version.crc, raw)
    return bytes(made)


def render_ext_versions(versions: Iterable[Version]) -> tuple[bytes, bytes]:
    """The bytes of `__version_ext_crcs` and `__version_ext_names`. Raises `ModVersionsError` for a NUL in a name."""
    crcs, names = bytearray(), bytearray()
    for version in versions:
        raw = version.name.encode()
        if b"\0" in raw:
            raise ModVersionsError(f"__version_ext_names: {version.name!r} holds a NUL")
        crcs += struct.pack("<I", version.crc)
        names += raw + b"\0"
    return bytes(crcs), bytes(names)
