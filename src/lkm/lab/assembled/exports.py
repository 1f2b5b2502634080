# SPDX-License-Identifier: MIT
"""The tables that export functions, in the form that the kernel has.

Source: `struct kernel_symbol` with relative references in `kernel/module/internal.h` (6.1; 12 bytes: value, name,
namespace), `include/linux/export-internal.h`; `__kflagstab` instead of tables for GPL-only symbols: 7.x. Tables are
sorted by name, since the kernel looks them up by bisection (`find_exported_symbol_in_section`, from 5.10 on).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Callable, Optional

from lkm.formats.elf import SHF_ALLOC, STB_LOCAL
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol
from lkm.lab.assembled.language import Export

__all__ = ["export_sections"]

ENTRY = 12
NAMES = "__ksymtab_strings"
NAMES_KEY = "the names of exports"
GPL_ONLY = 1


def export_sections(
    exports: Sequence[Export], *, relative: int, flagged: bool, crc: Optional[Callable[[str], int]]
) -> tuple[list[NewSection], list[NewSymbol]]:
    """Sections and local symbols.

    `relative` is the relocation of a 32-bit distance; `crc` gives a symbol's CRC, and is None without MODVERSIONS.
    """
    if not exports:
        return [], []
    names = b"\0"  # the empty namespace
    sections: list[NewSection] = []
    symbols = [NewSymbol("", NAMES, bind=STB_LOCAL, id=NAMES_KEY)]
    tables = {"": exports}
    if not flagged:
        tables = {
            "": [export for export in exports if not export.gpl],
            "_gpl": [export for export in exports if export.gpl],
        }
    for suffix, members in tables.items():
        ordered = sorted(export.function for export in members)
        if ordered:
            sections.append(_table(f"__ksymtab{suffix}", ordered, relative, len(names)))
            names += b"".join(name.encode() + b"\0" for name in ordered)
            symbols += _places("__ksymtab_", f"__ksymtab{suffix}", ordered, ENTRY)
        if ordered and crc:
            words = struct.pack(f"<{len(ordered)}I", *map(crc, ordered))
            sections.append(NewSection(f"__kcrctab{suffix}", words, flags=SHF_ALLOC, align=4))
            symbols += _places("__crc_", f"__kcrctab{suffix}", ordered, 4)
    if flagged:
        gpl = {export.function for export in exports if export.gpl}
        ordered = sorted(export.function for export in exports)
        flags = bytes(GPL_ONLY if name in gpl else 0 for name in ordered)
        sections.append(NewSection("__kflagstab", flags, flags=SHF_ALLOC))
        symbols += _places("__flags_", "__kflagstab", ordered, 1)
    sections.append(NewSection(NAMES, names, flags=SHF_ALLOC))
    return sections, symbols


def _table(section: str, ordered: Sequence[str], relative: int, at: int) -> NewSection:
    """The entries of these functions, whose names stand one after the other from `at` on; the namespace is empty."""
    relocations = []
    for index, name in enumerate(ordered):
        for field, target in enumerate(((name, 0), (NAMES_KEY, at), (NAMES_KEY, 0))):
            relocations.append(NewRelocation(ENTRY * index + 4 * field, relative, *target))
        at += len(name) + 1
    return NewSection(section, bytes(ENTRY * len(ordered)), flags=SHF_ALLOC, align=4, relocations=relocations)


def _places(prefix: str, section: str, ordered: Sequence[str], size: int) -> list[NewSymbol]:
    """A local symbol for each entry of a table."""
    return [
        NewSymbol(prefix + name, section, size * index, size, STB_LOCAL) for index, name in enumerate(ordered)
    ]
