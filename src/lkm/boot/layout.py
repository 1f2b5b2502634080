# SPDX-License-Identifier: MIT
"""The memory that a module takes: what load_module makes of its sections, computed as the kernel does it.

Source: `layout_sections` and `layout_symtab` (kernel/module/main.c and kallsyms.c; kernel/module.c in 5.10).
Up to 6.3 there are two allocations, core and init, each in page-aligned parts (`debug_align`, with
CONFIG_STRICT_MODULE_RWX); since 6.4 one for each type of memory (`__layout_sections`, enum mod_mem_type). On arm64
the loader adds trampolines (`module_frob_arch_sections`), which are not in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lkm.formats.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_LORESERVE,
    SHN_UNDEF,
    Elf,
    Section,
    Symbol,
)  # fmt: skip

__all__ = [
    "PAGE",
    "PER_CPU",
    "Memory",
    "is_init_section",
    "kept_symbols",
    "plan_memory",
    "total_of",
    "type_of",
]

PAGE = 4096
"""Bytes, on x86_64 and by default on arm64, which has also 16 and 64 KiB."""
SYMBOL = 24
"""Bytes of a symbol: Elf64_Sym."""
KALLSYMS = 32
"""Bytes of `struct mod_kallsyms`, which is in the init memory."""

NOT_LOADED = frozenset({".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names"})
"""`rewrite_section_headers`: read in the file's copy, not kept."""
PER_CPU = ".data..percpu"
RO_AFTER_INIT = frozenset({".data..ro_after_init", "__jump_table"})
"""Written by init at last; since 6.16 `.static_call_sites` as well (`module_mark_ro_after_init`)."""

TYPES = ("text", "rodata", "ro_after_init", "data", "init_text", "init_rodata", "init_data")
"""As enum mod_mem_type has them (6.4)."""


class Memory(NamedTuple):
    """One type of memory: the bytes used, the bytes that it takes in whole pages, and the sections in it."""

    type: str
    used: int
    size: int
    sections: tuple[str, ...]


def is_init_section(name: str) -> bool:
    """Whether its memory is freed once init has returned (`module_init_section`)."""
    return name.startswith(".init")


def type_of(section: Section, release: tuple[int, int]) -> str:
    """The type of memory that a section goes to on a kernel `release`; "" for none."""
    if section.name in NOT_LOADED or section.name == PER_CPU or not section.flags & SHF_ALLOC:
        return ""
    init = "init_" if is_init_section(section.name) else ""
    if section.flags & SHF_EXECINSTR:
        return f"{init}text"
    if not section.flags & SHF_WRITE:
        return f"{init}rodata"
    late = section.name in RO_AFTER_INIT or (release >= (6, 16) and section.name == ".static_call_sites")
    if late and not init:
        return "ro_after_init"
    return f"{init}data"


class _Symbols(NamedTuple):
    """What decides about the memory that symbols take: CONFIG_KALLSYMS_ALL, and whether it is a live patch."""

    kallsyms_all: bool
    livepatch: bool


def plan_memory(
    elf: Elf,
    release: tuple[int, int],
    *,
    kallsyms_all: bool = True,
    page: int = PAGE,
    livepatch: bool = False,
) -> tuple[Memory, ...]:
    """The memory of each type for a kernel `release`; `kallsyms_all` is its CONFIG_KALLSYMS_ALL, `page` the bytes of
    its pages. A `livepatch` keeps all symbols (layout_symtab).

    Up to 6.3 a type begins on a page of its own inside its allocation, so that the sizes add up all the same.
    """
    sizes = dict.fromkeys(TYPES, 0)
    names: dict[str, list[str]] = {kind: [] for kind in TYPES}
    for section in elf.sections:
        kind = type_of(section, release)
        if kind:
            sizes[kind] = _aligned(sizes[kind], section.align) + section.size
            names[kind].append(section.name)
    own_page = page if release < (6, 4) else 1  # where symbols begin
    symbols = _Symbols(kallsyms_all, livepatch)
    sizes["data"] = _with_core_symbols(elf, _aligned(sizes["data"], own_page), symbols)
    sizes["init_data"] = _with_all_symbols(elf, _aligned(sizes["init_data"], own_page))
    return tuple(
        Memory(kind, sizes[kind], _aligned(sizes[kind], page), tuple(names[kind]))
        for kind in TYPES
        if sizes[kind]
    )


def kept_symbols(elf: Elf, *, kallsyms_all: bool = True, livepatch: bool = False) -> list[Symbol]:
    """The symbols that stay for /proc/kallsyms (`is_core_symbol`; of a live patch all), without the null symbol."""
    return [
        symbol
        for symbol in elf.symbols[1:]
        if livepatch or _is_core(elf.sections, symbol, kallsyms_all=kallsyms_all)
    ]


def _is_core(sections: Sequence[Section], symbol: Symbol, *, kallsyms_all: bool) -> bool:
    if symbol.shndx == SHN_UNDEF or symbol.shndx >= SHN_LORESERVE or not symbol.name:
        return False
    section = sections[symbol.shndx]
    if section.name == PER_CPU:
        return kallsyms_all
    if not type_of(section, (0, 0)) or is_init_section(section.name):
        return False
    return kallsyms_all or bool(section.flags & SHF_EXECINSTR)


def _with_core_symbols(elf: Elf, size: int, symbols: _Symbols) -> int:
    kept = kept_symbols(elf, kallsyms_all=symbols.kallsyms_all, livepatch=symbols.livepatch)
    count = len(kept) + 1
    names = 1 + sum(len(symbol.name.encode("utf-8", "backslashreplace")) + 1 for symbol in kept)
    return _aligned(size, _symbol_alignment(elf)) + count * SYMBOL + names + count


def _with_all_symbols(elf: Elf, size: int) -> int:
    table = elf.symbol_table
    if table is None:
        return size
    strings = elf.sections[table.link]
    size = _aligned(size, table.align) + table.size
    size = _aligned(size, strings.align) + strings.size
    return _aligned(size, 8) + KALLSYMS + table.size // SYMBOL


def _symbol_alignment(elf: Elf) -> int:
    return elf.symbol_table.align if elf.symbol_table else 1


def _aligned(size: int, to: int) -> int:
    to = max(1, to)
    return (size + to - 1) // to * to


def total_of(memory: Iterable[Memory], *, init: bool) -> int:
    """Bytes in whole pages: of what stays, or of what is freed after init."""
    return sum(each.size for each in memory if each.type.startswith("init_") == init)
