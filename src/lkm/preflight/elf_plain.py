# SPDX-License-Identifier: MIT
"""The tables of the file as kernels before 6.12 look at them.

Source: elf_validity_check and setup_load_info (kernel/module.c 5.10, kernel/module/main.c 6.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_NULL, SHT_SYMTAB
from lkm.formats.raw_module import RawSection
from lkm.preflight.elf_faults import (
    bad_link,
    bad_name,
    bad_range,
    check_first_row,
    check_header,
    check_name_table,
    check_section_table,
    check_this_module,
    fault,
    is_outside,
    stripped,
)
from lkm.preflight.load import THIS_MODULE, Load
from lkm.preflight.values import Cause, Problem

__all__ = ["check_plainly", "check_silently"]


def check_silently(load: Load) -> Iterator[Problem]:
    """5.10: elf_validity_check says nothing, its caller one line for all."""
    for problem in _plain(load, "elf_validity_check"):
        lines: tuple[str, ...] = ("Module has invalid ELF structures",)
        if problem.lines and _of_row(problem):
            lines = (problem.lines[0], *lines)
        yield problem._replace(lines=lines)
    yield from _setup(load)


def _of_row(problem: Problem) -> bool:
    """Whether it is one of the two faults that 5.10 prints itself."""
    return "in module (section" in problem.lines[0]


def check_plainly(load: Load) -> Iterator[Problem]:
    yield from _plain(load, "elf_validity_check")
    yield from _setup(load)


def _plain(load: Load, source: str) -> Iterator[Problem]:
    """elf_validity_check in the order of 5.10 and 6.1."""
    yield from check_header(load, source)
    yield from check_section_table(load, source)
    image = load.image
    header = image.header
    index = header.shstrndx
    if index == 0 or index >= header.shnum:
        yield fault(
            load,
            f"Invalid ELF section name index: {index} || e_shstrndx ({index}) >= e_shnum ({header.shnum})",
            f"the names of sections are said to be in section {index} of {header.shnum}",
            source,
        )
        return
    names = image.sections[index]
    if is_outside(image, names):
        yield fault(
            load,
            f"Invalid ELF section hdr(type {names.type})",
            "the table of section names is not in the file",
            source,
        )
    yield from check_name_table(load, names, source)
    yield from check_first_row(load, source)
    for number, row in enumerate(image.sections[1:], 1):
        problem = _plain_row(load, number, row, names, source)
        if problem:
            yield problem


def _plain_row(load: Load, number: int, row: RawSection, names: RawSection, source: str) -> Optional[Problem]:
    if row.type in (SHT_NULL, SHT_NOBITS):
        return None
    if row.type == SHT_SYMTAB and (row.link == 0 or row.link >= load.image.header.shnum):
        return bad_link(load, row.link, source)
    if is_outside(load.image, row):
        return bad_range(load, number, row, source)
    if row.flags & SHF_ALLOC and row.name >= names.size:
        return bad_name(load, number, row, source)
    return None


def _setup(load: Load) -> Iterator[Problem]:
    """setup_load_info, before 6.12: symbol table, then the struct module."""
    if not load.image.symbol_tables:
        yield stripped(load, "setup_load_info")
    if not load.this_module:
        yield fault(
            load,
            f"{load.early_name}: No module found in object",
            f"it has no section {THIS_MODULE}: an object file, and no module yet",
            "setup_load_info",
            cause=Cause.NO_THIS_MODULE,
            remedy="make a module of the object: lkm modpost, or kbuild",
        )
    elif load.rules.early_checks:
        yield from check_this_module(load)
    else:
        yield from _unchecked_struct(load)


def _unchecked_struct(load: Load) -> Iterator[Problem]:
    """Before 6.4 nobody compares the sizes: a module of another layout is taken, and does harm later."""
    wanted = load.target.struct_module
    row = load.image.sections[load.this_module]
    if wanted is not None and row.size != wanted.size:
        yield Problem(
            Cause.STRUCT_MODULE,
            None,
            f"its struct module has {row.size} bytes, this kernel's {wanted.size}; the kernel does not look,"
            " and would write beyond it or read wrong fields",
            "build it against the headers of this very kernel",
            "setup_load_info",
        )
