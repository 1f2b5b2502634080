# SPDX-License-Identifier: MIT
"""ELF files, read: sections, symbols and relocations, with every offset and count checked.

Meant for relocatable files (kernel modules and object files); the headers of other types read as well.
Source: the System V gABI, chapters 4 and 5, and `struct elf64_hdr` … in the kernel's
`include/uapi/linux/elf.h`. Names that are not UTF-8 come with backslash escapes, so that they can be printed.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from lkm.errors import ParseError

__all__ = [
    "Elf",
    "ElfError",
    "Machine",
    "Relocation",
    "Section",
    "Symbol",
    "is_elf",
    "machine_name",
    "parse_elf",
]

MAGIC = b"\x7fELF"
ET_REL = 1

SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 0, 1, 2, 3, 4
SHT_NOTE, SHT_NOBITS, SHT_REL, SHT_SYMTAB_SHNDX = 7, 8, 9, 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_INFO_LINK = 0x1, 0x2, 0x4, 0x10, 0x20, 0x40
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
R_X86_64_64, R_AARCH64_ABS64 = 1, 257


_MOST_KNOWN = 4096
"""Names of a table that are kept by their place: all of them would take more memory than the symbols."""


class ElfError(ParseError):
    """Not an ELF file, a truncated one, or one whose tables contradict each other."""


class Machine(enum.IntEnum):
    """`e_machine` of the architectures that Linux has modules for."""

    SPARC = 2
    I386 = 3
    M68K = 4
    MIPS = 8
    PARISC = 15
    PPC = 20
    PPC64 = 21
    S390 = 22
    ARM = 40
    SH = 42
    SPARCV9 = 43
    X86_64 = 62
    XTENSA = 94
    AARCH64 = 183
    MICROBLAZE = 189
    ARC = 195
    RISCV = 243
    CSKY = 252
    LOONGARCH = 258


def machine_name(number: int) -> str:
    """`x86_64` for 62, `aarch64` for 183, `machine 9999` for one that is not known."""
    try:
        return Machine(number).name.lower()
    except ValueError:
        return f"machine {number}"


class _Layout(NamedTuple):
    """The structures of one class and byte order. `symbol` has its fields in file order."""

    bits: int
    byteorder: str
    header: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    rel: struct.Struct
    rela: struct.Struct


def _layout(bits: int, byteorder: str) -> _Layout:
    order = "<" if byteorder == "little" else ">"
    if bits == 64:
        formats = ("16xHHIQQQIHHHHHH", "IIQQQQIIQQ", "IBBHQQ", "QQ", "QQq")
    else:
        formats = ("16xHHIIIIIHHHHHH", "IIIIIIIIII", "IIIBBH", "II", "IIi")
    return _Layout(bits, byteorder, *(struct.Struct(order + text) for text in formats))


# EI_CLASS and EI_DATA → layout; a pair that is not here is refused.
_LAYOUTS = {
    (1, 1): _layout(32, "little"),
    (1, 2): _layout(32, "big"),
    (2, 1): _layout(64, "little"),
    (2, 2): _layout(64, "big"),
}


class Section(NamedTuple):
    """One section header. `data` is a view of the file, not a copy; empty for NOBITS."""

    number: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int
    data: memoryview


class Symbol(NamedTuple):
    """One symbol. `value` is an offset in section `shndx`, or an address for SHN_ABS."""

    name: str
    value: int
    size: int
    bind: int
    type: int
    visibility: int
    shndx: int


class Relocation(NamedTuple):
    """One relocation: at `offset` of its section. `addend` is None where it stands in the data (SHT_REL)."""

    offset: int
    type: int
    symbol: int
    addend: int | None


class _Strings:
    """A string table; what is read from it in all is bounded: a corrupt file can share one long tail."""

    def __init__(self, where: str, data: memoryview, budget: int) -> None:
        if data and data[-1]:
            raise ElfError(f"{where}: string table does not end in a NUL byte")
        self._where, self._data, self._budget = where, bytes(data), budget
        self._known: dict[int, str] = {}

    def get(self, offset: int) -> str:
        text = self._known.get(offset)
        if text is None:
            if offset >= len(self._data):
                if not offset:
                    return ""
                raise ElfError(f"{self._where}: name at {offset}, but the table has {len(self._data)} bytes")
            end = self._data.index(0, offset)
            self._budget -= end - offset
            if self._budget < 0:
                raise ElfError(f"{self._where}: names overlap beyond reason")
            text = self._data[offset:end].decode("utf-8", "backslashreplace")
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[offset] = text
        return text


class Elf:
    """One ELF file. Sections are read at once, symbols and relocations when they are asked for."""

    def __init__(self, data: memoryview, name: str) -> None:
        self.name = name
        self.data = data
        self._layout = _find_layout(data, name)
        self.bits = self._layout.bits
        self.byteorder = self._layout.byteorder
        (
            self.type,
            self.machine,
            _version,
            self.entry,
            _phoff,
            shoff,
            self.flags,
            _ehsize,
            _phentsize,
            _phnum,
            shentsize,
            shnum,
            shstrndx,
        ) = self._layout.header.unpack_from(data)
        self.sections = self._read_sections(shoff, shentsize, shnum, shstrndx)
        self._headers = (shoff, shentsize)

    def flags_place(self, section: Section) -> tuple[int, int]:
        """Where a section's flags stand in the file: offset and bytes (`sh_flags` of its header)."""
        offset, size = self._headers
        return offset + section.number * size + 8, self.bits // 8

    @property
    def machine_name(self) -> str:
        """The architecture as `machine_name` gives it."""
        return machine_name(self.machine)

    @cached_property
    def by_name(self) -> dict[str, Section]:
        """Sections by name; the first one where a name repeats."""
        found: dict[str, Section] = {}
        for section in self.sections:
            found.setdefault(section.name, section)
        return found

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return self.by_name.get(name)

    @cached_property
    def symbol_table(self) -> Section | None:
        """The section header of `.symtab`; None in a stripped file. Two are an error, as for the kernel."""
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if len(tables) > 1:
            raise ElfError(f"{self.name}: expected one symbol table, found {len(tables)}")
        return tables[0] if tables else None

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols, the null symbol at index 0 included; empty for a stripped file."""
        table = self.symbol_table
        if table is None:
            return ()
        where = f"{self.name}: symbols in {table.name!r}"
        layout = self._layout
        _check_table(where, table, layout.symbol.size)
        return tuple(self._read_symbols(where, table))

    def _read_symbols(self, where: str, table: Section) -> Iterator[Symbol]:
        layout = self._layout
        names = self._strings(where, table.link).get
        extended = self._extended_indexes(table)
        for number, row in enumerate(layout.symbol.iter_unpack(table.data)):
            if layout.bits == 64:
                st_name, info, other, shndx, value, size = row
            else:
                st_name, value, size, info, other, shndx = row
            if shndx == SHN_XINDEX:
                shndx = self._extended_index(where, extended, number)
            yield Symbol(names(st_name), value, size, info >> 4, info & 15, other & 3, shndx)

    def relocations(self, section: Section) -> tuple[Relocation, ...]:
        """The relocations that apply to `section`, in file order (of `.rela.X` for the section X)."""
        found: list[Relocation] = []
        for table in self.sections:
            if table.type in {SHT_REL, SHT_RELA} and table.info == section.number:
                found.extend(self._read_relocations(table))
        return tuple(found)

    def _read_relocations(self, table: Section) -> list[Relocation]:
        where = f"{self.name}: relocations in {table.name!r}"
        if self.machine == Machine.MIPS and self.bits == 64:
            raise ElfError(f"{where}: the three-part relocations of 64-bit MIPS are not read")
        layout = self._layout.rela if table.type == SHT_RELA else self._layout.rel
        _check_table(where, table, layout.size)
        shift, mask = (32, 0xFFFFFFFF) if self.bits == 64 else (8, 0xFF)
        count = len(self.symbols)
        made: list[Relocation] = []
        for offset, info, *addend in layout.iter_unpack(table.data):
            symbol = info >> shift
            if symbol >= count and symbol:
                raise ElfError(f"{where}: entry {len(made)} names symbol {symbol} of {count}")
            made.append(Relocation(offset, info & mask, symbol, addend[0] if addend else None))
        return made

    def _read_sections(self, shoff: int, shentsize: int, shnum: int, shstrndx: int) -> tuple[Section, ...]:
        layout, where = self._layout.section, f"{self.name}: section headers"
        if shoff == 0:
            return ()
        if shentsize != layout.size:
            raise ElfError(f"{where}: expected entries of {layout.size} bytes, found {shentsize}")
        self._check_range(where, shoff, layout.size)
        first = layout.unpack_from(self.data, shoff)
        if shnum == 0:  # extended numbering: the count is in the null section's size
            shnum = first[5]
        if shstrndx == SHN_XINDEX:
            shstrndx = first[6]
        self._check_range(where, shoff, shnum * layout.size)
        if shnum == 0:
            return ()
        table = self.data[shoff : shoff + shnum * layout.size]
        if shstrndx >= shnum:
            raise ElfError(f"{where}: names are in section {shstrndx} of {shnum}")
        self._check_contents(layout.iter_unpack(table))
        _, kind, _, _, names_at, names_size = layout.unpack_from(table, shstrndx * layout.size)[:6]
        if kind == SHT_NOBITS:
            raise ElfError(f"{where}: the section with their names is empty")
        names = _Strings(where, self.data[names_at : names_at + names_size], self._budget())
        nothing = self.data[0:0]
        made: list[Section] = []
        for row in layout.iter_unpack(table):
            empty = row[1] in {SHT_NULL, SHT_NOBITS}
            data = nothing if empty else self.data[row[4] : row[4] + row[5]]
            made.append(Section._make((len(made), names.get(row[0]), *row[1:], data)))
        return tuple(made)

    def _check_contents(self, rows: Iterable[tuple[int, ...]]) -> None:
        """Each section's bytes are in the file, and together they are not more than the file can hold."""
        total = 0
        for index, row in enumerate(rows):
            if row[1] not in {SHT_NULL, SHT_NOBITS}:
                self._check_range(f"{self.name}: section {index}", row[4], row[5])
                total += row[5]
        if total > 2 * len(self.data):
            raise ElfError(f"{self.name}: sections overlap: {total} bytes in a file of {len(self.data)}")

    def _check_range(self, where: str, offset: int, size: int) -> None:
        if offset + size > len(self.data):
            raise ElfError(
                f"{where}: expected {size} bytes at {offset}, the file ends at {len(self.data)}",
                remedy="is the file truncated?",
            )

    def _strings(self, where: str, index: int) -> _Strings:
        if index >= len(self.sections) or self.sections[index].type != SHT_STRTAB:
            raise ElfError(f"{where}: expected a string table in section {index}")
        return _Strings(where, self.sections[index].data, self._budget())

    def _budget(self) -> int:
        """How many characters of names one table may give: tail merging shares some, a corrupt file all."""
        return 65536 + len(self.data)

    def _extended_indexes(self, table: Section) -> memoryview | None:
        for section in self.sections:
            if section.type == SHT_SYMTAB_SHNDX and section.link == table.number:
                return section.data
        return None

    def _extended_index(self, where: str, extended: memoryview | None, number: int) -> int:
        if extended is None or len(extended) < 4 * (number + 1):
            raise ElfError(f"{where}: symbol {number} needs an extended section index, which is missing")
        index = struct.unpack_from("<I" if self.byteorder == "little" else ">I", extended, 4 * number)[0]
        if SHN_LORESERVE <= index <= SHN_XINDEX:
            raise ElfError(f"{where}: symbol {number} is in section {index}, a reserved index")
        return int(index)


def _check_table(where: str, table: Section, entry: int) -> None:
    if table.entsize != entry or table.size % entry:
        raise ElfError(
            f"{where}: expected entries of {entry} bytes, found {table.entsize} in {table.size} bytes"
        )


def _find_layout(data: memoryview, name: str) -> _Layout:
    if not is_elf(data):
        raise ElfError(
            f"{name}: expected an ELF file (7f 45 4c 46), found {bytes(data[:4]).hex(' ') or 'nothing'}"
        )
    if len(data) < 16:
        raise ElfError(f"{name}: expected an ELF header of 52 or 64 bytes, found {len(data)}")
    layout = _LAYOUTS.get((data[4], data[5]))
    if layout is None:
        raise ElfError(
            f"{name}: expected ELF class 1 or 2 and byte order 1 or 2, found {data[4]} and {data[5]}"
        )
    if len(data) < layout.header.size:
        raise ElfError(f"{name}: expected an ELF header of {layout.header.size} bytes, found {len(data)}")
    return layout


def is_elf(data: bytes | memoryview) -> bool:
    """Whether the data begins as an ELF file does."""
    return bytes(data[:4]) == MAGIC


def parse_elf(data: bytes | memoryview, *, name: str = "<bytes>") -> Elf:
    """The ELF file in `data`; `name` stands in messages. Raises `ElfError`."""
    return Elf(memoryview(data), name)
