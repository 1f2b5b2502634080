# SPDX-License-Identifier: MIT
"""An object, what was found out about it, and a kernel → the bytes of a `.ko`.

Source: `add_header`, `add_exported_symbols`, `add_versions`, `add_depends` in scripts/mod/modpost.c, and
scripts/module-common.c (6.13); linked as scripts/Makefile.modfinal has it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence

from lkm.errors import LkmError
from lkm.formats.elf import (
    R_AARCH64_ABS64,
    R_X86_64_64,
    SHF_ALLOC,
    SHT_NOTE,
    STT_OBJECT,
    Machine,
    machine_name,
    parse_elf,
)
from lkm.formats.elfwriter import NewSection, NewSymbol, build_relocatable
from lkm.formats.export_tables import crc_sections, export_sections
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.module import THIS_MODULE
from lkm.formats.sibling import this_module_section, versions_section
from lkm.modpost.checks import Findings
from lkm.modpost.kernel import Kernel
from lkm.modpost.link import link_object
from lkm.modpost.merge import BUILD_ID, script_for
from lkm.modpost.objects import ObjectFile
from lkm.names import module_name

__all__ = ["RELOCATIONS", "assemble_module"]

RELOCATIONS = {Machine.X86_64: (R_X86_64_64, 2), Machine.AARCH64: (R_AARCH64_ABS64, 261)}
"""Of a 64-bit address, and of a 32-bit distance: R_X86_64_PC32, R_AARCH64_PREL32."""

_COPIED = (
    ".note.Linux", ".orc_header", ".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline",
)  # fmt: skip
"""Sections that every module of a kernel has alike: notes on its build (include/linux/build-salt.h, elfnote-lto.h),
the hash of its unwind tables (ORC_HEADER, 6.4), and what arch/arm64/include/asm/module.lds.h makes."""

_COPIED_INFO = ("retpoline", "rhelversion")
"""What modpost writes into every `.modinfo` of a kernel alike; the second one is Red Hat's."""


def assemble_module(
    found: ObjectFile, kernel: Kernel, findings: Findings, *, name: str, aliases: Sequence[str] = ()
) -> bytes:
    """The module file; the same input gives the same bytes. LkmError for an architecture that is not known."""
    if found.elf.machine not in RELOCATIONS:
        known = ", ".join(machine.name.lower() for machine in RELOCATIONS)
        raise LkmError(
            f"{found.elf.name}: no modules are made for {machine_name(found.elf.machine)}, only {known}"
        )
    pointer, relative = RELOCATIONS[Machine(found.elf.machine)]
    sections = [
        _modinfo(found, kernel, findings, name, aliases),
        *versions_section(kernel.sibling, findings.versions),
        this_module_section(
            kernel.sibling, name=module_name(name), pointer=pointer, init_function=found.has_init,
            exit_function=found.has_exit,
        ),
        *_copied(found, kernel),
        NewSection(BUILD_ID, _note(bytes(20)), SHT_NOTE, SHF_ALLOC, 4),
    ]  # fmt: skip
    size = kernel.sibling.this_module.size
    symbols = [NewSymbol("__this_module", THIS_MODULE, size=size, type=STT_OBJECT), *_bounds(found, kernel)]
    flagged = kernel.rules.flagstab
    if found.generated:
        tables, names = export_sections(findings.exports, relative=relative, flagged=flagged)
    elif any(section.name.startswith("___kcrctab") for section in found.elf.sections):
        tables, names = [], []  # 5.10 to 5.18: the object has its CRCs
    else:
        tables, names = crc_sections(findings.exports, flagged=flagged)
    linked = link_object(found.elf, [*sections, *tables], [*symbols, *names], script_for(kernel.version))
    made = build_relocatable(found.elf.machine, linked.sections, linked.symbols, flags=found.elf.flags)
    return _with_build_id(made)


def _modinfo(
    found: ObjectFile, kernel: Kernel, findings: Findings, name: str, aliases: Sequence[str]
) -> NewSection:
    """What comes after the object's own entries."""
    own = found.elf.section(".modinfo")
    sibling = kernel.sibling.modinfo
    items = [("alias", alias) for alias in aliases]
    items.append(("depends", ",".join(findings.depends)))
    items += [(key, sibling.get(key)) for key in _COPIED_INFO if sibling.has(key)]
    items += [("name", module_name(name)), ("vermagic", kernel.sibling.vermagic)]
    start = b"\0" if own and len(own.data) and own.data[-1] else b""
    return NewSection(".modinfo", start + render_modinfo(ModInfo(tuple(items))), flags=SHF_ALLOC)


def _bounds(found: ObjectFile, kernel: Kernel) -> Iterator[NewSymbol]:
    """The bounds of allocation tags, here of none: the linker script puts them into `.data` from 6.10 to 6.13, also
    without CONFIG_MEM_ALLOC_PROFILING (SECTION_WITH_BOUNDARIES in include/asm-generic/codetag.lds.h)."""
    if (6, 10) <= kernel.version < (6, 14) and found.elf.section(".data") is not None:
        for edge in ("start", "stop"):
            yield NewSymbol(f"__{edge}_alloc_tags", ".data")


def _copied(found: ObjectFile, kernel: Kernel) -> Iterator[NewSection]:
    for name in _COPIED:
        section = kernel.sibling.elf.section(name)
        if section is not None and found.elf.section(name) is None:
            yield NewSection(
                name, bytes(section.data), section.type, section.flags, section.align or 1, size=section.size
            )


def _note(digest: bytes) -> bytes:
    return struct.pack("<III4s", 4, len(digest), 3, b"GNU") + digest


def _with_build_id(image: bytes) -> bytes:
    """The file with the checksum of itself in the note that was left blank, as `ld --build-id=sha1` has it."""
    section = parse_elf(image).section(BUILD_ID)
    assert section is not None
    end = section.offset + section.size
    note = _note(hashlib.sha1(image, usedforsecurity=False).digest())
    return image[: section.offset] + note + image[end:]
