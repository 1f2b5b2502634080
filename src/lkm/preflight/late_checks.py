# SPDX-License-Identifier: MIT
"""Relocations, the architecture's sections, BTF, and the name in sysfs.

Sources: apply_relocations (kernel/module.c, kernel/module/main.c), apply_relocate_add (arch/x86/kernel/module.c),
apply_relocate (include/linux/moduleloader.h), module_frob_arch_sections and module_init_ftrace_plt
(arch/arm64/kernel/module*.c), btf_module_notify and btf_parse_hdr (kernel/bpf/btf.c), mod_sysfs_init
(kernel/module/sysfs.c): 5.10 to 7.3.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from itertools import repeat

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_REL, SHT_RELA, Machine
from lkm.formats.raw_module import SYMBOL_SIZE, RawSection
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_architecture_sections", "check_btf", "check_relocations", "check_sysfs_name"]

_SHF_RELA_LIVEPATCH = 0x00100000  # include/uapi/linux/elf.h
_WIDTHS = {0: 0, 1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
"""Bytes that each R_X86_64_* writes which the kernel knows: NONE, 64, PC32, PLT32, 32, 32S, PC64."""
_RELA = struct.Struct("<QIIq")
_LINK = "link it with the kernel's module.lds (kbuild does)"
_DAMAGED = "the file is damaged, or was linked once too often: build it again"


def check_architecture_sections(load: Load) -> StageResult:
    """module_frob_arch_sections of arm64: sections that the linker script of modules makes."""
    if load.target.machine != Machine.AARCH64:
        return StageResult(())
    plts = load.target.option("ARM64_MODULE_PLTS") is not False or load.rules.early_checks
    if not plts or all(name in load.image.names for name in (".plt", ".init.plt")):
        return StageResult(())
    return StageResult((Problem(
        Cause.ELF, errno.ENOEXEC, "it has no .plt or no .init.plt", _LINK,
        "module_frob_arch_sections", (f"{load.struct_name}: module PLT section(s) missing",), load.certainty,
    ),))  # fmt: skip


def check_relocations(load: Load) -> StageResult:
    """The first relocation that the kernel refuses."""
    total = sum(row.size for row in load.image.sections if row.type == SHT_RELA)
    if total > 2 * len(load.image.data):
        load.doubt("which relocations are made: its tables of relocations overlap")
        return StageResult(())
    for number, row in enumerate(load.image.sections):
        if row.type not in (SHT_REL, SHT_RELA) or not number:
            continue
        problem = next(_section(load, number, row), None)
        if problem:
            return StageResult((problem,))
    return StageResult(())


def _section(load: Load, number: int, row: RawSection) -> Iterator[Problem]:
    sections = load.image.sections
    if row.info >= len(sections):
        return
    target = sections[row.info]
    if not target.flags & SHF_ALLOC or row.flags & _SHF_RELA_LIVEPATCH:
        return
    if row.info in (load.info, load.versions_section):
        return
    if row.type == SHT_REL:
        yield Problem(
            Cause.RELOCATION, errno.ENOEXEC, f"section {number} has relocations of the kind REL", _DAMAGED,
            "apply_relocate", (f"module {load.struct_name}: REL relocation unsupported",),
        )  # fmt: skip
    elif load.target.machine == Machine.X86_64:
        yield from _x86(load, number, row, target)


def _x86(load: Load, number: int, row: RawSection, target: RawSection) -> Iterator[Problem]:
    """apply_relocate_add. What is usual is told by looking at whole columns; a module has 100,000 of them."""
    raw = load.image.content(row)
    raw = raw[: len(raw) // _RELA.size * _RELA.size]
    if not raw or _is_sound(load, raw, target):
        return
    site = load.image.content(target)
    symbols = _symbol_count(load)
    for index, (offset, kind, symbol, _) in enumerate(_RELA.iter_unpack(raw)):
        width = _WIDTHS.get(kind)
        if width is None:
            line = f"module: {load.struct_name}: Unknown rela relocation: {kind}"
            yield Problem(
                Cause.RELOCATION, errno.ENOEXEC, f"section {number} has a relocation of the unknown type {kind}",
                _DAMAGED, "apply_relocate_add", (line,),
            )  # fmt: skip
            return
        if offset + width > target.size or symbol >= symbols:
            load.doubt(
                f"relocation {index} of section {number} is beyond its section or names no symbol: the kernel does"
                " not look, and damages its memory"
            )
            return
        if target.type != SHT_NOBITS and any(site[offset : offset + width]):
            yield _occupied(load, number, index, kind)
            return


def _is_sound(load: Load, raw: bytes, target: RawSection) -> bool:
    """Whether all types are known, all places are in the section and zero, and all symbols are there."""
    words = memoryview(raw).cast("I")
    offsets = memoryview(raw).cast("Q")[::3].tolist()
    kinds = set(words[2::6].tolist())
    if not kinds <= _WIDTHS.keys() or max(words[3::6].tolist()) >= _symbol_count(load):
        return False
    width = max(_WIDTHS[kind] for kind in kinds)
    if max(offsets) + width > target.size:
        return False
    if target.type == SHT_NOBITS:
        return True
    site, zeros = load.image.content(target), bytes(width)
    return all(map(site.startswith, repeat(zeros), offsets))


def _symbol_count(load: Load) -> int:
    return load.image.sections[load.image.symbol_tables[0]].size // SYMBOL_SIZE


def _occupied(load: Load, number: int, index: int, kind: int) -> Problem:
    """The line has addresses that nobody can know before: `*` stands for them."""
    line = "Skipping invalid" if not load.rules.clears else "Invalid"
    where = f"sec {number}, idx {index}, " if load.rules.sites else ""
    line = (
        f"module: x86/modules: {line} relocation target, existing value is nonzero for {where}type {kind},"
        " loc *, val *"
    )
    return Problem(
        Cause.RELOCATION, errno.ENOEXEC,
        f"relocation {index} of section {number} is for bytes that are not zero: they were relocated before",
        _DAMAGED, "apply_relocate_add", (line,), load.certainty,
    )  # fmt: skip


def check_btf(load: Load) -> StageResult:
    """btf_module_notify: fatal only without CONFIG_MODULE_ALLOW_BTF_MISMATCH (5.18; before, always told only)."""
    index = load.image.find_all(".BTF")
    enabled = load.target.option("DEBUG_INFO_BTF_MODULES")
    if not index or enabled is False:
        return StageResult(())
    row = load.image.sections[index[0]]
    data = load.image.content(row)
    if not row.size:
        return StageResult(())
    fault = _btf_fault(data)
    allowed = load.target.option("MODULE_ALLOW_BTF_MISMATCH")
    if fault is None:
        return StageResult(())
    text, number = fault
    fatal = allowed is False
    lines = (f"BPF: {text}", f"failed to validate module [{load.struct_name}] BTF: -{number}")
    words = f"its BTF is damaged ({text})"
    return StageResult((Problem(
        Cause.BTF, number if fatal else None, words if fatal else f"{words}: taken without it",
        "build it again, or strip .BTF", "btf_module_notify", lines if fatal else (), load.certainty,
    ),))  # fmt: skip


def _btf_fault(data: bytes) -> tuple[str, int] | None:
    """btf_parse_hdr: what it says, and the errno."""
    if len(data) < 8:
        return "hdr_len not found", errno.EINVAL
    magic, version, flags, length = struct.unpack_from("<HBBI", data)
    if len(data) < length:
        return "btf_header not found", errno.EINVAL
    if magic != 0xEB9F:
        return "Invalid magic", errno.EINVAL
    if version != 1:
        return "Unsupported version", 524  # ENOTSUPP, which user space has no name for
    if flags:
        return "Unsupported flags", 524
    return None


def check_sysfs_name(load: Load) -> StageResult:
    """mod_sysfs_init: something of that name is in /sys/module, without being a loaded module."""
    name = load.struct_name
    if name not in load.target.sysfs_names:
        return StageResult(())
    return StageResult((Problem(
        Cause.NAME_TAKEN, errno.EINVAL, f"/sys/module/{name} is there: it is built in, or a load left it",
        f"if it is built in, nothing needs to be loaded; else lkm why {name}", "mod_sysfs_init",
        (f"{name}: module is already loaded",),
    ),))  # fmt: skip
