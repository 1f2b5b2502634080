# SPDX-License-Identifier: MIT
"""What differs between kernels in how a module is judged, by release.

Read in the sources of 5.10.262, 6.1.192, 6.12.117 and 7.3.4 (Debian's), and compared with these kernels and with
6.16, 6.17, 6.18 and 7.2 (tests/vm/test_check.py). Of other releases the mainline release that a change came with is
taken, which stable series may have taken over: `read` says whether the series is one of those.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

__all__ = ["ElfChecks", "Rules", "parse_version", "rules_for"]


class ElfChecks(Enum):
    """Which function looks at the tables of the file.

    SILENT   elf_validity_check as 5.10 has it: one line for all
    PLAIN    elf_validity_check since 5.13, with a line for each; setup_load_info finds the sections
    SPLIT    elf_validity_cache_copy, split in functions in 6.13 and taken over into 6.12
    """

    SILENT = "silent"
    PLAIN = "plain"
    SPLIT = "split"


class Rules(NamedTuple):
    """How one release judges.

    read              the series was read or compared with, not guessed
    elf               see `ElfChecks`
    early_checks      vermagic and the name are checked before memory is allocated, and the struct's size before
                      that (early_mod_check, elf_validity_cache_index_mod; 6.4)
    string_table      names of symbols are checked (elf_validity_cache_strtab, 6.13)
    table_types       string tables must be of type SHT_STRTAB (later than 6.18, and 6.12's stable series)
    extended_versions __version_ext_crcs, __version_ext_names (6.14)
    symbol_index      a symbol's section index is checked (simplify_symbols, 6.19 and stable series)
    flagstab          __kflagstab says what is GPL-only, in place of tables of its own (7.x)
    module_namespace  the namespaces `module:…` (6.16)
    booleans          the letters that a boolean may begin with, beside on and off (kstrtobool)
    taint_symbol      inherit_taint names the symbol (5.18)
    clears            relocations can be taken back, and their lines are worded anew (6.3)
    named_lines       lines of arm64's module.c begin with "Modules: " (pr_fmt, 6.5)
    init_trampoline   arm64 wants .init.text.ftrace_trampoline (module_init_ftrace_plt, 6.17 and 6.12's stable series)
    per_cpu           relocations are made in the section of per-CPU data as well (apply_relocations; not 6.12, 7.3)
    execmem           memory for modules comes from execmem_alloc, which says so when there is none (6.10)
    btf_layout        the header of BTF has a third part (btf_check_sec_info, 7.1)
    sites             a relocation onto bytes that are not zero is refused with section and index (later than 6.18)
    """

    read: bool
    elf: ElfChecks
    early_checks: bool
    string_table: bool
    table_types: bool
    extended_versions: bool
    symbol_index: bool
    flagstab: bool
    module_namespace: bool
    taint_symbol: bool
    clears: bool
    named_lines: bool
    init_trampoline: bool
    per_cpu: bool
    sites: bool
    btf_layout: bool
    execmem: bool
    booleans: str


_READ = {(5, 10), (6, 1), (6, 12), (6, 16), (6, 17), (6, 18), (7, 2), (7, 3)}


def parse_version(release: str) -> tuple[int, int]:
    """(6, 1) of `6.1.0-56-amd64`; (0, 0) of what has no number."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def rules_for(release: str) -> Rules:
    """The rules of the kernel `release` (uname -r)."""
    version = parse_version(release)
    if version < (5, 13):
        elf = ElfChecks.SILENT
    elif version < (6, 12):
        elf = ElfChecks.PLAIN
    else:
        elf = ElfChecks.SPLIT
    return Rules(
        read=version in _READ,
        elf=elf,
        early_checks=version >= (6, 4),
        string_table=version >= (6, 13),
        table_types=version >= (6, 19) or version == (6, 12),
        extended_versions=version >= (6, 14),
        symbol_index=version >= (6, 19) or version in {(6, 1), (6, 12)},
        flagstab=version >= (7, 1),
        module_namespace=version >= (6, 16),
        taint_symbol=version >= (5, 18),
        clears=version >= (6, 3),
        named_lines=version >= (6, 5),
        init_trampoline=version >= (6, 17) or version == (6, 12),
        per_cpu=version >= (6, 15),
        sites=version >= (6, 19),
        execmem=version >= (6, 10),
        btf_layout=version >= (7, 1),
        booleans="yn10" + ("tf" if version >= (6, 0) else "") + ("ed" if version >= (6, 13) else ""),
    )
