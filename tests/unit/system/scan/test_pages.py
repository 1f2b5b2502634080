# SPDX-License-Identifier: MIT
"""What a page is used for, by its struct page."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lkm.errors import LkmError
from lkm.formats.vmcoreinfo import parse_vmcoreinfo
from lkm.system.kcore import Kcore, KcoreError, Segment
from lkm.system.scan.pages import PageKind, Pages

MAP = 0xFFFF_EA00_0000_0000
ROOT, SECTION = MAP + 0x10000, MAP + 0x12000
FREE, SLAB, LARGE = 0xF0000000, 0xF5000000, 0xF8000000
LRU = 1 << 4 | 1 << 2
BUDDY, NO_TYPE = FREE | 0xFFFFFF, 0xFFFFFFFF


class Machine:
    """Struct pages of 64 bytes, and what VMCOREINFO tells of them."""

    def __init__(self, directory: Path, head: str = "compound_head") -> None:
        self.path = directory / "kcore"
        self.data = bytearray(0x14000)
        self.info = (
            f"SYMBOL(mem_section)={ROOT:x}\nPAGESIZE=4096\nSIZE(page)=64\nOFFSET(page._refcount)=52\n"
            f"OFFSET(page._mapcount)=48\nOFFSET(page.mapping)=24\nOFFSET(page.{head})=8\nOFFSET(page.private)=40\n"
            f"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)={BUDDY}\nNUMBER(PAGE_SLAB_MAPCOUNT_VALUE)={SLAB}\n"
            f"SIZE(mem_section)=16\nOFFSET(mem_section.section_mem_map)=0\nNUMBER(PG_lru)=4\n"
        )
        struct.pack_into("<Q", self.data, ROOT - MAP, SECTION)
        struct.pack_into("<Q", self.data, SECTION - MAP, MAP | 3)
        for number in range(64):
            self.page(number)

    def page(
        self, number: int, *, count: int = 1, kind: int = NO_TYPE, flags: int = 0, mapping: int = 0, link: int = 0,
        order: int = 0,
    ) -> None:  # fmt: skip
        at = 64 * number
        struct.pack_into("<QQQQQQII", self.data, at, flags, link, 0, mapping, 0, order, kind, count)

    def pages(self) -> Pages:
        self.path.write_bytes(self.data)
        kcore = Kcore(os.open(self.path, os.O_RDONLY), (Segment(MAP, len(self.data), 0),))
        return Pages(kcore, parse_vmcoreinfo(self.info.encode()), {"PG_reserved": 14})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, PageKind.OTHER),
        ({"count": 0}, PageKind.FREE),
        ({"count": 0, "kind": BUDDY}, PageKind.FREE),
        ({"count": 0, "kind": LARGE}, PageKind.OTHER),  # frozen: a large object of kmalloc
        ({"kind": SLAB}, PageKind.SLAB),
        ({"flags": 1 << 14}, PageKind.RESERVED),
        ({"mapping": 0xFFFF_8880_0000_1001}, PageKind.ANONYMOUS),
        ({"mapping": 0xFFFF_8880_0000_1000}, PageKind.CACHE),
    ],
)
def test_what_a_page_is(tmp_path: Path, fields: dict[str, int], kind: PageKind) -> None:
    machine = Machine(tmp_path)
    machine.page(5, **fields)
    assert machine.pages().page(5).kind is kind


@pytest.mark.parametrize(
    ("head", "link"),
    [
        ("compound_head", (MAP + 64 * 8) | 1),
        ("compound_info", (MAP + 64 * 8) | 1),
        ("compound_info", (-64 * 8 & (1 << 64) - 1) | 1),
    ],
    ids=["a pointer", "a pointer since 7.x", "a mask since 7.x"],
)
def test_a_tail_is_what_its_head_is(tmp_path: Path, head: str, link: int) -> None:
    machine = Machine(tmp_path, head)
    machine.page(8, kind=SLAB)
    machine.page(11, link=link)
    page = machine.pages().page(11)
    assert (page.kind, page.head, page.address) == (PageKind.SLAB, 8, MAP + 64 * 8)


@pytest.mark.parametrize("head", [12, 1 << 30, -4])
def test_a_head_behind_its_tail_or_nowhere_is_an_error(tmp_path: Path, head: int) -> None:
    machine = Machine(tmp_path)
    machine.page(11, link=(MAP + 64 * head) | 1)
    with pytest.raises(KcoreError, match=r"names .* as its first"):
        machine.pages().page(11)


def test_free_blocks_are_as_large_as_their_first_page_says(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.page(4, count=0, kind=BUDDY, order=2)
    machine.page(32, count=0, kind=BUDDY, order=5)
    machine.page(16, count=0, kind=BUDDY, order=99)  # it changed while it was read
    free = PageKind.FREE
    assert list(machine.pages().blocks_without_objects(0, 64)) == [(free, 4, 4), (free, 32, 32)]


def test_the_content_of_files_and_processes_is_told_by_its_lists(tmp_path: Path) -> None:
    """PG_lru is in a page's flags, of a compound page in its head's; a slab's tails look the same."""
    machine = Machine(tmp_path)
    for number in (3, 4):
        machine.page(number, flags=LRU)
    machine.page(8, flags=LRU)
    for tail in range(9, 12):
        machine.page(tail, link=(MAP + 64 * 8) | 1, flags=9)  # a first tail keeps its order there
    machine.page(12, kind=SLAB)
    machine.page(13, link=(MAP + 64 * 12) | 1)
    machine.page(14, flags=LRU)
    cache = PageKind.CACHE
    assert list(machine.pages().blocks_without_objects(0, 64)) == [
        (cache, 3, 2),
        (cache, 8, 4),
        (cache, 14, 1),
    ]


def test_without_a_mark_of_slabs_nothing_is_guessed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.info = machine.info.replace("PAGE_SLAB_MAPCOUNT_VALUE", "SOMETHING")
    with pytest.raises(LkmError, match="what marks a page of a slab"):
        machine.pages().page(5)
