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
from collections.abc import Container, Iterator
from functools import cached_property
from typing import NamedTuple

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_NULL, SHT_SYMTAB

__all__ = [
    "HEADER_SIZE",
    "MAX_STRING",
    "RELA",
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
RELA = struct.Struct("<QIIq")
"""r_offset, then the two halves of r_info: type and symbol, r_addend."""
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

    def has_name(self, index: int, name: str) -> bool:
        """Whether section `index` is called so."""
        strings = self.header.shstrndx
        if strings >= len(self.sections):
            return False
        at = self.sections[strings].offset + self.sections[index].name
        return self.data.startswith(name.encode() + b"\0", at) if at < len(self.data) else False

    def name(self, index: int) -> str:
        """The name of a section; empty where there is none."""
        strings = self.header.shstrndx
        raw = (
            self.string(self.sections[strings], self.sections[index].name)
            if strings < len(self.sections)
            else None
        )
        return (raw or b"").decode("utf-8", "backslashreplace")

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
        return next((i for i in self.find_all(name) if self.sections[i].flags & SHF_ALLOC), 0)

    def find_all(self, name: str) -> tuple[int, ...]:
        """Every section of that name, allocated or not (find_any_unique_sec)."""
        header, data, rows = self.header, self.data, self.sections
        if header.shstrndx >= len(rows):
            return ()
        table, wanted = rows[header.shstrndx].offset, name.encode() + b"\0"
        return tuple(i for i in range(1, len(rows)) if data.startswith(wanted, table + rows[i].name))

    @cached_property
    def symbol_tables(self) -> tuple[int, ...]:
        """The sections of type SHT_SYMTAB."""
        return tuple(i for i, section in enumerate(self.sections) if i and section.type == SHT_SYMTAB)

    def symbols(self, index: int) -> Iterator[RawSymbol]:
        """The symbols in section `index`, the null symbol included; one by one, as all take much memory."""
        return map(RawSymbol._make, _SYMBOL.iter_unpack(self._whole(index, SYMBOL_SIZE)))

    def symbol_rows(self, index: int) -> Iterator[tuple[int, int, int, int, int, int]]:
        """As `symbols`, the fields alone: for who looks at very many."""
        return _SYMBOL.iter_unpack(self._whole(index, SYMBOL_SIZE))

    def _whole(self, index: int, size: int) -> memoryview:
        """A section as far as it has whole entries, not copied."""
        row = self.sections[index]
        raw = memoryview(self.data)[row.offset : row.offset + (0 if row.type == SHT_NOBITS else row.size)]
        return raw[: len(raw) // size * size]

    def symbol(self, index: int, number: int) -> RawSymbol | None:
        """One symbol of the table in section `index`; None for one that it has not."""
        row = self.sections[index]
        at = row.offset + number * SYMBOL_SIZE
        if (number + 1) * SYMBOL_SIZE > row.size or at + SYMBOL_SIZE > len(self.data):
            return None
        return RawSymbol._make(_SYMBOL.unpack_from(self.data, at))

    def symbols_within(self, index: int, sections: Container[int]) -> Iterator[RawSymbol]:
        """The symbols of the table in section `index` that are in one of `sections`."""
        rows = _SYMBOL.iter_unpack(self._whole(index, SYMBOL_SIZE))
        return (RawSymbol._make(row) for row in rows if row[3] in sections)

    def at(self, symbol: RawSymbol | None, size: int) -> bytes:
        """Up to `size` bytes from where a symbol is; none where that is nowhere in the file."""
        if symbol is None or not 0 < symbol.shndx < len(self.sections):
            return b""
        row = self.sections[symbol.shndx]
        if row.type == SHT_NOBITS or symbol.value >= row.size:
            return b""
        return self.data[row.offset + symbol.value : row.offset + min(symbol.value + size, row.size)]

    def odd_symbols(self, index: int) -> Iterator[RawSymbol]:
        """The symbols that are in no section of the file: undefined, common, absolute, out of range."""
        count = self.header.shnum
        for row in _SYMBOL.iter_unpack(self._whole(index, SYMBOL_SIZE)[SYMBOL_SIZE:]):
            if not 0 < row[3] < count:
                yield RawSymbol._make(row)

    def symbol_name(self, index: int, symbol: RawSymbol) -> str:
        """The name of a symbol of the table in section `index`; empty where there is none."""
        return self.text(index, symbol.name)

    def text(self, index: int, offset: int) -> str:
        """What stands at an offset of the strings that belong to the table in section `index`."""
        link = self.sections[index].link
        raw = self.string(self.sections[link], offset) if link < len(self.sections) else None
        return (raw or b"").decode("utf-8", "backslashreplace")

    def modinfo(self, index: int, key: str) -> Iterator[str]:
        """The values of `key` in the `.modinfo` in section `index` (0: none), as get_next_modinfo finds them.

        The last one goes on behind the section if no NUL stops it there.
        """
        if not index:
            return
        row = self.sections[index]
        end = row.offset + row.size  # whatever its type
        mark = key.encode() + b"="
        at = row.offset if self.data.startswith(mark, row.offset) else self._next_entry(mark, row.offset, end)
        while 0 <= at < end:
            stop = self.data.find(b"\0", at)
            value = self.data[at + len(mark) : stop if stop >= 0 else len(self.data)]
            yield value.decode("utf-8", "backslashreplace")
            at = self._next_entry(mark, at, end)

    def _next_entry(self, mark: bytes, at: int, end: int) -> int:
        found = self.data.find(b"\0" + mark, at, end)
        return found + 1 if found >= 0 else -1
