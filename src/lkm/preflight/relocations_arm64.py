# SPDX-License-Identifier: MIT
"""The relocations of arm64: types that the kernel does not know, and values that do not fit.

What is within a section is known to the byte; of what is elsewhere in the module or in the kernel, only that it is
within 2 GB. Sources: apply_relocate_add, reloc_data, reloc_insn_movw, reloc_insn_imm (arch/arm64/kernel/module.c),
partition_branch_plt_relas (module-plts.c): 5.10, 6.1, 6.12 and 7.3 are alike, but for how lines begin.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.formats.elf import SHF_EXECINSTR
from lkm.formats.raw_module import RELA, RawSection
from lkm.preflight.load import Load
from lkm.preflight.places import NEAR, Places, Span, shifted
from lkm.preflight.relocations import refused, unlikely_site
from lkm.preflight.values import Problem

__all__ = ["check_arm64"]

_BRANCHES = (282, 283)
"""R_AARCH64_JUMP26 and CALL26: what is too far gets a PLT entry."""
_UNCHECKED = {
    0: 0, 256: 0, 257: 8, 260: 8, 264: 4, 266: 4, 268: 4, 269: 4, 276: 4, 277: 4, 278: 4, 282: 4, 283: 4, 284: 4,
    285: 4, 286: 4, 288: 4, 290: 4, 292: 4, 293: 4, 299: 4,
}  # fmt: skip
"""Types that take any value (NONE, ABS64, PREL64, …_NC, …_G3, …_LO12_NC, branches), and the bytes that they write."""


class _Field(NamedTuple):
    """What a type writes: `width` bytes, and which values fit; `relative` to its place or not."""

    width: int
    fits: Span
    relative: bool


def _signed(bits: int) -> Span:
    return -1 << (bits - 1), (1 << (bits - 1)) - 1


def _unsigned(bits: int) -> Span:
    return 0, (1 << bits) - 1


_CHECKED = {
    258: _Field(4, _unsigned(32), relative=False),  # ABS32
    259: _Field(2, _unsigned(16), relative=False),  # ABS16
    261: _Field(4, _signed(32), relative=True),  # PREL32
    262: _Field(2, _signed(16), relative=True),  # PREL16
    263: _Field(4, _unsigned(16), relative=False),  # MOVW_UABS_G0
    265: _Field(4, _unsigned(32), relative=False),  # MOVW_UABS_G1
    267: _Field(4, _unsigned(48), relative=False),  # MOVW_UABS_G2
    270: _Field(4, _signed(17), relative=False),  # MOVW_SABS_G0: MOVN takes what is negative
    271: _Field(4, _signed(33), relative=False),  # MOVW_SABS_G1
    272: _Field(4, _signed(49), relative=False),  # MOVW_SABS_G2
    273: _Field(4, _signed(21), relative=True),  # LD_PREL_LO19, of four bytes each
    274: _Field(4, _signed(21), relative=True),  # ADR_PREL_LO21
    275: _Field(4, _signed(33), relative=True),  # ADR_PREL_PG_HI21, of pages
    279: _Field(4, _signed(16), relative=True),  # TSTBR14
    280: _Field(4, _signed(21), relative=True),  # CONDBR19
    287: _Field(4, _signed(17), relative=True),  # MOVW_PREL_G0
    289: _Field(4, _signed(33), relative=True),  # MOVW_PREL_G1
    291: _Field(4, _signed(49), relative=True),  # MOVW_PREL_G2
}
_WIDTHS = {**_UNCHECKED, **{kind: field.width for kind, field in _CHECKED.items()}}
_FAR = frozenset({261, 275, 289, 291})
"""Those that reach everything that is in the kernel and its modules."""
_REACH = (1 << 31) - (1 << 28)
"""Bytes from a module to what it may refer to: module_alloc sees to it."""


class _Entry(NamedTuple):
    """One relocation, and where it stands: the section with the table, and its place in it."""

    table: int
    place: int
    offset: int
    kind: int
    symbol: int
    addend: int


def check_arm64(load: Load, places: Places, number: int, row: RawSection) -> Iterator[Problem]:
    """apply_relocate_add for the table in section `number`."""
    raw = load.image.content(row)
    raw = raw[: len(raw) // RELA.size * RELA.size]
    target = load.image.sections[row.info]
    if not raw or _is_sound(places, raw, target.size):
        return
    order = array("L", range(len(raw) // RELA.size))
    if target.flags & SHF_EXECINSTR and load.target.option("RANDOMIZE_BASE") is not False:
        _partition(places, raw, order, row.info)
    for place in order:
        entry = _Entry(number, place, *RELA.unpack_from(raw, place * RELA.size))
        width, field = _WIDTHS.get(entry.kind), _CHECKED.get(entry.kind)
        if width is None:
            yield _unknown(load, number, entry.kind)
            return
        if entry.offset + width > target.size or entry.symbol >= places.count:
            unlikely_site(load, number, entry.place)
            return
        problem = _overflow(load, places, row.info, entry, field) if field else None
        if problem:
            yield problem
            return


def _is_sound(places: Places, raw: bytes, size: int) -> bool:
    """Whether nothing can be wrong with any entry, told by whole columns: so it is with nearly all tables."""
    words = memoryview(raw).cast("I")
    kinds = set(words[2::6].tolist())
    symbols = words[3::6].tolist()
    addends = memoryview(raw).cast("q")[2::3].tolist()
    return (
        kinds <= _UNCHECKED.keys() | _FAR
        and max(symbols) < places.count
        and max(memoryview(raw).cast("Q")[::3].tolist()) + max(_WIDTHS[kind] for kind in kinds) <= size
        and (kinds.isdisjoint(_FAR) or places.wild.isdisjoint(symbols))
        and min(addends) >= -NEAR
        and max(addends) <= NEAR
    )


def _partition(places: Places, raw: bytes, order: array[int], section: int) -> None:
    """partition_branch_plt_relas: what needs a PLT entry comes first, which moves the others about."""

    def needs_plt(place: int) -> bool:
        _, kind, number, _ = RELA.unpack_from(raw, place * RELA.size)
        symbol = places.symbol(number) if kind in _BRANCHES else None
        return kind in _BRANCHES and (symbol is None or symbol.shndx != section)

    first, last = 0, len(order) - 1
    while first < last:
        if needs_plt(order[first]):
            first += 1
        elif needs_plt(order[last]):
            order[first], order[last] = order[last], order[first]
        else:
            last -= 1


def _overflow(load: Load, places: Places, section: int, entry: _Entry, field: _Field) -> Optional[Problem]:
    """Whether the value does not fit, wherever things come to lie."""
    span = _value(places, section, entry, field)
    low, high = field.fits
    if span is not None and low <= span[0] and span[1] <= high:
        return None
    if span is None or (span[0] <= high and span[1] >= low):
        load.doubt(
            f"whether the value at relocation {entry.place} of section {entry.table} (type {entry.kind}) fits:"
            " that depends on where the kernel puts things"
        )
        return None
    known = shifted(places.span(entry.symbol), entry.addend)
    value = f"{known[0] % (1 << 64):x}" if known and known[0] == known[1] else "*"
    return refused(
        load, f"relocation {entry.place} of section {entry.table} (type {entry.kind}) has a value that does not fit",
        "apply_relocate_add",
        f"{_prefix(load)}module {load.struct_name}: overflow in relocation type {entry.kind} val {value}",
        remedy="compile it as kbuild does; a weak symbol that nobody has cannot be reached so",
    )  # fmt: skip


def _value(places: Places, section: int, entry: _Entry, field: _Field) -> Optional[Span]:
    """What would be written: S + A, less the place where it is relative."""
    if not field.relative:
        return shifted(places.span(entry.symbol), entry.addend)
    symbol = places.symbol(entry.symbol)
    if symbol is not None and symbol.shndx == section:
        distance = symbol.value + entry.addend - entry.offset
        return shifted((distance, distance), 0)
    span = places.span(entry.symbol)
    if span is None:
        return None
    if span[0] == span[1]:  # of a known address, and the place is where modules are
        low, high = places.modules
        return shifted((span[0] - high, span[0] - low), entry.addend)
    return shifted((-_REACH, _REACH), entry.addend)


def _unknown(load: Load, number: int, kind: int) -> Problem:
    return refused(
        load, f"section {number} has a relocation of the unknown type {kind}", "apply_relocate_add",
        f"{_prefix(load)}module {load.struct_name}: unsupported RELA relocation: {kind}",
    )  # fmt: skip


def _prefix(load: Load) -> str:
    """pr_fmt of arch/arm64/kernel/module.c (6.5)."""
    return "Modules: " if load.rules.named_lines else ""
