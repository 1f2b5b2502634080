# SPDX-License-Identifier: MIT
"""Virtual addresses of the kernel and where they are in RAM, by its own page tables.

RAM has an address of its own in the linear map, which /proc/kcore tells segment by segment; vmalloc, the
modules and the kernel's image are further mappings of the same pages. Sources: arch/x86/include/asm/
pgtable_types.h (4 and 5 levels), arch/arm64/include/asm/pgtable-hwdef.h (4, 16 and 64 KB pages), 5.10 to 7.x;
swapper_pg_dir and the sizes are in VMCOREINFO.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.formats.vmcoreinfo import Vmcoreinfo
from lkm.system.kcore import Kcore, KcoreError, Segment

__all__ = ["LinearMap", "PageTables", "Shape", "Stretch", "linear_map", "shape_of"]

_KERNEL_IMAGE = 0xFFFFFFFF80000000
"""x86_64: __START_KERNEL_map. No linear map reaches it."""


class Stretch(NamedTuple):
    """`size` bytes at the virtual address `start`, in RAM at `physical`."""

    start: int
    size: int
    physical: int


class LinearMap:
    """RAM as the kernel maps it whole, in stretches sorted by address."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self.segments = tuple(sorted(segments))
        self._by_physical = sorted(
            (s.physical, s.physical + s.size, s.start) for s in self.segments if s.physical is not None
        )
        self._starts = [entry[0] for entry in self._by_physical]

    def virtual(self, physical: int) -> Optional[int]:
        """The linear address of a byte of RAM, or None where it is not RAM that /proc/kcore has."""
        at = bisect_right(self._starts, physical)
        if not at:
            return None
        start, end, virtual = self._by_physical[at - 1]
        return virtual + physical - start if physical < end else None

    def physical(self, address: int) -> Optional[int]:
        """Where the byte at a linear address is in RAM, or None for an address of another mapping."""
        for segment in self.segments:
            if segment.physical is not None and segment.start <= address < segment.start + segment.size:
                return segment.physical + address - segment.start
        return None


def linear_map(segments: Iterable[Segment], info: Vmcoreinfo) -> LinearMap:
    """The RAM among the segments of /proc/kcore: those whose physical address it tells, the kernel's image left
    out. Raises `KcoreError` where there is none."""
    text = info.get("SYMBOL", "_stext") or _KERNEL_IMAGE
    found = [
        segment
        for segment in segments
        if segment.physical is not None
        and segment.start < _KERNEL_IMAGE
        and not segment.start <= text < segment.start + segment.size
    ]
    if not found:
        raise KcoreError("/proc/kcore: it does not tell where its segments are in RAM")
    return LinearMap(found)


class Shape(NamedTuple):
    """Of a set of page tables: how many bits of an address each level takes, from the top one to the last;
    `page_bits`; the bits of an entry that are its address; `leaf_bit` and the value that marks a large page."""

    levels: tuple[int, ...]
    page_bits: int
    address_mask: int
    leaf_bit: int
    leaf_set: bool


def shape_of(machine: str, info: Vmcoreinfo) -> Shape:
    """The page tables of this kernel. Raises `LkmError` for another machine than x86_64 and arm64."""
    if machine == "x86_64":
        five = info.get("NUMBER", "pgtable_l5_enabled") == 1
        encrypted = info.get("NUMBER", "sme_mask") or 0
        return Shape((9,) * (5 if five else 4), 12, 0x000FFFFFFFFFF000 & ~encrypted, 7, leaf_set=True)
    if machine == "aarch64":
        page = info.number("PAGESIZE")
        page_bits = page.bit_length() - 1
        t1sz = info.get("NUMBER", "TCR_EL1_T1SZ")
        bits = 64 - t1sz if t1sz else info.number("VA_BITS")
        each = page_bits - 3
        count = -(-(bits - page_bits) // each)
        top = bits - page_bits - each * (count - 1)
        return Shape((top, *(each,) * (count - 1)), page_bits, 0x0000FFFFFFFFFFFF & -page, 1, leaf_set=False)
    raise LkmError(f"{machine}: its page tables are not known", remedy="x86_64 and aarch64 are")


class PageTables:
    """The kernel's own page tables, read through /proc/kcore."""

    def __init__(self, kcore: Kcore, linear: LinearMap, info: Vmcoreinfo, machine: str) -> None:
        self._kcore = kcore
        self._linear = linear
        self._shape = shape_of(machine, info)
        self._top = info.symbol("swapper_pg_dir")
        self._tables: dict[int, tuple[int, ...]] = {}

    def walk(self, start: int, end: int) -> Iterator[Stretch]:
        """What is mapped from `start` to `end`, by address, one stretch an entry of the last table."""
        bits = sum(self._shape.levels) + self._shape.page_bits
        above = -1 << bits & (1 << 64) - 1
        yield from self._below(self._top, 0, above, start, end)

    def physical(self, address: int) -> Optional[int]:
        """Where the byte at `address` is in RAM, or None where nothing is mapped."""
        for stretch in self.walk(address, address + 1):
            return stretch.physical + address - stretch.start
        return None

    def _below(self, table: int, level: int, base: int, start: int, end: int) -> Iterator[Stretch]:
        shape = self._shape
        shift = shape.page_bits + sum(shape.levels[level + 1 :])
        entries = self._read(table, 1 << shape.levels[level])
        first = max(0, (start - base) >> shift)
        last = min(len(entries) - 1, (end - 1 - base) >> shift)
        for index in range(first, last + 1):
            entry = entries[index]
            if not entry & 1:
                continue
            here, size = base + (index << shift), 1 << shift
            physical = entry & shape.address_mask
            final = level == len(shape.levels) - 1
            if final or bool(entry >> shape.leaf_bit & 1) is shape.leaf_set:
                yield Stretch(here, size, physical & -size)
                continue
            following = self._linear.virtual(physical)
            if following is not None:
                yield from self._below(following, level + 1, here, start, end)

    def _read(self, table: int, count: int) -> tuple[int, ...]:
        if table not in self._tables:
            try:
                data = self._kcore.read(table, 8 * count)
            except KcoreError:
                data = bytes(8 * count)
            self._tables[table] = struct.unpack(f"<{count}Q", data)
        return self._tables[table]
