# SPDX-License-Identifier: MIT
"""The kernel's `struct page` of each page of RAM: which are free, and what the others are.

Where the array is and how its elements look is in VMCOREINFO (kernel/crash_core.c, kernel/vmcore_info.c
since 6.9): `mem_section[]`, whose `section_mem_map` less its flags is the address of the array (SPARSEMEM),
`page.flags`, `page._refcount`, `page._mapcount` (in a union with `page_type`), `page.mapping`,
`page.private`, the bit PG_lru. A free block is marked in its first page alone (PageBuddy), its order in
`private` (set_buddy_order, mm/page_alloc.c).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.vmcoreinfo import Vmcoreinfo
from lkm.system.kcore import Kcore, KcoreError

__all__ = ["Page", "PageKind", "Pages"]

_MAX_ORDER = 20
_SECTION_FLAGS = (1 << 12) - 1
_HAS_MEM_MAP = 2
_STEP = 1 << 22
_ANON = 1
_MARKS = tuple(bytes(byte >> bit & 1 for byte in range(256)) for bit in range(8))
"""For `bytes.translate`: of each byte its bit N."""
_USERS = re.compile(rb"(?:\x01[\x02\x03]*)+")
_WORD = (1 << 64) - 1
_NO_TYPE = (1 << 32) - 1
"""Of a page that nobody maps (_mapcount -1). Since 6.14 large objects of kmalloc have no count while in use, but a
type (PGTY_large_kmalloc, mm/slub.c)."""
_LARGEST_MASK = 1 << 30
"""Of the struct pages of one compound page, in bytes; an address is further from the end of memory."""


class PageKind(Enum):
    """What a page is used for."""

    FREE = "free"
    SLAB = "slab"
    ANONYMOUS = "anonymous"  # a process's memory
    CACHE = "page cache"  # a file's data
    RESERVED = "reserved"  # since boot: the kernel's image, its per-CPU data, early tables
    OTHER = "other"  # vmalloc, page tables, allocations of whole pages


class Page(NamedTuple):
    """A page: number, kind, and the number of the first page of the block that it was allocated in."""

    number: int
    kind: PageKind
    head: int
    address: int


class Pages:
    """The array of struct page, whose element N is page number N (physical address / page size)."""

    def __init__(self, kcore: Kcore, info: Vmcoreinfo, flags: Mapping[str, int]) -> None:
        """`flags` is `enum pageflags`."""
        self._kcore = kcore
        self._info = info
        self.page_size = info.number("PAGESIZE")
        self.size = info.size("page")
        self._refcount = info.offset("page._refcount")
        self._type = info.offset("page._mapcount")
        self._mapping = info.offset("page.mapping")
        head = info.get("OFFSET", "page.compound_head")
        self._head = info.offset("page.compound_info") if head is None else head
        self._private = info.offset("page.private")
        self._buddy = info.number("PAGE_BUDDY_MAPCOUNT_VALUE") & 0xFFFFFFFF
        self._slab_flag = info.get("NUMBER", "PG_slab")
        self._slab_type = info.get("NUMBER", "PAGE_SLAB_MAPCOUNT_VALUE")
        self._reserved_bit = flags.get("PG_reserved")
        self._lru_bit = info.number("PG_lru")
        self.base = self._find_base()

    def _find_base(self) -> int:
        """Address of the element of page 0 (which need not be mapped)."""
        info = self._info
        roots = struct.unpack("<512Q", self._kcore.read(info.symbol("mem_section"), 4096))
        map_at, size = info.offset("mem_section.section_mem_map"), info.size("mem_section")
        for root in roots:
            if not root:
                continue
            for at in range(0, self.page_size - size + 1, size):
                encoded = int.from_bytes(self._kcore.read(root + at + map_at, 8), "little")
                if encoded & _HAS_MEM_MAP:
                    return encoded & ~_SECTION_FLAGS
        raise KcoreError("mem_section: no section of RAM has an array of pages")

    def blocks_without_objects(self, first: int, count: int) -> Iterator[tuple[PageKind, int, int]]:
        """Stretches among `count` pages from `first` that no kernel object can lie in: kind, first page, pages.

        FREE ones are the buddy allocator's. Those on a list of least recently used pages (PG_lru) have the content
        of files and of processes' memory; they are all told as CACHE.
        """
        per = max(1, _STEP // self.size)
        for start in range(first, first + count, per):
            here = min(per, first + count - start)
            try:
                data = self._kcore.read(self.base + start * self.size, here * self.size)
            except KcoreError:
                continue  # a hole: none of these pages is left out
            for at, size in self._free_blocks(data):
                yield PageKind.FREE, start + at, size
            for at, size in self._users_blocks(data):
                yield PageKind.CACHE, start + at, size

    def _free_blocks(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Of an array of struct pages: index and number of pages."""
        mark = struct.pack("<I", self._buddy)
        # One byte of each element, taken out by a slice: C speed, and one that is rare elsewhere
        rare = next((index for index in range(4) if mark[index] not in (0, 0xFF)), 0)
        column = data[self._type + rare :: self.size]
        at = column.find(mark[rare])
        while at >= 0:
            element = at * self.size
            if data[element + self._type : element + self._type + 4] == mark:
                order = _word(data, element + self._private)
                if order <= _MAX_ORDER:
                    yield at, 1 << order
            at = column.find(mark[rare], at + 1)

    def _users_blocks(self, data: bytes) -> Iterator[tuple[int, int]]:
        """As `_free_blocks`. The tails of a compound page follow its head, which alone has the flag."""
        lru, bit = divmod(self._lru_bit, 8)
        heads = data[lru :: self.size].translate(_MARKS[bit])
        tails = data[self._head :: self.size].translate(_MARKS[0])
        # Both columns in one: 1 a head with the flag, 2 or 3 a tail
        both = int.from_bytes(heads, "little") | int.from_bytes(tails, "little") << 1
        for run in _USERS.finditer(both.to_bytes(len(heads) + 1, "little")):
            yield run.start(), run.end() - run.start()

    def page(self, number: int) -> Page:
        """What page `number` is. Raises `KcoreError` where it has no struct page."""
        data = self._read(number)
        head = number
        above = _word(data, self._head)
        if above & 1:  # PageTail
            head = self._head_of(number, above - 1)
            data = self._read(head)
        return Page(number, self._kind(data), head, self.base + head * self.size)

    def _head_of(self, number: int, link: int) -> int:
        """The first page of a compound one. `link` is the address of its struct page; in 7.x (`compound_info`, which
        took the place of `compound_head`) it can be a mask for the address of the tail's own."""
        element = self.base + number * self.size
        aligned = -link & _WORD
        is_mask = aligned < _LARGEST_MASK and aligned & aligned - 1 == 0
        head = ((element & link if is_mask else link) - self.base) // self.size
        if not 0 <= head <= number:
            raise KcoreError(f"page {number}: its struct page names {link:#x} as its first, which is none")
        return head

    def _read(self, number: int) -> bytes:
        return self._kcore.read(self.base + number * self.size, self.size)

    def _kind(self, data: bytes) -> PageKind:
        kind = _half(data, self._type)
        if self._is_slab(data, kind):
            return PageKind.SLAB
        flags, mapping = _word(data, 0), _word(data, self._mapping)
        if kind == self._buddy or (kind == _NO_TYPE and not _half(data, self._refcount)):
            return PageKind.FREE  # refcount 0 and no type: in a list of a CPU, or being freed
        if self._reserved(flags):
            return PageKind.RESERVED
        if mapping & _ANON:
            return PageKind.ANONYMOUS
        return PageKind.CACHE if mapping >> 56 == 0xFF else PageKind.OTHER

    def _is_slab(self, data: bytes, kind: int) -> bool:
        """PG_slab is a flag until 6.10, a page type since 6.11 (46df8e73a4a3 "mm: free up PG_slab")."""
        if self._slab_flag is not None:
            return bool(_word(data, 0) >> self._slab_flag & 1)
        if self._slab_type is not None:
            return kind >> 24 == (self._slab_type & 0xFFFFFFFF) >> 24
        raise LkmError("VMCOREINFO: this kernel does not tell what marks a page of a slab")

    def _reserved(self, flags: int) -> bool:
        return self._reserved_bit is not None and bool(flags >> self._reserved_bit & 1)


def _half(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")
