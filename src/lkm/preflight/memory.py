# SPDX-License-Identifier: MIT
"""The memory that a module takes: more than its part of the address space has, or more than may be there.

Sources: layout_sections, move_module (kernel/module.c, kernel/module/main.c; __layout_sections since 6.4),
module_alloc (arch/x86/kernel/module.c up to 6.9), execmem_alloc (mm/execmem.c).
"""

from __future__ import annotations

import errno

from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Machine
from lkm.formats.raw_module import RawSection
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_memory"]

_RO_AFTER_INIT = 0x00200000  # include/linux/moduleloader.h
_GROUPS = (
    (SHF_EXECINSTR | SHF_ALLOC, 0), (SHF_ALLOC, SHF_WRITE), (_RO_AFTER_INIT | SHF_ALLOC, 0),
    (SHF_WRITE | SHF_ALLOC, 0),
)  # fmt: skip
"""Text, constants, what is constant after init, and data: flags that it must have, and must not have."""
_PAGE = 4096
_LIKELY = 1 << 27
"""Bytes that are taken to be there: no module comes near."""
_WORD = 1 << 32
"""The kernel counts in unsigned int."""
_X86 = {True: 0x3F000000, False: 0x5F000000}
"""MODULES_END - MODULES_VADDR, with and without CONFIG_RANDOMIZE_BASE (arch/x86/include/asm/pgtable_64_types.h)."""
_OTHERS = 1 << 31


def check_memory(load: Load) -> StageResult:
    """Sections are laid out one behind the other, and memory is asked for."""
    wild = [
        number for number, row in enumerate(load.image.sections)
        if row.flags & SHF_ALLOC and (row.size >= _WORD or row.align >= _WORD)
    ]  # fmt: skip
    if wild:
        load.doubt(f"what becomes of section {wild[0]}: the kernel counts its size or alignment in 32 bits")
        return StageResult(())
    needed = max(_sizes(load), default=0)
    if needed <= _LIKELY:
        return StageResult(())
    room = _OTHERS
    if load.target.machine == Machine.X86_64:
        room = _X86[load.target.option("RANDOMIZE_BASE") is not False]
    if needed < room:
        load.doubt(f"whether there are {needed >> 20} MiB of memory for it")
        return StageResult(())
    lines = ("execmem: unable to allocate memory",) if load.rules.execmem else ()
    return StageResult((Problem(
        Cause.MEMORY, errno.ENOMEM, f"it takes {needed >> 20} MiB in one piece, and all modules have {room >> 20}",
        "the file is damaged: a section's size or alignment is no sensible one", "move_module", lines, load.certainty,
    ),))  # fmt: skip


def _sizes(load: Load) -> list[int]:
    """Of each piece of memory: the module's and its init's; since 6.4 one for each group of both."""
    image = load.image
    left_out = {load.info, load.versions_section, image.find(".data..percpu")}
    groups: dict[tuple[bool, int], list[RawSection]] = {}
    for number, row in enumerate(image.sections):
        if row.flags & SHF_ALLOC and number not in left_out:
            init = image.name(number).startswith(".init")
            groups.setdefault((init, _group_of(row.flags)), []).append(row)
    sizes: list[int] = []
    for init in (False, True):
        size = 0
        for group in range(len(_GROUPS)):
            for row in groups.get((init, group), ()):
                size = (_aligned(size, row.align or 1) + row.size) % _WORD
            size = _aligned(size, _PAGE)
            if load.rules.early_checks:
                sizes.append(size)
                size = 0
        sizes.append(size)
    return sizes


def _group_of(flags: int) -> int:
    """The first that takes such a section; behind the last: none."""
    for group, (wanted, unwanted) in enumerate(_GROUPS):
        if flags & wanted == wanted and not flags & unwanted:
            return group
    return len(_GROUPS)


def _aligned(size: int, align: int) -> int:
    """ALIGN of include/linux/align.h, also where `align` is no power of two."""
    return (size + align - 1) & ~(align - 1)
