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

__all__ = ["Memory", "is_init_section", "kept_symbols", "plan_memory", "total_of", "type_of"]

PAGE = 4096
SYMBOL = 24
"""Bytes of a symbol: Elf64_Sym."""
KALLSYMS = 32
"""Bytes of `struct mod_kallsyms`, which is in the init memory."""

NOT_LOADED = frozenset({".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names"})
"""`rewrite_section_headers`: read in the file's copy, not kept."""
PER_CPU = ".data..percpu"
RO_AFTER_INIT = frozenset({".data..ro_after_init", "__jump_table"})
"""Written by init at last; since 6.14 `.static_call_sites` as well (`module_mark_ro_after_init`)."""

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
    late = section.name in RO_AFTER_INIT or (release >= (6, 14) and section.name == ".static_call_sites")
    if late and not init:
        return "ro_after_init"
    return f"{init}data"


def plan_memory(elf: Elf, release: tuple[int, int], *, kallsyms_all: bool = True) -> tuple[Memory, ...]:
    """The memory of each type for a kernel `release`; `kallsyms_all` is its CONFIG_KALLSYMS_ALL.

    Up to 6.3 a type begins on a page of its own inside its allocation, so that the sizes add up all the same.
    """
    sizes = dict.fromkeys(TYPES, 0)
    names: dict[str, list[str]] = {kind: [] for kind in TYPES}
    for section in elf.sections:
        kind = type_of(section, release)
        if kind:
            sizes[kind] = _aligned(sizes[kind], section.align) + section.size
            names[kind].append(section.name)
    if release < (6, 4):
        return _two_allocations(elf, sizes, names, kallsyms_all=kallsyms_all)
    sizes["data"] = _with_core_symbols(elf, sizes["data"], kallsyms_all=kallsyms_all)
    sizes["init_data"] = _with_all_symbols(elf, sizes["init_data"])
    return tuple(
        Memory(kind, sizes[kind], _aligned(sizes[kind], PAGE), tuple(names[kind]))
        for kind in TYPES
        if sizes[kind]
    )


def _two_allocations(
    elf: Elf, sizes: dict[str, int], names: dict[str, list[str]], *, kallsyms_all: bool
) -> tuple[Memory, ...]:
    """Up to 6.3: parts of core and of init; symbols follow on a page of their own."""
    found = []
    for kind in TYPES:
        used = size = sizes[kind]
        if kind == "data":
            used = size = _with_core_symbols(elf, _aligned(size, PAGE), kallsyms_all=kallsyms_all)
        elif kind == "init_data":
            used = size = _with_all_symbols(elf, _aligned(size, PAGE))
        size = _aligned(size, PAGE)
        if used:
            found.append(Memory(kind, used, size, tuple(names[kind])))
    return tuple(found)


def kept_symbols(elf: Elf, *, kallsyms_all: bool = True) -> list[Symbol]:
    """The symbols that stay for /proc/kallsyms (`is_core_symbol`), without the null symbol."""
    return [symbol for symbol in elf.symbols[1:] if _is_core(elf.sections, symbol, kallsyms_all=kallsyms_all)]


def _is_core(sections: Sequence[Section], symbol: Symbol, *, kallsyms_all: bool) -> bool:
    if symbol.shndx == SHN_UNDEF or symbol.shndx >= SHN_LORESERVE or not symbol.name:
        return False
    section = sections[symbol.shndx]
    if section.name == PER_CPU:
        return kallsyms_all
    if not type_of(section, (0, 0)) or is_init_section(section.name):
        return False
    return kallsyms_all or bool(section.flags & SHF_EXECINSTR)


def _with_core_symbols(elf: Elf, size: int, *, kallsyms_all: bool) -> int:
    kept = kept_symbols(elf, kallsyms_all=kallsyms_all)
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
