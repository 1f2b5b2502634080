# SPDX-License-Identifier: MIT
"""The first relocation that the kernel refuses.

Sources: apply_relocations (kernel/module.c, kernel/module/main.c), apply_relocate (include/linux/moduleloader.h),
apply_relocate_add (arch/x86/kernel/module.c): 5.10 to 7.3. Those of arm64 are in `relocations_arm64`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import repeat
from typing import Optional

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_REL, SHT_RELA, Machine
from lkm.formats.raw_module import RELA, RawSection
from lkm.preflight.load import Load
from lkm.preflight.places import NEAR, Places, Span, shifted
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_relocations", "refused", "unlikely_site"]

_SHF_RELA_LIVEPATCH = 0x00100000  # include/uapi/linux/elf.h
_WIDTHS = {0: 0, 1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
"""Bytes that each R_X86_64_* writes which the kernel knows: NONE, 64, PC32, PLT32, 32, 32S, PC64."""
_R_32, _R_32S = 10, 11
_FITS: dict[int, Span] = {_R_32: (0, (1 << 32) - 1), _R_32S: (-1 << 31, (1 << 31) - 1)}
_DAMAGED = "the file is damaged, or was linked once too often: build it again"


def check_relocations(load: Load) -> StageResult:
    """apply_relocations: table by table, up to the first entry that is refused."""
    total = sum(row.size for row in load.image.sections if row.type == SHT_RELA)
    if total > 2 * len(load.image.data):
        load.doubt("which relocations are made: its tables of relocations overlap")
        return StageResult(())
    places = Places(load)
    for number, row in enumerate(load.image.sections):
        if row.type not in (SHT_REL, SHT_RELA) or not number:
            continue
        problem = next(_section(load, places, number, row), None)
        if problem:
            return StageResult((problem,))
    return StageResult(())


def _section(load: Load, places: Places, number: int, row: RawSection) -> Iterator[Problem]:
    sections = load.image.sections
    if row.info >= len(sections):
        return
    target = sections[row.info]
    if not target.flags & SHF_ALLOC or row.flags & _SHF_RELA_LIVEPATCH:
        return
    if row.info in (load.info, load.versions_section, 0 if load.rules.per_cpu else places.per_cpu):
        return
    if row.type == SHT_REL:
        yield refused(
            load, f"section {number} has relocations of the kind REL", "apply_relocate",
            f"module {load.struct_name}: REL relocation unsupported",
        )  # fmt: skip
    elif load.target.machine == Machine.X86_64:
        yield from _x86(load, places, number, row, target)
    elif load.target.machine == Machine.AARCH64:
        from lkm.preflight.relocations_arm64 import check_arm64

        yield from check_arm64(load, places, number, row)


def refused(load: Load, words: str, source: str, *lines: str, remedy: str = _DAMAGED) -> Problem:
    """What all of them come to: ENOEXEC."""
    return Problem(Cause.RELOCATION, errno.ENOEXEC, words, remedy, source, lines, load.certainty)


def unlikely_site(load: Load, number: int, index: int) -> None:
    """An entry that no linker makes and the kernel does not look at."""
    load.doubt(
        f"relocation {index} of section {number} is beyond its section or names no symbol: the kernel does"
        " not look, and damages its memory"
    )


def _x86(load: Load, places: Places, number: int, row: RawSection, target: RawSection) -> Iterator[Problem]:
    """apply_relocate_add. What is usual is told by looking at whole columns; a module has 100,000 of them."""
    raw = load.image.content(row)
    raw = raw[: len(raw) // RELA.size * RELA.size]
    if not raw or _is_sound(load, places, raw, target):
        return
    site = load.image.content(target)
    for index, (offset, kind, symbol, addend) in enumerate(RELA.iter_unpack(raw)):
        width = _WIDTHS.get(kind)
        if width is None:
            yield refused(
                load, f"section {number} has a relocation of the unknown type {kind}", "apply_relocate_add",
                f"module: {load.struct_name}: Unknown rela relocation: {kind}",
            )  # fmt: skip
            return
        if offset + width > target.size or symbol >= places.count:
            unlikely_site(load, number, index)
            return
        occupied = target.type != SHT_NOBITS and any(site[offset : offset + width])
        if occupied and not load.rules.clears:  # before 6.3 the place is looked at first
            yield _occupied(load, number, index, kind)
            return
        problem = _overflow(load, places, number, index, (kind, symbol, addend))
        if problem is None and occupied:
            problem = _occupied(load, number, index, kind)
        if problem:
            yield problem
            return


def _is_sound(load: Load, places: Places, raw: bytes, target: RawSection) -> bool:
    """Whether all types are known, all places are in the section and zero, and all symbols are there and near."""
    words = memoryview(raw).cast("I")
    offsets = memoryview(raw).cast("Q")[::3].tolist()
    kinds = set(words[2::6].tolist())
    symbols = words[3::6].tolist()
    if not kinds <= _WIDTHS.keys() or _R_32 in kinds or max(symbols) >= places.count:
        return False
    if _R_32S in kinds:
        addends = memoryview(raw).cast("q")[2::3].tolist()
        if not places.wild.isdisjoint(symbols) or min(addends) < -NEAR or max(addends) > NEAR:
            return False
    width = max(_WIDTHS[kind] for kind in kinds)
    if max(offsets) + width > target.size:
        return False
    if target.type == SHT_NOBITS:
        return True
    site, zeros = load.image.content(target), bytes(width)
    return all(map(site.startswith, repeat(zeros), offsets))


def _overflow(
    load: Load, places: Places, number: int, index: int, entry: tuple[int, int, int]
) -> Optional[Problem]:
    """Whether the address does not fit in 32 bits: so it is with all of a module's own in R_X86_64_32."""
    kind, symbol, addend = entry
    fits = _FITS.get(kind)
    if fits is None:
        return None
    span = shifted(places.span(symbol), addend)
    if span is None or (span[0] <= fits[1] and span[1] >= fits[0]):
        if span is None or span[0] < fits[0] or span[1] > fits[1]:
            load.doubt(f"whether the address at relocation {index} of section {number} fits in 32 bits")
        return None
    value = f"{span[0] % (1 << 64):x}" if span[0] == span[1] else "*"
    where = f" sec {number} idx {index}" if load.rules.sites else ""
    return refused(
        load, f"relocation {index} of section {number} is for an address that does not fit in 32 bits: it was not"
        " compiled for the kernel's part of the address space", "apply_relocate_add",
        f"module: overflow in relocation type {kind} val {value}{where}",
        f"module: `{load.struct_name}' likely not compiled with -mcmodel=kernel",
        remedy="compile with -mcmodel=kernel (kbuild does)",
    )  # fmt: skip


def _occupied(load: Load, number: int, index: int, kind: int) -> Problem:
    """The line has addresses that nobody can know before: `*` stands for them."""
    line = "Skipping invalid" if not load.rules.clears else "Invalid"
    where = f"sec {number}, idx {index}, " if load.rules.sites else ""
    return refused(
        load, f"relocation {index} of section {number} is for bytes that are not zero: they were relocated before",
        "apply_relocate_add",
        f"module: x86/modules: {line} relocation target, existing value is nonzero for {where}type {kind},"
        " loc *, val *",
    )  # fmt: skip
