# SPDX-License-Identifier: MIT
"""Relocatable ELF files, written: 64-bit little-endian, in the form that the kernel's module loader takes.

The same input gives the same bytes. Layout: header, the sections as given and the relocations of each, then
`.symtab`, `.strtab`, `.shstrtab`, the section headers. Source: the System V gABI, chapters 4 and 5, and
`elf_validity_check` in the kernel's `kernel/module/main.c` (6.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.elf import (
    ET_REL,
    SHF_INFO_LINK,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_NOTYPE,
)

__all__ = ["ElfWriteError", "NewRelocation", "NewSection", "NewSymbol", "build_relocatable"]

ABSOLUTE = "*ABS*"
"""As `NewSymbol.section`: the value is an address. The word is binutils'; no section has it."""

_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class ElfWriteError(LkmError, ValueError):
    """A file that cannot be: an unknown symbol or section, a name twice, a number that does not fit."""


class NewRelocation(NamedTuple):
    """`type` is the machine's number; `symbol` is a key of the symbols: see `NewSymbol.key`."""

    offset: int
    type: int
    symbol: str
    addend: int = 0


class NewSection(NamedTuple):
    """A section. `size` counts only for NOBITS, which has no data. `link` is the name of another section, for those
    of which the gABI wants one (SHF_LINK_ORDER).

    `rows` are further relocations as the file has them (Elf64_Rela), for those that come from a file by the thousand:
    the number of a symbol is its place among the symbols, from 1 on, which must be given local ones first then.
    """

    name: str
    data: bytes = b""
    type: int = SHT_PROGBITS
    flags: int = 0
    align: int = 1
    relocations: Sequence[NewRelocation] = ()
    entsize: int = 0
    size: int = 0
    link: str = ""
    rows: bytes = b""


class NewSymbol(NamedTuple):
    """A symbol. `section` is a section's name, ABSOLUTE, or empty for an undefined one.

    Relocations go by `id`, or by the name where it is empty: it tells apart symbols without a name, or with
    equal ones.
    """

    name: str
    section: str = ""
    value: int = 0
    size: int = 0
    bind: int = STB_GLOBAL
    type: int = STT_NOTYPE
    visibility: int = 0
    id: str = ""

    @property
    def key(self) -> str:
        """What a relocation calls it."""
        return self.id or self.name


class _Strings:
    """A string table; equal names share one place."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._places = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._places:
            if "\0" in text:
                raise ElfWriteError(f"name {text!r} holds a NUL")
            self._places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._places[text]


class _Header(NamedTuple):
    """A section to be laid out, with what its header says."""

    name: str
    type: int
    flags: int
    data: bytes
    size: int
    link: int
    info: int
    align: int
    entsize: int


def build_relocatable(
    machine: int, sections: Sequence[NewSection], symbols: Sequence[NewSymbol] = (), *, flags: int = 0
) -> bytes:
    """The bytes of an ET_REL file for `machine` (`e_machine`), `flags` being `e_flags`.

    Local symbols come first in the table, as the gABI wants; else order is kept. Raises `ElfWriteError`.
    """
    try:
        return _build(machine, sections, symbols, flags)
    except struct.error as error:
        raise ElfWriteError(f"a number does not fit in its field: {error}") from error


def _build(machine: int, sections: Sequence[NewSection], symbols: Sequence[NewSymbol], flags: int) -> bytes:
    numbers: dict[str, int] = {}
    for number, section in enumerate(sections, 1):
        if section.name in numbers:
            raise ElfWriteError(f"section {section.name} is there twice")
        _check_section(section)
        numbers[section.name] = number
    ordered = sorted(symbols, key=lambda symbol: symbol.bind != STB_LOCAL)
    symtab = 1 + len(sections) + sum(1 for section in sections if section.relocations or section.rows)
    if symtab + 3 >= 0xFF00:
        raise ElfWriteError(f"{symtab + 3} sections need extended numbering, which is not written")
    headers = [_plain(section, numbers) for section in sections]
    headers += _relocation_sections(sections, ordered, numbers, symtab)
    strings = _Strings()
    table = _symbol_table(ordered, numbers, strings)
    local = 1 + sum(1 for symbol in ordered if symbol.bind == STB_LOCAL)
    headers.append(_Header(".symtab", SHT_SYMTAB, 0, table, len(table), symtab + 1, local, 8, _SYMBOL.size))
    headers.append(_string_table(".strtab", bytes(strings.data)))
    return _lay_out(machine, headers, flags)


def _check_section(section: NewSection) -> None:
    if section.align < 1 or section.align & (section.align - 1):
        raise ElfWriteError(f"section {section.name}: alignment {section.align} is not a power of two")
    if section.type == SHT_NOBITS and section.data:
        raise ElfWriteError(f"section {section.name}: NOBITS has no data")


def _plain(section: NewSection, numbers: dict[str, int]) -> _Header:
    if section.link and section.link not in numbers:
        raise ElfWriteError(f"section {section.name}: there is no section {section.link} that it goes with")
    size = section.size if section.type == SHT_NOBITS else len(section.data)
    return _Header(
        section.name,
        section.type,
        section.flags,
        bytes(section.data),
        size,
        numbers.get(section.link, 0),
        0,
        section.align,
        section.entsize,
    )


def _string_table(name: str, data: bytes) -> _Header:
    return _Header(name, SHT_STRTAB, 0, data, len(data), 0, 0, 1, 0)


def _relocation_sections(
    sections: Sequence[NewSection], symbols: Sequence[NewSymbol], numbers: dict[str, int], symtab: int
) -> Iterable[_Header]:
    keys: dict[str, int] = {}
    for index, symbol in enumerate(symbols, 1):
        if symbol.key and keys.setdefault(symbol.key, index) != index:
            raise ElfWriteError(f"symbol {symbol.key} is there twice: give one an id")
    for section in sections:
        if not section.relocations and not section.rows:
            continue
        if len(section.rows) % _RELA.size:
            raise ElfWriteError(f"section {section.name}: relocations of {len(section.rows)} bytes")
        rows = bytearray(section.rows)
        for relocation in section.relocations:
            if relocation.symbol not in keys:
                raise ElfWriteError(
                    f"section {section.name}: relocation to {relocation.symbol}, not a symbol"
                )
            info = keys[relocation.symbol] << 32 | relocation.type
            rows += _RELA.pack(relocation.offset, info, relocation.addend)
        number = numbers[section.name]
        name = f".rela{section.name}"
        yield _Header(name, SHT_RELA, SHF_INFO_LINK, bytes(rows), len(rows), symtab, number, 8, _RELA.size)


def _symbol_table(symbols: Sequence[NewSymbol], numbers: dict[str, int], strings: _Strings) -> bytes:
    table = bytearray(_SYMBOL.size)
    for symbol in symbols:
        if symbol.section in {"", ABSOLUTE}:
            section = SHN_ABS if symbol.section else SHN_UNDEF
        elif symbol.section in numbers:
            section = numbers[symbol.section]
        else:
            raise ElfWriteError(f"symbol {symbol.key}: there is no section {symbol.section}")
        info = symbol.bind << 4 | symbol.type
        name = strings.add(symbol.name)
        table += _SYMBOL.pack(name, info, symbol.visibility, section, symbol.value, symbol.size)
    return bytes(table)


def _lay_out(machine: int, headers: list[_Header], flags: int) -> bytes:
    names = _Strings()
    offsets = [names.add(header.name) for header in headers]
    offsets.append(names.add(".shstrtab"))
    headers = [*headers, _string_table(".shstrtab", bytes(names.data))]
    body = bytearray(_HEADER.size)
    table = bytearray(_SECTION.size)
    for name, header in zip(offsets, headers):
        body += bytes(-len(body) % header.align)
        table += _SECTION.pack(
            name, header.type, header.flags, 0, len(body), header.size,
            header.link, header.info, header.align, header.entsize,
        )  # fmt: skip
        body += header.data
    body += bytes(-len(body) % 8)
    _HEADER.pack_into(
        body, 0, b"\x7fELF", 2, 1, 1, 0, ET_REL, machine, 1, 0, 0, len(body), flags, _HEADER.size, 0, 0,
        _SECTION.size, len(headers) + 1, len(headers),
    )  # fmt: skip
    return bytes(body + table)
