# SPDX-License-Identifier: MIT
"""Addresses and where they are in RAM."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lkm.errors import LkmError
from lkm.formats.vmcoreinfo import parse_vmcoreinfo
from lkm.system.kcore import Kcore, KcoreError, Segment
from lkm.system.scan.translate import LinearMap, PageTables, Stretch, linear_map, shape_of

LINEAR = 0xFFFF_8880_0000_0000
VMALLOC = 0xFFFF_C900_0000_0000
TOP = LINEAR


def test_ram_is_translated_both_ways() -> None:
    linear = LinearMap(
        [Segment(LINEAR + 0x1000, 0x2000, 0, 0x1000), Segment(LINEAR + 0x8000, 0x1000, 0, 0x8000)]
    )
    assert linear.virtual(0x1008) == LINEAR + 0x1008
    assert linear.physical(LINEAR + 0x8FFF) == 0x8FFF
    for hole in (0, 0xFFF, 0x3000, 0x9000):
        assert linear.virtual(hole) is None
        assert linear.physical(LINEAR + hole) is None


def test_the_image_is_not_ram_of_the_linear_map() -> None:
    ram, image = Segment(LINEAR, 0x1000, 0, 0), Segment(0xFFFF_FFFF_8100_0000, 0x1000, 0, 0x100_0000)
    info = parse_vmcoreinfo(b"SYMBOL(_stext)=ffffffff81000000\n")
    assert linear_map([ram, image, Segment(VMALLOC, 0x1000, 0, None)], info).segments == (ram,)
    with pytest.raises(KcoreError, match="where its segments are in RAM"):
        linear_map([image], info)


@pytest.mark.parametrize(
    ("machine", "info", "levels"),
    [
        ("x86_64", "", (9, 9, 9, 9)),
        ("x86_64", "NUMBER(pgtable_l5_enabled)=1\n", (9, 9, 9, 9, 9)),
        ("aarch64", "PAGESIZE=4096\nNUMBER(VA_BITS)=48\n", (9, 9, 9, 9)),
        ("aarch64", "PAGESIZE=65536\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)=0x10\n", (6, 13, 13)),
        ("aarch64", "PAGESIZE=16384\nNUMBER(VA_BITS)=47\n", (11, 11, 11)),
    ],
)
def test_the_shape_of_page_tables(machine: str, info: str, levels: tuple[int, ...]) -> None:
    assert shape_of(machine, parse_vmcoreinfo(info.encode())).levels == levels


def test_another_machine_has_no_known_shape() -> None:
    with pytest.raises(LkmError, match="riscv64: its page tables are not known"):
        shape_of("riscv64", parse_vmcoreinfo(b""))


def test_a_walk_finds_small_and_large_pages(tmp_path: Path) -> None:
    data = bytearray(0x5000)

    def entry(table: int, index: int, value: int) -> None:
        struct.pack_into("<Q", data, 0x1000 * table + 8 * index, value)

    for level, shift in ((0, 39), (1, 30)):
        entry(level, VMALLOC >> shift & 511, 0x1000 * (level + 1) | 1)
    entry(2, 0, 0x3000 | 1)
    entry(2, 1, 0x4020_0000 | 1 << 63 | 0x81)  # 2 MB, not to be executed
    entry(3, 5, 0x1234_5000 | 1)
    entry(3, 6, 0x9999_9000)  # not present
    path = tmp_path / "kcore"
    path.write_bytes(data)
    segment = Segment(LINEAR, len(data), 0, 0)
    kcore = Kcore(os.open(path, os.O_RDONLY), (segment,))
    info = parse_vmcoreinfo(f"SYMBOL(swapper_pg_dir)={TOP:x}\n".encode())
    tables = PageTables(kcore, LinearMap([segment]), info, "x86_64")
    assert list(tables.walk(VMALLOC, VMALLOC + 0x40_0000)) == [
        Stretch(VMALLOC + 0x5000, 0x1000, 0x1234_5000),
        Stretch(VMALLOC + 0x20_0000, 0x20_0000, 0x4020_0000),
    ]
    assert tables.physical(VMALLOC + 0x5008) == 0x1234_5008
    assert tables.physical(VMALLOC + 0x6000) is None
    assert tables.physical(VMALLOC + 0x20_1234) == 0x4020_1234
