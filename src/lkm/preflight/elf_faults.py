# SPDX-License-Identifier: MIT
"""Faults of the ELF header and the section table that all kernels look for, each in its own order.

Sources: elf_validity_check of 5.10 and 6.1, setup_load_info of both, elf_validity_cache_copy and what it calls
of 6.12 and 7.3 (kernel/module.c, kernel/module/main.c).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.formats.elf import ET_REL, SHF_ALLOC, SHT_NOBITS, SHT_NULL, machine_name
from lkm.formats.raw_module import HEADER_SIZE, SECTION_SIZE, RawModule, RawSection
from lkm.preflight.load import THIS_MODULE, Load
from lkm.preflight.rules import ElfChecks
from lkm.preflight.values import Cause, Problem

__all__ = [
    "bad_link",
    "bad_name",
    "bad_range",
    "check_first_row",
    "check_header",
    "check_name_table",
    "check_section_table",
    "check_this_module",
    "fault",
    "is_outside",
    "stripped",
]

_MIN_KMOD = 6
"""Bytes by which kmod tells how a file is compressed."""
_DAMAGED = "the file is damaged or was made by no linker: copy or build it again"


def fault(
    load: Load,
    line: str,
    words: str,
    source: str,
    *,
    cause: Cause = Cause.ELF,
    remedy: str = _DAMAGED,
) -> Problem:
    lines = (line,) if line else ()
    return Problem(cause, errno.ENOEXEC, words, remedy, source, lines, load.certainty)


def check_header(load: Load, source: str) -> Iterator[Problem]:
    """Length, magic, type and architecture."""
    image = load.image
    header = image.header
    short = len(load.file) < _MIN_KMOD
    if len(image.data) < HEADER_SIZE:
        yield fault(
            load,
            f"Invalid ELF header len {len(image.data)}",
            f"the file has {len(image.data)} bytes, less than an ELF header"
            + (f" (of less than {_MIN_KMOD} insmod itself says Invalid parameters)" if short else ""),
            source,
        )
    elif header.ident[:4] != b"\x7fELF":
        yield fault(
            load,
            r"Invalid ELF header magic: != \x7fELF",
            f"it is no ELF file: it begins with {header.ident[:4].hex(' ')}",
            source,
        )
    elif header.type != ET_REL:
        yield fault(
            load,
            f"Invalid ELF header type: {header.type} != {ET_REL}",
            f"its ELF type is {header.type}, and not {ET_REL}: no relocatable file",
            source,
        )
    elif header.machine != load.target.machine:
        yield fault(
            load,
            f"Invalid architecture in ELF header: {header.machine}",
            f"it is for {machine_name(header.machine)}, the kernel for {machine_name(load.target.machine)}",
            source,
            cause=Cause.ARCHITECTURE,
            remedy="build it for this architecture",
        )


def check_section_table(load: Load, source: str) -> Iterator[Problem]:
    """Size and place of the section table."""
    image = load.image
    header, length = image.header, len(image.data)
    if header.shentsize != SECTION_SIZE:
        yield fault(
            load,
            "Invalid ELF section header size",
            f"a section header has {header.shentsize} bytes, and not {SECTION_SIZE}",
            source,
        )
    elif header.shoff >= length or header.shnum * SECTION_SIZE > length - header.shoff:
        yield fault(
            load,
            "Invalid ELF section header overflow",
            f"{header.shnum} section headers at {header.shoff} are not in a file of {length} bytes",
            source,
        )


def check_first_row(load: Load, source: str) -> Iterator[Problem]:
    rows = load.image.sections
    row = rows[0] if rows else RawSection(*[0] * 10)
    if row.type != SHT_NULL or row.size or row.addr:
        yield fault(
            load,
            f"ELF Spec violation: section 0 type({row.type})!=SH_NULL or non-zero len or addr",
            "section 0 is not empty",
            source,
        )


def is_outside(image: RawModule, row: RawSection) -> bool:
    """validate_section_offset: beyond the file, or so large that the sum overflows."""
    end = row.offset + row.size
    return end >= 1 << 64 or end > len(image.data)


def check_name_table(load: Load, names: RawSection, source: str) -> Iterator[Problem]:
    end = names.offset + names.size
    if names.size == 0 and load.rules.elf is not ElfChecks.SILENT:
        yield fault(load, "empty section name table", "the table of section names is empty", source)
    elif end == 0:
        load.doubt("what is before the file: the kernel looks there for the end of the section names")
    elif load.image.data[end - 1 : end] != b"\0":
        yield fault(
            load,
            "ELF Spec violation: section name table isn't null terminated",
            "the table of section names does not end in a NUL byte",
            source,
        )


def bad_range(load: Load, number: int, row: RawSection, source: str) -> Problem:
    return fault(
        load,
        f"Invalid ELF section in module (section {number} type {row.type})",
        f"section {number} ({row.size} bytes at {row.offset}) is not in the file of"
        f" {len(load.image.data)} bytes",
        source,
    )


def bad_name(load: Load, number: int, row: RawSection, source: str) -> Problem:
    return fault(
        load,
        f"Invalid ELF section name in module (section {number} type {row.type})",
        f"the name of section {number} is beyond the table of names",
        source,
    )


def bad_link(load: Load, link: int, source: str) -> Problem:
    count = load.image.header.shnum
    return fault(
        load,
        f"Invalid ELF sh_link!=SHN_UNDEF({_signed(link)}) or (sh_link({_signed(link)}) >="
        f" hdr->e_shnum({count})",
        f"the symbol table has its names in section {link} of {count}",
        source,
    )


def _signed(number: int) -> int:
    """What `%d` makes of an unsigned number of 32 bits."""
    return number - (1 << 32) if number >= 1 << 31 else number


def stripped(load: Load, source: str) -> Problem:
    return fault(
        load,
        f"{load.early_name}: module has no symbols (stripped?)",
        f"it has {len(load.image.symbol_tables)} symbol tables, and not one",
        source,
        cause=Cause.NO_SYMBOL_TABLE,
        remedy="strip it with --strip-debug at most",
    )


def check_this_module(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_index_mod: since 6.4 the struct's section is looked at."""
    found = load.image.find_all(THIS_MODULE)
    said: tuple[str, str] = ("", "")
    if len(found) != 1:
        said = (
            f"Exactly one {THIS_MODULE} section must exist.",
            f"it has {len(found)} sections {THIS_MODULE}, and not one",
        )
        cause, remedy = Cause.NO_THIS_MODULE, "make a module of the object: lkm modpost, or kbuild"
    else:
        row = load.image.sections[found[0]]
        wanted = load.target.struct_module
        cause, remedy = Cause.STRUCT_MODULE, "build it against the headers of this very kernel"
        if row.type == SHT_NOBITS:
            said = (f"{THIS_MODULE} section must have a size set", f"its section {THIS_MODULE} is empty")
        elif not row.flags & SHF_ALLOC:
            said = (
                f"{THIS_MODULE} must occupy memory during process execution",
                f"its section {THIS_MODULE} is not allocated",
            )
        elif wanted is None:
            load.doubt("the size of this kernel's struct module: no module of its own was found to go by")
        elif row.size != wanted.size:
            said = (
                f"{THIS_MODULE} section size must match the kernel's built struct module size at run time",
                f"its struct module has {row.size} bytes, this kernel's {wanted.size}",
            )
    if said[0]:
        line = f"module {load.early_name}: {said[0]}"
        yield fault(load, line, said[1], "elf_validity_cache_index_mod", cause=cause, remedy=remedy)
