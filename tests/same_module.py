# SPDX-License-Identifier: MIT
"""Two module files compared by what is in their sections: what kbuild made, and what lkm made of the same object.

Not compared: `.note.gnu.build-id`, a checksum of the file; `srcversion`, one of the sources; `.comment` and
`.debug_…`, which in kbuild's file tell of the generated C file as well, so that ours have to be their beginning;
names of places in the generated file among local symbols. Order does not count in `.modinfo`, `depends` and
`__versions`.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from lkm.formats.elf import SHN_ABS, SHN_UNDEF, SHT_NOBITS, STB_LOCAL, Elf, Relocation, Section, parse_elf
from lkm.formats.modinfo import parse_modinfo
from lkm.formats.modversions import parse_versions

__all__ = ["differences"]

TABLES = {".symtab", ".strtab", ".shstrtab", ".note.gnu.build-id"}
LEFT_OUT_FLAGS = 0x40 | 0x200
"""SHF_INFO_LINK and SHF_GROUP, which the linker sets or not."""


class Content(NamedTuple):
    type: int
    flags: int
    align: int
    size: int
    data: object
    relocations: object


def differences(ours: bytes, theirs: bytes) -> list[str]:
    """In what the two differ, in words; empty if in nothing that counts."""
    first, second = (contents(parse_elf(data)) for data in (ours, theirs))
    found = [f"{name}: only in ours" for name in sorted(set(first) - set(second))]
    found += [f"{name}: only in kbuild's" for name in sorted(set(second) - set(first)) if not is_debug(name)]
    for name in set(first) & set(second):
        for field, a, b in zip(Content._fields, first[name], second[name]):
            if is_debug(name) and field in {"size", "relocations", "data"}:
                same = field != "data" or (isinstance(a, bytes) and isinstance(b, bytes) and b.startswith(a))
            else:
                same = a == b
            if not same:
                found.append(f"{name}: {field}: {shown(a)} and {shown(b)}")
    return found + symbol_differences(parse_elf(ours), parse_elf(theirs))


def is_debug(name: str) -> bool:
    return name.startswith(".debug_") or name == ".comment"


def shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:200]
    return str(value)[:600]


def contents(elf: Elf) -> dict[str, Content]:
    """By name: every section but tables of the file itself."""
    found = {}
    for section in elf.sections[1:]:
        if section.name in TABLES or section.name.startswith(".rela"):
            continue
        assert section.name not in found, f"{section.name} is there twice"
        found[section.name] = Content(
            section.type,
            section.flags & ~LEFT_OUT_FLAGS,
            section.align,
            0 if section.name == ".modinfo" else section.size,
            data_of(section),
            Counter(target_of(elf, row) for row in elf.relocations(section)) if section.data else None,
        )
    return found


def data_of(section: Section) -> object:
    if section.type == SHT_NOBITS:
        return section.size
    if section.name == ".modinfo":
        items = [item for item in parse_modinfo(section.data).items if item[0] != "srcversion"]
        return Counter((k, ",".join(sorted(v.split(",")))) if k == "depends" else (k, v) for k, v in items)
    if section.name == "__versions":
        return Counter(parse_versions(section.data))
    return bytes(section.data)


def target_of(elf: Elf, row: Relocation) -> tuple[object, ...]:
    """Where, of what kind, and to what: a place in a section for local symbols, else a name."""
    symbol = elf.symbols[row.symbol]
    addend = row.addend or 0
    if symbol.shndx in {SHN_UNDEF, SHN_ABS} or symbol.bind != STB_LOCAL:
        return row.offset, row.type, symbol.name, addend
    return row.offset, row.type, elf.sections[symbol.shndx].name, symbol.value + addend


def symbol_differences(ours: Elf, theirs: Elf) -> list[str]:
    """Global symbols have to be the same; of the object's local ones none may be missing."""
    found = []
    first, second = (symbols_of(elf, local=False) for elf in (ours, theirs))
    found += [f"symbol {row}: not in kbuild's" for row in sorted((first - second).elements())]
    found += [f"symbol {row}: not in ours" for row in sorted((second - first).elements())]
    extra = symbols_of(ours, local=True) - symbols_of(theirs, local=True)
    return found + [f"local symbol {row}: not in kbuild's" for row in sorted(extra.elements())]


def symbols_of(elf: Elf, *, local: bool) -> Counter[tuple[str, int, int, str, int]]:
    rows: Counter[tuple[str, int, int, str, int]] = Counter()
    for symbol in elf.symbols[1:]:
        if (symbol.bind == STB_LOCAL) is local and symbol.name:
            places = {SHN_UNDEF: "undefined", SHN_ABS: "absolute"}
            place = places.get(symbol.shndx) or elf.sections[symbol.shndx].name
            exported = symbol.name.startswith(("__ksymtab_", "__crc_", "__flags_"))
            value = 0 if local and not exported and place == ".modinfo" else symbol.value
            rows[symbol.name, symbol.bind, symbol.type, place, value] += 1
    return rows
