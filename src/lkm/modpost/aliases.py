# SPDX-License-Identifier: MIT
"""Device tables of an object → the aliases by which the module is found for a device.

    __mod_pci__ids_device_table                    until 6.13
    __mod_device_table__kmod_demo__pci__ids        since 6.14

Source: `handle_moddevtable` in the kernel's scripts/mod/file2alias.c (5.10 to 7.3), MODULE_DEVICE_TABLE in
include/linux/module.h.
"""

from __future__ import annotations

import re

from lkm.formats.elf import STT_OBJECT, Elf, Symbol
from lkm.modpost.device_ids import BUSES, Bus
from lkm.modpost.problems import Kind, Problem, error, warning

__all__ = ["find_aliases"]

_OLD = re.compile(r"__mod_(\w+?)__(\w+)_device_table")
_NEW = re.compile(r"__mod_device_table__(?:kmod_\w+?__)?([a-z0-9_]+?)__(\w+)")


def find_aliases(elf: Elf, version: tuple[int, int]) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """The aliases of all tables, each once, and what is wrong with tables. `version` is the kernel's: (6, 1)."""
    found: dict[str, None] = {}
    problems: list[Problem] = []
    for symbol in elf.symbols:
        match = _NEW.fullmatch(symbol.name) or _OLD.fullmatch(symbol.name)
        if match and symbol.type == STT_OBJECT and 0 < symbol.shndx < len(elf.sections):
            bus = BUSES.get(match[1])
            if bus is None:
                problems.append(_unknown(match[1], symbol))
            else:
                aliases, wrong = _read_table(elf, symbol, match[1], bus, bus.entry_size(version))
                found.update(dict.fromkeys(aliases))
                problems += wrong
    return tuple(found), tuple(problems)


def _unknown(kind: str, symbol: Symbol) -> Problem:
    return warning(
        Kind.DEVICE_TABLE, f"no aliases are made of its device table for {kind} (only of {', '.join(BUSES)})",
        "load the module by name where such a device is, or state MODULE_ALIAS()", symbol.name,
    )  # fmt: skip


def _read_table(elf: Elf, symbol: Symbol, kind: str, bus: Bus, size: int) -> tuple[list[str], list[Problem]]:
    table = bytes(elf.sections[symbol.shndx].data[symbol.value : symbol.value + symbol.size])
    if not table:  # all zeros, and kept in no file
        return [], []
    if len(table) == symbol.size and len(table) % size == 0 and not any(table[-size:]):
        entries = (table[at : at + size] for at in range(0, len(table) - size, size))
        return [alias for entry in entries for alias in bus.aliases(entry)], []
    words = f"its device table for {kind} ({symbol.name}) has {symbol.size} bytes and does not end in an empty entry"
    return [], [error(Kind.DEVICE_TABLE, f"{words} of {size}", "end the table with { }", symbol.name)]
