# SPDX-License-Identifier: MIT
"""Links an object with further sections and symbols into one relocatable file, as `ld -r` does by modules' script.

Sections of one name are joined, symbols and relocations follow them. Relocations stay bytes: an object with
debugging information has hundreds of thousands. Source: the System V gABI, chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional, Union

from lkm.errors import LkmError
from lkm.formats.elf import (
    SHF_ALLOC,
    SHF_MERGE,
    SHF_STRINGS,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NULL,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    SHT_SYMTAB_SHNDX,
    STB_LOCAL,
    STT_SECTION,
    Elf,
    ElfError,
    Section,
    Symbol,
)
from lkm.formats.elfwriter import ABSOLUTE, NewSection, NewSymbol
from lkm.modpost.merge import Script

__all__ = ["Linked", "link_object"]

_RELA = struct.Struct("<QQq")
_SHT_GROUP, _SHF_GROUP, _SHF_LINK_ORDER = 17, 0x200, 0x80
_MAX_ALIGN, _MAX_PADDING = 1 << 21, 1 << 22
_MAX_EMPTY = 1 << 26
"""Bytes that NOBITS may take in a section that others make PROGBITS."""


class Linked(NamedTuple):
    """What `build_relocatable` takes: local symbols come first."""

    sections: list[NewSection]
    symbols: list[NewSymbol]


class _Part(NamedTuple):
    """An input section: of the object, or an added one. `at` is where it begins in its output section."""

    source: Union[Section, NewSection]
    at: int


class _Target(NamedTuple):
    """What a symbol of the object is in the new file: its number, and what an addend has to be raised by."""

    number: int
    shift: int


def link_object(
    elf: Elf, sections: Sequence[NewSection], symbols: Sequence[NewSymbol], script: Script
) -> Linked:
    """The object with these sections and symbols. Symbols that it wants and that are among these are theirs.

    Raises ElfError for an object whose tables contradict each other, LkmError for a symbol that both define.
    """
    return _Linker(elf, sections, symbols, script).link()


class _Linker:
    def __init__(
        self, elf: Elf, sections: Sequence[NewSection], symbols: Sequence[NewSymbol], script: Script
    ) -> None:
        self.elf = elf
        self.script = script
        self.added = symbols
        self.outputs: dict[str, list[_Part]] = {}
        self.places: dict[int, tuple[str, int]] = {}
        """Of the object's sections: output section and offset; missing where it is left out."""
        self.added_places: dict[str, tuple[str, int]] = {}
        self._tables: dict[int, list[Section]] = {}
        self._place([*self._kept(), *sections])
        self.symbols: list[NewSymbol] = []
        self.targets: list[Optional[_Target]] = []
        self.numbers: dict[str, int] = {}

    def link(self) -> Linked:
        self._number_symbols()
        return Linked([self._output(name, parts) for name, parts in self.outputs.items()], self.symbols)

    def _kept(self) -> Iterator[Section]:
        """The sections of the object that have a content of their own; tables of relocations are put aside."""
        table = self.elf.symbol_table
        names = {".shstrtab", ".strtab"}
        padding = 0
        for section in self.elf.sections:
            if section.type == SHT_REL:
                raise ElfError(f"{self.elf.name}: {section.name}: relocations of the kind REL")
            if section.type == SHT_RELA:
                self._tables.setdefault(section.info, []).append(section)
            if section.type in (SHT_NULL, SHT_SYMTAB, SHT_RELA, SHT_SYMTAB_SHNDX, _SHT_GROUP):
                continue
            if section.type == SHT_STRTAB and (
                section.name in names or (table and section.number == table.link)
            ):
                continue
            align = section.align or 1
            padding += align
            if align & (align - 1) or align > _MAX_ALIGN or padding > _MAX_PADDING + 4 * len(self.elf.data):
                raise ElfError(f"{self.elf.name}: {section.name}: an alignment of {align} bytes")
            yield section

    def _place(self, inputs: Sequence[Union[Section, NewSection]]) -> None:
        """Which output section each input comes into, and where."""
        wanted: dict[str, list[Union[Section, NewSection]]] = {}
        for source in inputs:
            added = isinstance(source, NewSection)
            output = source.name if added else self.script.output(source.name)
            if output:
                wanted.setdefault(output, []).append(source)
        for output, sources in wanted.items():
            at = 0
            parts = []
            for source in sorted(sources, key=lambda source: self.script.rank(source.name)):
                at += -at % (source.align or 1)
                parts.append(_Part(source, at))
                if isinstance(source, NewSection):
                    self.added_places[source.name] = (output, at)
                else:
                    self.places[source.number] = (output, at)
                at += _size(source)
            self.outputs[output] = parts

    def _number_symbols(self) -> None:
        """The new table: sections, local ones of the object, local ones that are added, global ones likewise."""
        made: list[NewSymbol] = []
        for output in self.outputs:
            self.numbers[f"section {output}"] = len(made) + 1
            made.append(NewSymbol("", output, bind=STB_LOCAL, type=STT_SECTION))
        theirs = {symbol.name for symbol in self.added if symbol.name and symbol.bind != STB_LOCAL}
        taken: dict[int, int] = {}
        for local in (True, False):
            for index, symbol in enumerate(self.elf.symbols):
                if index and (symbol.bind == STB_LOCAL) is local and self._stays(symbol, theirs):
                    made.append(self._moved(symbol))
                    taken[index] = len(made)
                    if not local:
                        self.numbers[symbol.name] = len(made)
            for new in self.added:
                if (new.bind == STB_LOCAL) is local:
                    output, at = self.added_places.get(new.section, (new.section, 0))
                    made.append(new._replace(section=output, value=new.value + at))
                    self.numbers[new.key] = len(made)
        self.symbols = [symbol._replace(id=f"{number}") for number, symbol in enumerate(made, 1)]
        self.targets = [self._target(index, symbol, taken) for index, symbol in enumerate(self.elf.symbols)]

    def _stays(self, symbol: Symbol, theirs: set[str]) -> bool:
        if symbol.name in theirs and symbol.bind != STB_LOCAL:
            if symbol.shndx != SHN_UNDEF:
                raise LkmError(
                    f"{self.elf.name}: it defines {symbol.name} itself", remedy="leave that to lkm modpost"
                )
            return False
        if symbol.type == STT_SECTION:
            return False
        return symbol.shndx in (SHN_UNDEF, SHN_ABS) or symbol.shndx in self.places

    def _moved(self, symbol: Symbol) -> NewSymbol:
        section, value = "", symbol.value
        if symbol.shndx == SHN_ABS:
            section = ABSOLUTE
        elif symbol.shndx != SHN_UNDEF:
            section, at = self.places[symbol.shndx]
            value += at
        return NewSymbol(
            symbol.name, section, value, symbol.size, symbol.bind, symbol.type, symbol.visibility
        )

    def _target(self, index: int, symbol: Symbol, taken: dict[int, int]) -> Optional[_Target]:
        if not index:
            return _Target(0, 0)
        if symbol.type == STT_SECTION and symbol.shndx in self.places:
            output, at = self.places[symbol.shndx]
            return _Target(self.numbers[f"section {output}"], at + symbol.value)
        number = taken.get(index)
        if number is None and symbol.bind != STB_LOCAL and symbol.shndx == SHN_UNDEF:
            number = self.numbers.get(symbol.name)
        return _Target(number, 0) if number is not None else None

    def _output(self, name: str, parts: list[_Part]) -> NewSection:
        empty = all(part.source.type == SHT_NOBITS for part in parts)
        size = parts[-1].at + _size(parts[-1].source)
        align = max(self.script.align(name), *(part.source.align or 1 for part in parts))
        first = parts[0].source
        flags, entsize = _flags(parts)
        rows = bytearray()
        for part in parts:
            rows += self._rows(part)
        return NewSection(
            name,
            b"" if empty else self._content(parts, size),
            SHT_NOBITS if empty else next(p.source.type for p in parts if p.source.type != SHT_NOBITS),
            flags,
            align,
            entsize=entsize,
            size=size if empty else 0,
            link=self._link(first) if flags & _SHF_LINK_ORDER else "",
            rows=bytes(rows),
        )

    def _link(self, source: Union[Section, NewSection]) -> str:
        if isinstance(source, NewSection):
            return source.link
        return self.places.get(source.link, ("", 0))[0]

    def _content(self, parts: list[_Part], size: int) -> bytes:
        made = bytearray()
        for part in parts:
            made += bytes(part.at - len(made))
            if part.source.type == SHT_NOBITS:
                if _size(part.source) > _MAX_EMPTY:
                    raise ElfError(f"{self.elf.name}: {part.source.name} has {part.source.size} bytes")
                made += bytes(part.source.size)
            else:
                made += part.source.data
        return bytes(made) + bytes(size - len(made))

    def _rows(self, part: _Part) -> bytes:
        """The relocations of one part, as the new file has them."""
        made = bytearray()
        source = part.source
        if isinstance(source, NewSection):
            for row in source.relocations:
                number = self.numbers.get(row.symbol)
                if number is None:
                    raise LkmError(
                        f"{self.elf.name}: {row.symbol} is local, or in a section that modules do not have",
                        remedy=f"make {row.symbol} global: take away `static`",
                    )
                made += _RELA.pack(row.offset + part.at, number << 32 | row.type, row.addend)
            return bytes(made)
        for table in self._tables.get(source.number, ()):
            self._add_rows(table, source, part.at, made)
        return bytes(made)

    def _add_rows(self, table: Section, source: Section, base: int, made: bytearray) -> None:
        where = f"{self.elf.name}: {table.name}"
        if table.entsize != _RELA.size or len(table.data) % _RELA.size:
            raise ElfError(f"{where}: expected entries of {_RELA.size} bytes, found {table.entsize}")
        targets = self.targets
        for offset, info, addend in _RELA.iter_unpack(table.data):
            if offset > source.size or info >> 32 >= len(targets):
                raise ElfError(f"{where}: a relocation at {offset} to symbol {info >> 32} is out of bounds")
            target = targets[info >> 32]
            if target is None:
                if source.flags & SHF_ALLOC:
                    name = self.elf.symbols[info >> 32].name or "a section"
                    raise ElfError(f"{where}: it refers to {name}, which is left out of modules")
                continue
            raised = addend + target.shift
            if not -(1 << 63) <= raised < 1 << 63:
                raise ElfError(f"{where}: the addend {addend} is out of bounds")
            made += _RELA.pack(offset + base, target.number << 32 | info & 0xFFFFFFFF, raised)


def _size(source: Union[Section, NewSection]) -> int:
    return source.size if source.type == SHT_NOBITS else len(source.data)


def _flags(parts: list[_Part]) -> tuple[int, int]:
    """Flags and size of entries of what is joined: strings can be merged only if all of it is such strings."""
    flags = 0
    for part in parts:
        flags |= part.source.flags
    kinds = {(part.source.flags & (SHF_MERGE | SHF_STRINGS), part.source.entsize) for part in parts}
    mergeable = len(kinds) == 1 and flags & SHF_MERGE
    if not mergeable:
        flags &= ~(SHF_MERGE | SHF_STRINGS)
    return flags & ~_SHF_GROUP, parts[0].source.entsize if mergeable else 0
