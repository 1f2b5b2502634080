# SPDX-License-Identifier: MIT
"""Where a section of an ELF file is, with as few reads as can be: for tools that look at thousands of files.

`lkm.formats.elf` reads a file as a whole, and thoroughly; here three reads lead to one section: the header, what
stands at the end (section headers and their names, where ld puts them), the section. Only what is on the way is
checked, as kmod does: a section header that is wrong is passed over, unless it is that of the names.
Source: the System V gABI, chapter 4.
"""

from __future__ import annotations

import errno
import struct

from lkm.errors import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

__all__ = ["SectionError", "find_section"]


class SectionError(ParseError):
    """Not an ELF file (`errno` ENOEXEC), or one that is cut off or contradicts itself (EINVAL)."""

    def __init__(self, message: str, number: int = errno.EINVAL, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.errno = number


_HEAD = 64
_NAMES_BEFORE = 1024
"""How far before the section headers their names are expected to begin: a module's take 300 to 900 bytes."""


class _Layout:
    """Of one class and byte order: e_shoff … e_shstrndx, and sh_name, sh_offset, sh_size of a section header."""

    def __init__(self, order: str, *, wide: bool) -> None:
        self.header = struct.Struct(order + ("40xQ10xHHH" if wide else "32xI10xHHH"))
        self.section = struct.Struct(order + ("I20xQQ24x" if wide else "I12xII16x"))


_LAYOUTS = {(c, d): _Layout("<>"[d - 1], wide=c == 2) for c in (1, 2) for d in (1, 2)}


def find_section(read: Read, size: int, name: bytes, where: str) -> tuple[int, int] | None:
    """Offset and size of the first section called `name`, or None.

    read   gives the bytes at (offset, length), fewer at the end of the file
    size   of the file
    where  its name, for messages

    Raises SectionError.
    """
    head = read(0, _HEAD)
    layout = _layout_of(head, size, where)
    at, entry, count, names_in = layout.header.unpack_from(head)
    if entry != layout.section.size:
        raise SectionError(f"{where}: section headers of {entry} bytes, not {layout.section.size}")
    length = count * entry
    if at + length > size:
        raise SectionError(
            f"{where}: section headers end at {at + length}, the file at {size}", remedy="is it cut off?"
        )
    start = max(at - _NAMES_BEFORE, 0)
    block = read(start, at + length - start)
    rows = list(layout.section.iter_unpack(memoryview(block)[at - start : at - start + length]))
    if names_in >= count:
        raise SectionError(f"{where}: the names of its sections are in section {names_in} of {count}")
    _, names_at, names_size = rows[names_in]
    if not names_size or names_at + names_size > size:
        raise SectionError(f"{where}: the names of its sections are not in the file", remedy="is it cut off?")
    if start <= names_at and names_at + names_size <= at:
        names = block[names_at - start : names_at - start + names_size]
    else:
        names = read(names_at, names_size)
    if names[-1:] != b"\0":
        raise SectionError(f"{where}: the names of its sections do not end in a NUL byte")
    wanted = _places(names, name + b"\0")
    for offset_of_name, offset, length in rows[1:]:
        if offset_of_name in wanted and offset + length <= size:
            return offset, length
    return None


def _layout_of(head: bytes, size: int, where: str) -> _Layout:
    if head[:4] != b"\x7fELF" or size <= 16:
        raise SectionError(f"{where}: this is no ELF file", errno.ENOEXEC)
    layout = _LAYOUTS.get((head[4], head[5]))
    if layout is None:
        raise SectionError(f"{where}: ELF class {head[4]} and byte order {head[5]} are not known")
    if size <= layout.header.size:
        raise SectionError(f"{where}: the file ends in its header", remedy="is it cut off?")
    return layout


def _places(names: bytes, name: bytes) -> set[int]:
    """Where `name` stands: more than once if another name ends in it, as ld shares tails."""
    found = set()
    at = names.find(name)
    while at >= 0:
        found.add(at)
        at = names.find(name, at + 1)
    return found
