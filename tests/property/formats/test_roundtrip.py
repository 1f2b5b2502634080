# SPDX-License-Identifier: MIT
"""What is written is read back, whatever it is; pyelftools agrees."""

from __future__ import annotations

import io
from typing import Any

from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm.formats.elf import SHN_ABS, SHN_UNDEF, parse_elf
from lkm.formats.elfwriter import ABSOLUTE, NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, parse_modinfo, render_modinfo
from lkm.formats.modversions import Version, parse_versions, render_versions
from lkm.formats.signature import append_signature, split_signature
from tests.builders import make_signature

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
# Anything but NUL and the surrogates, which UTF-8 has no bytes for.
NAMES = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def objects(draw: st.DrawFn) -> tuple[list[NewSection], list[NewSymbol]]:
    """Sections with relocations, and symbols in all kinds of places."""
    section_names = draw(st.lists(NAMES.map(lambda name: f".{name}"), unique=True, max_size=5))
    places = st.sampled_from(["", ABSOLUTE, *section_names])
    symbols = [
        NewSymbol(name, draw(places), draw(U64), draw(U64), draw(st.integers(0, 2)), draw(st.integers(0, 6)))
        for name in draw(st.lists(NAMES, unique=True, max_size=6))
    ]
    relocations: st.SearchStrategy[list[NewRelocation]] = st.just([])
    if symbols:
        each = st.builds(
            NewRelocation,
            U64,
            U32,
            st.sampled_from([symbol.key for symbol in symbols]),
            st.integers(-(1 << 63), (1 << 63) - 1),
        )
        relocations = st.lists(each, max_size=4)
    sections = [
        NewSection(name, draw(st.binary(max_size=40)), flags=draw(st.integers(0, 7)),
                   align=1 << draw(st.integers(0, 6)), relocations=draw(relocations))
        for name in section_names
    ]  # fmt: skip
    return sections, symbols


@given(objects())
def test_object_files(made: tuple[list[NewSection], list[NewSymbol]]) -> None:
    sections, symbols = made
    data = build_relocatable(62, sections, symbols)
    assert data == build_relocatable(62, sections, symbols)
    elf = parse_elf(data)
    places = {"": SHN_UNDEF, ABSOLUTE: SHN_ABS}
    for number, section in enumerate(sections, 1):
        places[section.name] = number
        read = elf.sections[number]
        assert (read.name, bytes(read.data), read.flags, read.align) == section[:2] + section[3:5]
        assert read.offset % section.align == 0
        assert [
            (row.offset, row.type, elf.symbols[row.symbol].name, row.addend) for row in elf.relocations(read)
        ] == [tuple(row) for row in section.relocations]
    assert sorted(symbol[:6] for symbol in symbols) == sorted(
        (row.name, next(name for name, number in places.items() if number == row.shndx),
         row.value, row.size, row.bind, row.type)
        for row in elf.symbols[1:]
    )  # fmt: skip
    first_global = elf.symbol_table.info if elf.symbol_table else 0
    assert all((symbol.bind == 0) == (index < first_global) for index, symbol in enumerate(elf.symbols))


@given(objects())
def test_pyelftools_reads_the_same(made: tuple[list[NewSection], list[NewSymbol]]) -> None:
    data = build_relocatable(62, *made)
    ours, theirs = parse_elf(data), ELFFile(io.BytesIO(data))
    assert [
        (row.name, row.type, row.offset, row.size, row.link, row.info, row.align) for row in ours.sections
    ] == [
        (row.name, _number(row["sh_type"]), row["sh_offset"], row["sh_size"], row["sh_link"], row["sh_info"],
         row["sh_addralign"])
        for row in theirs.iter_sections()
    ]  # fmt: skip
    table: Any = theirs.get_section_by_name(".symtab")
    assert [(row.name, row.value, row.size) for row in ours.symbols] == [
        (row.name, row["st_value"], row["st_size"]) for row in table.iter_symbols()
    ]


def _number(kind: str) -> int:
    return {"SHT_NULL": 0, "SHT_PROGBITS": 1, "SHT_SYMTAB": 2, "SHT_STRTAB": 3, "SHT_RELA": 4}[kind]


KEYS = NAMES.filter(lambda name: "=" not in name)
VALUES = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(KEYS, VALUES)), st.lists(KEYS))
def test_modinfo(items: list[tuple[str, str]], bad: list[str]) -> None:
    info = ModInfo(tuple(items), tuple(bad))
    assert parse_modinfo(render_modinfo(info)) == info


@given(st.lists(st.builds(Version, NAMES.filter(lambda name: len(name.encode()) < 56), U32)))
def test_versions(versions: list[Version]) -> None:
    assert list(parse_versions(render_versions(versions))) == versions


@settings(max_examples=50)
@given(st.binary(), st.binary(min_size=1))
def test_signature(payload: bytes, signature: bytes) -> None:
    assert append_signature(payload, signature) == payload + make_signature(signature)
    rest, found = split_signature(payload + make_signature(signature))
    assert bytes(rest) == payload
    assert found is not None
    assert found.signature == signature
