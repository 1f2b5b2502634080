# SPDX-License-Identifier: MIT
"""What a module exports, from its symbols `__ksymtab_X`, `__crc_X`, `__kstrtabns_X` and `__flags_X`.

Source: `include/linux/export-internal.h` and `scripts/mod/modpost.c` (6.1). Where the CRC is has changed:
an absolute symbol `__crc_X` until 5.18, a word in `__kcrctab` or `__kcrctab_gpl` since 5.19.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from lkm.formats.elf import SHN_ABS, SHN_UNDEF, Elf, Section, Symbol
from lkm.formats.raw_module import RawModule, RawSymbol

__all__ = ["Export", "parse_exports", "parse_raw_exports"]

_KSYMTAB, _CRC, _NAMESPACE, _FLAGS = "__ksymtab_", "__crc_", "__kstrtabns_", "__flags_"
_TABLES = ("__ksymtab", "__ksymtab_gpl")
_OTHERS = ("__kcrctab", "__kcrctab_gpl", "__kflagstab", "__ksymtab_strings")
_GPL_ONLY = 1  # bit of a byte in __kflagstab, which replaces the _gpl tables in 7.x
_NAMESPACE_MAX = 512  # bytes; a longer one is corrupt, and reading on for each export would take for ever
_WORD = struct.Struct("<I")


class Export(NamedTuple):
    """An exported symbol. `crc` is None without MODVERSIONS, `namespace` empty for none."""

    name: str
    gpl: bool
    crc: int | None
    namespace: str


def parse_exports(elf: Elf) -> tuple[Export, ...]:
    """The exports in the order of the symbol table; empty for a stripped file."""
    tables: dict[str, str] = {}
    others: dict[str, Symbol] = {}
    for symbol in elf.symbols:
        if symbol.name.startswith(_KSYMTAB):
            section = _section(elf, symbol)
            # "__ksymtab" and "__ksymtab_gpl"; before linking "___ksymtab+X" and "___ksymtab_gpl+X"
            table = section.name.split("+", 1)[0] if section else ""
            if table in {"__ksymtab", "__ksymtab_gpl", "___ksymtab", "___ksymtab_gpl"}:
                tables.setdefault(symbol.name[len(_KSYMTAB) :], table)
        elif symbol.name.startswith((_CRC, _NAMESPACE, _FLAGS)) and symbol.shndx != SHN_UNDEF:
            others[symbol.name] = symbol
    return tuple(
        Export(
            name=name,
            gpl=table.endswith("_gpl") or bool(_flags(elf, others.get(_FLAGS + name)) & _GPL_ONLY),
            crc=_crc(elf, others.get(_CRC + name)),
            namespace=_namespace(elf, others.get(_NAMESPACE + name)),
        )
        for name, table in tables.items()
    )


def _section(elf: Elf, symbol: Symbol) -> Section | None:
    return elf.sections[symbol.shndx] if 0 < symbol.shndx < len(elf.sections) else None


def _bytes_at(elf: Elf, symbol: Symbol | None) -> memoryview:
    """What stands where the symbol points; empty where that is nowhere in the file."""
    section = _section(elf, symbol) if symbol else None
    return section.data[symbol.value :] if section and symbol else memoryview(b"")


def _flags(elf: Elf, symbol: Symbol | None) -> int:
    data = _bytes_at(elf, symbol)
    return data[0] if data else 0


def _crc(elf: Elf, symbol: Symbol | None) -> int | None:
    if symbol is None:
        return None
    if symbol.shndx == SHN_ABS:
        return symbol.value & 0xFFFFFFFF
    data = _bytes_at(elf, symbol)
    return int(_WORD.unpack_from(data)[0]) if len(data) >= _WORD.size else None


def _namespace(elf: Elf, symbol: Symbol | None) -> str:
    raw = bytes(_bytes_at(elf, symbol)[:_NAMESPACE_MAX])
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def parse_raw_exports(image: RawModule) -> tuple[Export, ...]:
    """As `parse_exports` for a module that is linked; reads nothing but the symbols that count."""
    tables = {index: name for name in _TABLES if (index := image.find(name))}
    if not tables or not image.symbol_tables:
        return ()
    table = image.symbol_tables[0]
    wanted = {*tables, *filter(None, map(image.find, _OTHERS)), SHN_ABS}
    found: dict[str, RawSymbol] = {}
    for symbol in image.symbols_within(table, wanted):
        found.setdefault(image.symbol_name(table, symbol), symbol)
    return tuple(
        Export(
            name=(own := name[len(_KSYMTAB) :]),
            gpl=tables[symbol.shndx].endswith("_gpl") or _is_flagged(image.at(found.get(_FLAGS + own), 1)),
            crc=_raw_crc(image, found.get(_CRC + own)),
            namespace=image.at(found.get(_NAMESPACE + own), _NAMESPACE_MAX)
            .split(b"\0", 1)[0]
            .decode("utf-8", "backslashreplace"),
        )
        for name, symbol in found.items()
        if symbol.shndx in tables and name.startswith(_KSYMTAB)
    )


def _raw_crc(image: RawModule, symbol: RawSymbol | None) -> int | None:
    if symbol is not None and symbol.shndx == SHN_ABS:
        return symbol.value & 0xFFFFFFFF
    data = image.at(symbol, _WORD.size)
    return int(_WORD.unpack(data)[0]) if len(data) == _WORD.size else None


def _is_flagged(flags: bytes) -> bool:
    return bool(flags and flags[0] & _GPL_ONLY)
