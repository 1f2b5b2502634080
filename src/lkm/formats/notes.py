# SPDX-License-Identifier: MIT
"""ELF notes, as in a section `.note.*` and in the files of `/sys/module/X/notes/`.

Source: the System V gABI, "Note Section"; `struct elf64_note` in the kernel's `include/uapi/linux/elf.h`.
All words are 32-bit little-endian, names and descriptors padded to 4 bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from lkm.errors import ParseError

__all__ = ["NT_GNU_BUILD_ID", "Note", "NoteError", "find_build_id", "parse_notes"]

NT_GNU_BUILD_ID = 3
_HEADER = struct.Struct("<III")


class NoteError(ParseError):
    """A note that is cut off."""


class Note(NamedTuple):
    """One note: its owner (`GNU`, `Linux`, `Xen`), a type that the owner defines, and its descriptor."""

    owner: str
    type: int
    descriptor: bytes


def parse_notes(data: bytes | memoryview, *, name: str = "<bytes>") -> tuple[Note, ...]:
    """The notes in file order. Raises `NoteError` for one that ends beyond the data."""
    view = memoryview(data)
    found: list[Note] = []
    at = 0
    while at < len(view):
        if len(view) - at < _HEADER.size:
            if not any(view[at:]):
                break  # padding at the end
            raise NoteError(f"{name}: note at {at}: expected {_HEADER.size} bytes, found {len(view) - at}")
        name_size, size, kind = _HEADER.unpack_from(view, at)
        name_at = at + _HEADER.size
        data_at = name_at + (name_size + 3 & ~3)
        if data_at + size > len(view):
            raise NoteError(
                f"{name}: note at {at}: expected {data_at + size - at} bytes, found {len(view) - at}"
            )
        owner = bytes(view[name_at : name_at + name_size]).rstrip(b"\0").decode("utf-8", "backslashreplace")
        found.append(Note(owner, kind, bytes(view[data_at : data_at + size])))
        at = data_at + (size + 3 & ~3)
    return tuple(found)


def find_build_id(notes: tuple[Note, ...]) -> bytes | None:
    """The build-id (20 bytes with the usual SHA-1), or None where no note has one."""
    for note in notes:
        if note.owner == "GNU" and note.type == NT_GNU_BUILD_ID:
            return note.descriptor
    return None
