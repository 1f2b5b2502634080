# SPDX-License-Identifier: MIT
"""ELF files are read in all four layouts, and a wrong one is named rather than guessed at."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from lkm.formats.elf import SHT_STRTAB, ElfError, Machine, machine_name, parse_elf
from lkm.formats.elfwriter import NewSection, NewSymbol, build_relocatable
from tests.builders import make_elf

LAYOUTS = [(bits, order) for bits in (32, 64) for order in ("little", "big")]
SHOFF, SHENTSIZE, SHNUM, SHSTRNDX = 40, 58, 60, 62  # of the 64-bit header


def bent(data: bytes, at: int, layout: str, value: int) -> bytes:
    """The file with one number overwritten."""
    made = bytearray(data)
    struct.pack_into(layout, made, at, value)
    return bytes(made)


def section_at(data: bytes, number: int) -> int:
    """Where the header of a section is in a 64-bit little-endian file."""
    return int(struct.unpack_from("<Q", data, SHOFF)[0]) + 64 * number


def read_all(data: bytes) -> None:
    """Whatever is read lazily as well."""
    elf = parse_elf(data)
    for section in elf.sections:
        elf.relocations(section)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("rel", [False, True])
@pytest.mark.parametrize(("bits", "order"), LAYOUTS)
def test_every_layout_gives_the_same_values(bits: int, order: str, rel: bool, extended: bool) -> None:
    elf = parse_elf(make_elf(bits, order, rel=rel, extended=extended))
    assert (elf.bits, elf.byteorder, elf.type, elf.machine_name) == (bits, order, 1, "x86_64")
    assert [section.name for section in elf.sections] == [
        "",
        ".text",
        ".symtab",
        ".strtab",
        ".rel.text",
        ".shndx",
    ]
    text = elf.section(".text")
    assert text is not None
    assert bytes(text.data) == b"\x90" * 16
    start = elf.symbols[1]
    assert (start.name, start.value, start.size, start.bind, start.type, start.shndx) == (
        "start",
        4,
        8,
        1,
        2,
        1,
    )
    assert [tuple(row) for row in elf.relocations(text)] == [(4, 2, 1, None if rel else -4)]


def test_section_that_is_not_there_is_none() -> None:
    assert parse_elf(make_elf(64, "little")).section(".nope") is None


def test_machines_have_names() -> None:
    assert machine_name(62) == "x86_64"
    assert machine_name(Machine.AARCH64) == "aarch64"
    assert machine_name(9999) == "machine 9999"


def test_nobits_has_a_size_and_no_data() -> None:
    data = build_relocatable(62, [NewSection(".bss", type=8, size=1 << 40)])
    bss = parse_elf(data).section(".bss")
    assert bss is not None
    assert (bss.size, len(bss.data)) == (1 << 40, 0)


def test_stripped_file_has_no_symbols() -> None:
    data = build_relocatable(62, [NewSection(".text", b"x")])
    table = section_at(data, 2)  # .symtab
    elf = parse_elf(bent(data, table + 4, "<I", 1))
    assert elf.symbol_table is None
    assert elf.symbols == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected an ELF file (7f 45 4c 46), found nothing"),
        (b"MZ\x90\0", "found 4d 5a 90 00"),
        (b"\x7fELF", "found 4"),
        (b"\x7fELF\x02\x01" + bytes(20), "header of 64 bytes, found 26"),
        (b"\x7fELF\x03\x01" + bytes(80), "found 3 and 1"),
        (b"\x7fELF\x02\x07" + bytes(80), "found 2 and 7"),
    ],
)
def test_what_is_no_elf_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ElfError, match=r"x\.ko: ") as caught:
        parse_elf(data, name="x.ko")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (SHOFF, "<Q", 1 << 60, "section headers: expected 64 bytes at"),
        (SHENTSIZE, "<H", 40, "expected entries of 64 bytes, found 40"),
        (SHNUM, "<H", 60000, "section headers: expected 3840000 bytes"),
        (SHSTRNDX, "<H", 99, "names are in section 99 of 6"),
    ],
)
def test_lies_in_the_header_are_found(at: int, layout: str, value: int, message: str) -> None:
    with pytest.raises(ElfError) as caught:
        parse_elf(bent(make_elf(64, "little"), at, layout, value), name="x.ko")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.ko: ")


@pytest.mark.parametrize(
    ("number", "at", "value", "message"),
    [
        (1, 32, 1 << 50, "section 1: expected 1125899906842624 bytes"),
        (1, 0, 4000, "name at 4000"),
        (2, 40, 1, "expected a string table in section 1"),
        (2, 56, 16, "expected entries of 24 bytes, found 16"),
        (4, 56, 8, "expected entries of 24 bytes, found 8"),
    ],
)
def test_lies_in_a_section_header_are_found(number: int, at: int, value: int, message: str) -> None:
    data = make_elf(64, "little")
    layout = "<I" if at in {0, 40} else "<Q"
    with pytest.raises(ElfError) as caught:
        read_all(bent(data, section_at(data, number) + at, layout, value))
    assert message in str(caught.value)


def test_truncated_file_says_so() -> None:
    with pytest.raises(ElfError, match="is the file truncated"):
        parse_elf(make_elf(64, "little")[:-1])


def test_two_symbol_tables_are_refused() -> None:
    data = make_elf(64, "little")
    with pytest.raises(ElfError, match="expected one symbol table, found 2"):
        parse_elf(bent(data, section_at(data, 1) + 4, "<I", 2)).symbols  # noqa: B018


def test_relocation_to_a_symbol_beyond_the_table() -> None:
    data = make_elf(64, "little")
    at = data.index(struct.pack("<QQ", 4, 1 << 32 | 2)) + 12
    elf = parse_elf(bent(data, at, "<I", 7))
    with pytest.raises(ElfError, match="entry 0 names symbol 7 of 2"):
        elf.relocations(elf.sections[1])


def test_extended_index_without_its_table() -> None:
    data = make_elf(64, "little", extended=True)
    with pytest.raises(ElfError, match="symbol 1 needs an extended section index"):
        parse_elf(bent(data, section_at(data, 5) + 4, "<I", 1)).symbols  # noqa: B018


def test_relocations_of_64_bit_mips_are_refused_by_name() -> None:
    elf = parse_elf(make_elf(64, "big", machine=Machine.MIPS))
    with pytest.raises(ElfError, match="64-bit MIPS"):
        elf.relocations(elf.sections[1])


def test_string_table_without_an_end() -> None:
    data = make_elf(64, "little")
    elf = parse_elf(data)
    table = elf.sections[3]
    assert table.type == SHT_STRTAB
    with pytest.raises(ElfError, match="does not end in a NUL"):
        parse_elf(bent(data, table.offset + table.size - 1, "B", 65))


def test_names_that_share_one_long_tail_cost_little() -> None:
    count = 60_000
    long_name = "x" * count
    symbols = [NewSymbol(long_name)] + [NewSymbol("", id=str(index)) for index in range(count)]
    data = bytearray(build_relocatable(62, [], symbols))
    table = parse_elf(bytes(data)).sections[1]
    for index in range(count):
        struct.pack_into("<I", data, table.offset + 24 * index, index)
    elf = parse_elf(bytes(data))
    tracemalloc.start()
    try:
        with pytest.raises(ElfError, match="names overlap beyond reason"):
            elf.symbols  # noqa: B018
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(data)  # all names together have 1000 times the file's bytes


def test_sections_that_overlap_beyond_reason() -> None:
    data = build_relocatable(62, [NewSection(f".s{index}", b"12345678") for index in range(40)])
    made = bytearray(data)
    for index in range(1, 41):
        struct.pack_into("<QQ", made, section_at(data, index) + 24, 0, len(data))
    with pytest.raises(ElfError, match="sections overlap"):
        parse_elf(bytes(made))


def test_name_that_is_not_utf8_can_be_printed() -> None:
    data = make_elf(64, "little").replace(b"start", b"st\xffrt")
    assert parse_elf(data).symbols[1].name == "st\\xffrt"
