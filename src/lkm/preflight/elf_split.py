# SPDX-License-Identifier: MIT
"""The tables of the file as 6.12 and later kernels look at them.

Source: elf_validity_cache_copy and what it calls (kernel/module/main.c, 6.12 and 7.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.formats.elf import SHT_NOBITS, SHT_NULL, SHT_STRTAB
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
from lkm.preflight.load import Load
from lkm.preflight.values import Problem

__all__ = ["check_split"]


def check_split(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_copy of 6.12 and 7.3."""
    yield from check_header(load, "elf_validity_ehdr")
    yield from check_section_table(load, "elf_validity_cache_sechdrs")
    yield from check_first_row(load, "elf_validity_cache_sechdrs")
    image = load.image
    for number, row in enumerate(image.sections[1:], 1):
        if row.type not in (SHT_NULL, SHT_NOBITS) and is_outside(image, row):
            yield bad_range(load, number, row, "elf_validity_cache_sechdrs")
    yield from _split_names(load)
    if len(image.find_all(".modinfo")) > 1:
        yield fault(
            load,
            "Only one .modinfo section must exist.",
            "it has more than one section .modinfo",
            "elf_validity_cache_index_info",
        )
    yield from check_this_module(load)
    if len(image.symbol_tables) != 1:
        yield stripped(load, "elf_validity_cache_index_sym")
        return
    yield from _symbol_strings(load)
    if load.rules.extended_versions:
        yield from _extended_versions(load)
    if load.rules.string_table:
        yield from _string_table(load)


def _split_names(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_secstrings."""
    source = "elf_validity_cache_secstrings"
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
    if names.type != SHT_STRTAB and load.rules.table_types:
        yield fault(
            load,
            f"Invalid ELF section name table type: {names.type}",
            f"the table of section names is of type {names.type}",
            source,
        )
    yield from check_name_table(load, names, source)
    for number, row in enumerate(image.sections):
        if row.type != SHT_NULL and row.name >= names.size:
            yield bad_name(load, number, row, source)


def _symbol_strings(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_index_str."""
    image = load.image
    link = image.sections[image.symbol_tables[0]].link
    if link == 0 or link >= image.header.shnum:
        yield bad_link(load, link, "elf_validity_cache_index_str")
    elif image.sections[link].type != SHT_STRTAB and load.rules.table_types:
        yield fault(
            load,
            f"Invalid ELF symbol string table type: {image.sections[link].type}",
            f"the table of symbol names is of type {image.sections[link].type}",
            "elf_validity_cache_index_str",
        )


def _extended_versions(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_index_versions (6.14)."""
    if load.request.ignore_modversions:
        return
    image = load.image
    crcs, names = image.find("__version_ext_crcs"), image.find("__version_ext_names")
    source = "elf_validity_cache_index_versions"
    if bool(crcs) != bool(names):
        yield fault(
            load,
            "extended version crc+name presence does not match",
            "it has one of __version_ext_crcs and __version_ext_names, and not the other",
            source,
        )
    elif crcs:
        row = image.sections[names]
        raw = image.data[row.offset : row.offset + row.size]
        if raw.count(b"\0") < image.sections[crcs].size // 4:
            yield fault(
                load,
                "more extended version crcs than names",
                "__version_ext_crcs has more entries than __version_ext_names",
                source,
            )


def _string_table(load: Load) -> Iterator[Problem]:
    """elf_validity_cache_strtab (6.13)."""
    source = "elf_validity_cache_strtab"
    image = load.image
    symbols = image.sections[image.symbol_tables[0]]
    strings = image.sections[symbols.link]
    data = image.data[strings.offset : strings.offset + strings.size]
    if not data:
        yield fault(load, "empty symbol string table", "the table of symbol names is empty", source)
    elif data[0]:
        yield fault(
            load,
            "symbol string table missing leading NUL",
            "the table of symbol names does not begin with a NUL byte",
            source,
        )
    elif data[-1]:
        yield fault(
            load,
            "symbol string table isn't NUL terminated",
            "the table of symbol names does not end in a NUL byte",
            source,
        )
    elif any(symbol.name >= strings.size for symbol in image.symbols(image.symbol_tables[0])):
        yield fault(
            load,
            "symbol name out of bounds in string table",
            "the name of a symbol is beyond the table of names",
            source,
        )
