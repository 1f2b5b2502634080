# SPDX-License-Identifier: MIT
"""The tables that export symbols, made in the form that the kernel has.

Source: `struct kernel_symbol` with relative references in `kernel/module/internal.h` (6.1; 12 bytes: value, name,
namespace), `include/linux/export-internal.h`; `__kflagstab` instead of tables for GPL-only symbols: 7.x. Tables are
sorted by name, since the kernel looks them up by bisection (`find_exported_symbol_in_section`, from 5.10 on).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lkm.formats.elf import SHF_ALLOC, SHF_MERGE, SHF_STRINGS, STB_LOCAL
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol
from lkm.formats.exports import Export

__all__ = ["crc_sections", "export_sections"]

ENTRY = 12
NAMES = "__ksymtab_strings"
NAMES_KEY = "the names of exports"
GPL_ONLY = 1

Tables = tuple[list[NewSection], list[NewSymbol]]


def export_sections(exports: Sequence[Export], *, relative: int, flagged: bool) -> Tables:
    """Sections and local symbols, the CRCs of those that have one included; nothing without exports.

    `relative` is the relocation of a 32-bit distance; `flagged`: one table with flags for all (7.x).
    """
    if not exports:
        return [], []
    names = bytearray()
    places: dict[str, tuple[int, int]] = {}
    for export in exports:
        at = len(names)
        names += export.name.encode() + b"\0"
        places[export.name] = (at, len(names))
        names += export.namespace.encode() + b"\0"
    sections: list[NewSection] = []
    symbols = [NewSymbol("", NAMES, bind=STB_LOCAL, id=NAMES_KEY)]
    for name, (text, space) in places.items():
        symbols.append(NewSymbol(f"__kstrtab_{name}", NAMES, text, bind=STB_LOCAL))
        symbols.append(NewSymbol(f"__kstrtabns_{name}", NAMES, space, bind=STB_LOCAL))
    for suffix, members in _tables(exports, flagged=flagged).items():
        sections.append(_table(f"__ksymtab{suffix}", members, relative, places))
        symbols += _places("__ksymtab_", f"__ksymtab{suffix}", members, ENTRY)
    crcs, marks = crc_sections(exports, flagged=flagged)
    sections += crcs
    symbols += marks
    if flagged:
        ordered = _sorted(exports)
        flags = bytes(GPL_ONLY if export.gpl else 0 for export in ordered)
        sections.append(NewSection("__kflagstab", flags, flags=SHF_ALLOC))
        symbols += _places("__flags_", "__kflagstab", ordered, 1)
    sections.append(NewSection(NAMES, bytes(names), flags=SHF_ALLOC | SHF_MERGE | SHF_STRINGS, entsize=1))
    return sections, symbols


def crc_sections(exports: Sequence[Export], *, flagged: bool) -> Tables:
    """The tables of CRCs; none for exports without any. Where one has a CRC, 0 stands for those that have none."""
    sections: list[NewSection] = []
    symbols: list[NewSymbol] = []
    if any(export.crc is not None for export in exports):
        for suffix, members in _tables(exports, flagged=flagged).items():
            words = struct.pack(f"<{len(members)}I", *(export.crc or 0 for export in members))
            sections.append(NewSection(f"__kcrctab{suffix}", words, flags=SHF_ALLOC, align=4))
            symbols += _places("__crc_", f"__kcrctab{suffix}", members, 4)
    return sections, symbols


def _sorted(exports: Sequence[Export]) -> list[Export]:
    return sorted(exports, key=lambda export: export.name.encode())


def _tables(exports: Sequence[Export], *, flagged: bool) -> dict[str, list[Export]]:
    """By the suffix of the table, sorted; empty tables are left out."""
    tables = {"": [export for export in exports if flagged or not export.gpl]}
    tables["_gpl"] = [export for export in exports if export.gpl and not flagged]
    return {suffix: _sorted(members) for suffix, members in tables.items() if members}


def _table(
    section: str, ordered: Sequence[Export], relative: int, places: dict[str, tuple[int, int]]
) -> NewSection:
    """An entry has the distances to the value, to the name and to the namespace."""
    relocations = []
    for index, export in enumerate(ordered):
        text, space = places[export.name]
        for field, target in enumerate(((export.name, 0), (NAMES_KEY, text), (NAMES_KEY, space))):
            relocations.append(NewRelocation(ENTRY * index + 4 * field, relative, *target))
    return NewSection(section, bytes(ENTRY * len(ordered)), flags=SHF_ALLOC, align=4, relocations=relocations)


def _places(prefix: str, section: str, ordered: Sequence[Export], size: int) -> list[NewSymbol]:
    """A local symbol for each entry of a table."""
    return [
        NewSymbol(prefix + export.name, section, size * index, size, STB_LOCAL)
        for index, export in enumerate(ordered)
    ]
