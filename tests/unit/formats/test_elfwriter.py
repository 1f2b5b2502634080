# SPDX-License-Identifier: MIT
"""Written files are what the gABI says; pyelftools, which shares no code with us, reads the same."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from lkm.formats.elf import (
    R_X86_64_64,
    SHF_ALLOC,
    SHF_INFO_LINK,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    parse_elf,
)
from lkm.formats.elfwriter import (
    ABSOLUTE,
    ElfWriteError,
    NewRelocation,
    NewSection,
    NewSymbol,
    build_relocatable,
)

CALL = NewRelocation(1, 4, "kfree", -4)
POINTERS = [NewRelocation(0, R_X86_64_64, "start"), NewRelocation(8, R_X86_64_64, "mutex", 16)]
SECTIONS = [
    NewSection(".text", b"\x90" * 5, flags=SHF_ALLOC | 4, align=16, relocations=[CALL]),
    NewSection(".bss", type=SHT_NOBITS, flags=SHF_ALLOC | 2, align=64, size=100),
    NewSection(".data", bytes(24), flags=SHF_ALLOC | 2, align=32, relocations=POINTERS),
]
SYMBOLS = [
    NewSymbol("start", ".text", 1, 4, type=STT_FUNC),
    NewSymbol("", ABSOLUTE, 0xFFFFFFFF81000000, bind=STB_LOCAL, id="mutex"),
    NewSymbol("kfree"),
    NewSymbol("here", ".data", bind=STB_LOCAL),
]


def oracle() -> Any:
    """The file as pyelftools sees it."""
    return ELFFile(io.BytesIO(build_relocatable(62, SECTIONS, SYMBOLS)))


def test_pyelftools_reads_what_was_written() -> None:
    elf = oracle()
    assert (elf["e_type"], elf["e_machine"], elf.elfclass, elf.little_endian) == (
        "ET_REL",
        "EM_X86_64",
        64,
        True,
    )
    names = [section.name for section in elf.iter_sections()]
    assert names == [
        "",
        ".text",
        ".bss",
        ".data",
        ".rela.text",
        ".rela.data",
        ".symtab",
        ".strtab",
        ".shstrtab",
    ]
    assert elf.get_section_by_name(".text").data() == b"\x90" * 5
    assert elf.get_section_by_name(".bss")["sh_size"] == 100
    for section in elf.iter_sections():
        assert section["sh_offset"] % max(1, section["sh_addralign"]) == 0
    symtab = elf.get_section_by_name(".symtab")
    assert [symbol.name for symbol in symtab.iter_symbols()] == ["", "", "here", "start", "kfree"]
    assert symtab["sh_info"] == 3, "the first global"
    assert elf.get_section(symtab["sh_link"]).name == ".strtab"
    mutex, _, start, kfree = list(symtab.iter_symbols())[1:]
    assert (mutex["st_shndx"], mutex["st_value"]) == ("SHN_ABS", 0xFFFFFFFF81000000)
    assert (start["st_info"]["bind"], start["st_info"]["type"]) == ("STB_GLOBAL", "STT_FUNC")
    assert kfree["st_shndx"] == "SHN_UNDEF"


def test_relocation_sections_are_linked_as_the_kernel_wants() -> None:
    elf = oracle()
    table = elf.get_section_by_name(".rela.data")
    assert table["sh_flags"] == SHF_INFO_LINK
    assert elf.get_section(table["sh_info"]).name == ".data"
    assert elf.get_section(table["sh_link"]).name == ".symtab"
    rows = [(row["r_offset"], row["r_info_type"], row["r_info_sym"], row["r_addend"])
            for row in table.iter_relocations()]  # fmt: skip
    assert rows == [(0, 1, 3, 0), (8, 1, 1, 16)]


def test_own_reader_agrees() -> None:
    elf = parse_elf(build_relocatable(183, SECTIONS, SYMBOLS, flags=5))
    assert (elf.machine_name, elf.flags) == ("aarch64", 5)
    data = elf.section(".data")
    assert data is not None
    target = elf.symbols[elf.relocations(data)[1].symbol]
    assert (target.name, target.shndx, target.bind) == ("", SHN_ABS, STB_LOCAL)
    assert [symbol.shndx for symbol in elf.symbols if symbol.name == "kfree"] == [SHN_UNDEF]
    assert [symbol.bind for symbol in elf.symbols[3:]] == [STB_GLOBAL, STB_GLOBAL]


def test_same_input_gives_the_same_bytes() -> None:
    assert build_relocatable(62, SECTIONS, SYMBOLS) == build_relocatable(62, list(SECTIONS), list(SYMBOLS))


def test_nothing_at_all_is_still_a_file() -> None:
    elf = parse_elf(build_relocatable(62, []))
    assert [section.name for section in elf.sections] == ["", ".symtab", ".strtab", ".shstrtab"]
    assert len(elf.symbols) == 1


@pytest.mark.parametrize(
    ("sections", "symbols", "message"),
    [
        ([NewSection(".a"), NewSection(".a")], [], "section .a is there twice"),
        ([NewSection(".a", align=3)], [], "alignment 3"),
        ([NewSection(".a", b"x", type=SHT_NOBITS)], [], "NOBITS has no data"),
        ([NewSection(".a", relocations=[NewRelocation(0, 1, "x")])], [], "relocation to x"),
        ([NewSection(".a\0")], [], "holds a NUL"),
        ([], [NewSymbol("x", ".nope")], "symbol x: there is no section .nope"),
        ([], [NewSymbol("x"), NewSymbol("x")], "symbol x is there twice"),
        ([], [NewSymbol("x", value=1 << 64)], "does not fit"),
        ([], [NewSymbol("x", value=-1)], "does not fit"),
    ],
)
def test_what_cannot_be_written_is_named(
    sections: list[NewSection], symbols: list[NewSymbol], message: str
) -> None:
    with pytest.raises(ElfWriteError, match=message):
        build_relocatable(62, sections, symbols)


def test_sections_that_go_with_others_and_relocations_as_bytes() -> None:
    rows = struct.pack("<QQq", 8, 2 << 32 | R_X86_64_64, -3)
    sections = [
        NewSection(".text", bytes(16), flags=SHF_ALLOC),
        NewSection("entries", bytes(16), flags=SHF_ALLOC | 0x80, link=".text", rows=rows, relocations=[
            NewRelocation(0, R_X86_64_64, "start")
        ]),
    ]  # fmt: skip
    symbols = [NewSymbol("here", ".text", bind=STB_LOCAL), NewSymbol("start", ".text")]
    elf: Any = ELFFile(io.BytesIO(build_relocatable(62, sections, symbols)))
    entries = elf.get_section_by_name("entries")
    assert elf.get_section(entries["sh_link"]).name == ".text"
    table = elf.get_section_by_name(".relaentries")
    found = [(row["r_offset"], row["r_info_sym"], row["r_addend"]) for row in table.iter_relocations()]
    assert found == [(8, 2, -3), (0, 2, 0)]
    with pytest.raises(ElfWriteError, match="no section nowhere that it goes with"):
        build_relocatable(62, [NewSection("a", link="nowhere")])
    with pytest.raises(ElfWriteError, match="relocations of 5 bytes"):
        build_relocatable(62, [NewSection("a", rows=bytes(5))])
