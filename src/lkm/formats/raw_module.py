# SPDX-License-Identifier: MIT
"""A module file as the kernel's loader sees it: header fields and section rows, nothing checked.

`lkm.formats.elf` refuses a file whose tables contradict each other; the kernel has an order in which it
refuses, and faults that it does not look at. Whoever predicts the kernel has to read what is there. So nothing
in here raises: a row that is not in the file is not in `sections`, a name that is not in its table is None.

Source: `struct elf64_hdr`, `elf64_shdr`, `elf64_sym` in the kernel's `include/uapi/linux/elf.h`; `find_sec`,
`find_any_unique_sec` and `get_next_modinfo` in `kernel/module/main.c` (6.1, 7.3). 64-bit little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_NULL, SHT_SYMTAB

__all__ = [
    "HEADER_SIZE",
    "MAX_STRING",
    "SECTION_SIZE",
    "SYMBOL_SIZE",
    "RawHeader",
    "RawModule",
    "RawSection",
    "RawSymbol",
]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
MAX_STRING = 512
"""Bytes of a name that are read: KSYM_NAME_LEN; in a damaged file each could be as long as the file."""
HEADER_SIZE, SECTION_SIZE, SYMBOL_SIZE = _HEADER.size, _SECTION.size, _SYMBOL.size


class RawHeader(NamedTuple):
    """The ELF header, field by field."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class RawSection(NamedTuple):
    """A section header, field by field; `name` is an offset in the table of names."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class RawSymbol(NamedTuple):
    """A symbol, field by field; `name` is an offset in the table of names."""

    name: int
    info: int
    other: int
    shndx: int
    value: int
    size: int


class RawModule:
    """One file, decompressed, without its signature."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def header(self) -> RawHeader:
        """The header, zeros where the file ends before it does."""
        raw = self.data[:HEADER_SIZE]
        return RawHeader._make(_HEADER.unpack(raw + bytes(HEADER_SIZE - len(raw))))

    @cached_property
    def sections(self) -> tuple[RawSection, ...]:
        """The rows of the section table, as many of `e_shnum` as the file has."""
        header = self.header
        count = min(header.shnum, max(0, len(self.data) - header.shoff) // SECTION_SIZE)
        end = header.shoff + count * SECTION_SIZE
        return tuple(map(RawSection._make, _SECTION.iter_unpack(self.data[header.shoff : end])))

    def content(self, section: RawSection) -> bytes:
        """The bytes of a section that lie in the file; none for NOBITS."""
        if section.type in (SHT_NULL, SHT_NOBITS):
            return b""
        return self.data[section.offset : section.offset + section.size]

    def string(self, table: RawSection, offset: int) -> bytes | None:
        """The NUL-terminated string at `offset` of a table, cut after `MAX_STRING`; None where the file has none.

        As the kernel's C does, it reads on behind the end of the table where no NUL stops it.
        """
        start = table.offset + offset
        if not 0 <= start < len(self.data):
            return None
        limit = start + MAX_STRING
        end = self.data.find(b"\0", start, limit)
        if end < 0 and limit > len(self.data):
            return None
        return self.data[start : end if end >= 0 else limit]

    @cached_property
    def names(self) -> tuple[str | None, ...]:
        """The name of each section."""
        if self.header.shstrndx >= len(self.sections):
            return (None,) * len(self.sections)
        table = self.sections[self.header.shstrndx]
        found = (self.string(table, section.name) for section in self.sections)
        return tuple(None if raw is None else raw.decode("utf-8", "backslashreplace") for raw in found)

    def find(self, name: str) -> int:
        """The first allocated section of that name, as find_sec looks; 0 for none."""
        for index in range(1, len(self.sections)):
            if self.names[index] == name and self.sections[index].flags & SHF_ALLOC:
                return index
        return 0

    def find_all(self, name: str) -> tuple[int, ...]:
        """Every section of that name, allocated or not (find_any_unique_sec)."""
        return tuple(index for index in range(1, len(self.sections)) if self.names[index] == name)

    @cached_property
    def symbol_tables(self) -> tuple[int, ...]:
        """The sections of type SHT_SYMTAB."""
        return tuple(i for i, section in enumerate(self.sections) if i and section.type == SHT_SYMTAB)

    def symbols(self, index: int) -> tuple[RawSymbol, ...]:
        """The symbols in section `index`, the null symbol included."""
        raw = self.content(self.sections[index])
        return tuple(map(RawSymbol._make, _SYMBOL.iter_unpack(raw[: len(raw) // SYMBOL_SIZE * SYMBOL_SIZE])))

    def symbols_in(self, index: int, section: int) -> list[RawSymbol]:
        """The symbols of the table in section `index` that are in `section`."""
        raw = self.content(self.sections[index])
        rows = _SYMBOL.iter_unpack(raw[: len(raw) // SYMBOL_SIZE * SYMBOL_SIZE])
        return [RawSymbol._make(row) for row in rows if row[3] == section]

    def odd_symbols(self, index: int) -> Iterator[RawSymbol]:
        """The symbols that are in no section of the file: undefined, common, absolute, out of range."""
        raw = self.content(self.sections[index])
        count = self.header.shnum
        for row in _SYMBOL.iter_unpack(raw[SYMBOL_SIZE : len(raw) // SYMBOL_SIZE * SYMBOL_SIZE]):
            if not 0 < row[3] < count:
                yield RawSymbol._make(row)

    def symbol_name(self, index: int, symbol: RawSymbol) -> str:
        """The name of a symbol of the table in section `index`; empty where there is none."""
        link = self.sections[index].link
        raw = self.string(self.sections[link], symbol.name) if link < len(self.sections) else None
        return (raw or b"").decode("utf-8", "backslashreplace")

    def modinfo(self, index: int) -> Iterator[tuple[str, str]]:
        """The keys and values of the `.modinfo` in section `index` (0: none)."""
        if not index:
            return
        for entry in self.content(self.sections[index]).split(b"\0"):
            key, equals, value = entry.partition(b"=")
            if equals:
                yield key.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")
