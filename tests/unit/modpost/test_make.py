# SPDX-License-Identifier: MIT
"""What a module has that was made of an object; pyelftools reads the files, too."""

from __future__ import annotations

import hashlib
import io

import pytest
from elftools.elf.elffile import ELFFile

from lkm.formats.elf import SHF_ALLOC, SHN_UNDEF, SHT_NOBITS, Machine
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol
from lkm.formats.exports import Export
from lkm.formats.module import ModuleFile, parse_module
from lkm.modpost.kernel import Kernel
from lkm.modpost.run import make_module
from tests.unit.modpost.world import make_kernel, make_object

MARKS = (("zeta", "GPL", "SPACE"), ("alpha", "", ""), ("beta", "GPL", ""))
CRCS = {"alpha": 0xA, "beta": 0xB, "zeta": 0xC}


def made(image: bytes, kernel: Kernel | None = None, *, name: str = "de-mo") -> ModuleFile:
    """The module of an object without faults."""
    outcome = make_module(image, kernel or make_kernel(), name=name, where="demo.o", crcs=CRCS)
    assert not [problem for problem in outcome.problems if problem.fatal]
    assert [section.name for section in ELFFile(io.BytesIO(outcome.image)).iter_sections()]
    return parse_module(outcome.image, name="demo.ko")


def test_modinfo_has_what_modpost_adds_behind_what_the_object_has() -> None:
    module = made(
        make_object(modinfo=(("license", "GPL"), ("author", "me")), imports=("other_add", "third_add"))
    )
    assert module.modinfo.items == (
        ("license", "GPL"), ("author", "me"), ("depends", "other-mod,third"), ("retpoline", "Y"), ("name", "de_mo"),
        ("vermagic", "6.1.0-test SMP preempt mod_unload "),
    )  # fmt: skip
    assert not module.intree


def test_a_modinfo_without_its_last_nul_does_not_run_into_what_is_added() -> None:
    image = make_object(modinfo=())
    at = image.index(b"\0CC 1\0")
    whole = make_object(modinfo=(("license", "GPL"),))
    torn = whole.replace(b"license=GPL\0", b"license=GPLv")
    assert image[at : at + 6] == b"\0CC 1\0"
    outcome = make_module(torn, make_kernel(), name="demo", where="demo.o", crcs={})
    assert parse_module(outcome.image).modinfo.items[:2] == (("license", "GPLv"), ("depends", ""))


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("leave", [True, False])
def test_the_struct_is_as_the_sibling_has_it(*, init: bool, leave: bool) -> None:
    this = made(make_object(init=init, leave=leave)).this_module
    assert (this.size, this.name_offset) == (896, 24)
    assert (this.init_offset, this.exit_offset) == (312 if init else None, 848 if leave else None)


def test_crcs_are_those_of_the_exporters() -> None:
    module = made(make_object(imports=("_printk", "other_add"), weak=("nobody",)))
    assert dict(module.versions or ()) == {"module_layout": 0x1111, "_printk": 0x2222, "other_add": 0x6666}
    assert made(make_object(), make_kernel(versions=False)).versions is None


def test_extended_versions_have_the_long_names_too() -> None:
    module = made(make_object(imports=("_printk", "a" * 60)), make_kernel("6.18.1", extended=True))
    assert dict(module.versions or ()) == {"module_layout": 0x1111, "_printk": 0x2222, "a" * 60: 0x9999}
    short = module.elf.section("__versions")
    assert short is not None
    assert len(short.data) == 2 * 64


@pytest.mark.parametrize(("release", "tables"), [
    ("6.12.1", {"__ksymtab", "__ksymtab_gpl", "__kcrctab", "__kcrctab_gpl", "__ksymtab_strings"}),
    ("7.3.1", {"__ksymtab", "__kcrctab", "__kflagstab", "__ksymtab_strings"}),
])  # fmt: skip
def test_exports_have_the_tables_of_the_release(release: str, tables: set[str]) -> None:
    module = made(make_object(marks=MARKS), make_kernel(release))
    assert set(module.exports) == {
        Export("alpha", False, 0xA, ""), Export("beta", True, 0xB, ""), Export("zeta", True, 0xC, "SPACE"),
    }  # fmt: skip
    found = {s.name for s in module.elf.sections if s.name.startswith(("__k", "___k", ".export"))}
    assert found == tables


@pytest.mark.parametrize(("machine", "relocation"), [(Machine.X86_64, 2), (Machine.AARCH64, 261)])
def test_entries_of_a_table_are_sorted_distances(machine: int, relocation: int) -> None:
    elf = made(make_object(marks=MARKS, machine=machine), make_kernel("7.3.1", machine=machine)).elf
    table, names = elf.section("__ksymtab"), elf.section("__ksymtab_strings")
    assert table is not None
    assert names is not None
    rows = {row.offset: row for row in elf.relocations(table)}
    assert {row.type for row in rows.values()} == {relocation}
    found = []
    for at in range(0, len(table.data), 12):
        value, text, space = (rows[at + 4 * field] for field in range(3))
        strings = [
            bytes(names.data)[elf.symbols[row.symbol].value + (row.addend or 0) :].split(b"\0")[0]
            for row in (text, space)
        ]
        found.append((elf.symbols[value.symbol].name, *strings))
    assert found == [("alpha", b"alpha", b""), ("beta", b"beta", b""), ("zeta", b"zeta", b"SPACE")]


def old_exports() -> tuple[list[NewSection], list[NewSymbol]]:
    """As EXPORT_SYMBOL made them from 5.19 to 6.3, which had CRCs no more."""
    sections = [
        NewSection("___ksymtab+zeta", b"Z" * 12, flags=SHF_ALLOC, align=4),
        NewSection("___ksymtab_gpl+beta", b"B" * 12, flags=SHF_ALLOC, align=4),
        NewSection("___ksymtab+alpha", b"A" * 12, flags=SHF_ALLOC, align=4),
    ]
    names = {"zeta": "", "beta": "_gpl", "alpha": ""}
    symbols = [NewSymbol(f"__ksymtab_{name}", f"___ksymtab{gpl}+{name}") for name, gpl in names.items()]
    return sections, [*symbols, *(NewSymbol(name, ".text") for name in names)]


def test_older_exports_are_sorted_into_tables_and_get_crcs() -> None:
    sections, symbols = old_exports()
    elf = made(make_object(extra=sections, symbols=symbols)).elf
    content = {s.name: bytes(s.data) for s in elf.sections}
    assert content["__ksymtab"] == b"A" * 12 + b"Z" * 12
    assert content["__kcrctab"] == b"\x0a\0\0\0\x0c\0\0\0"
    assert content["__kcrctab_gpl"] == b"\x0b\0\0\0"
    assert {symbol.value for symbol in elf.symbols if symbol.name == "__ksymtab_zeta"} == {12}


def test_sections_are_joined_since_6_19() -> None:
    image = make_object()
    before, after = (made(image, make_kernel(release)).elf for release in ("6.18.1", "6.19.1"))
    assert {".text.unlikely", ".rodata.str1.1"} <= {section.name for section in before.sections}
    assert not {".text.unlikely", ".rodata.str1.1"} & {section.name for section in after.sections}
    text = after.section(".text")
    assert text is not None
    assert (text.size, text.align) == (16 + 16, 16)
    local = next(symbol for symbol in after.symbols if symbol.name == "demo_local")
    assert (after.sections[local.shndx].name, local.value) == (".text", 16 + 8)
    to_section = [row for row in after.relocations(text) if not after.symbols[row.symbol].name]
    assert [row.addend for row in to_section] == [16 + 4]


def test_what_modules_do_without_is_left_out_and_tables_are_aligned() -> None:
    elf = made(make_object(marks=MARKS)).elf
    names = {section.name for section in elf.sections}
    assert not names & {".discard.addressable", ".export_symbol"}
    bugs, empty = elf.section("__bug_table"), elf.section(".bss")
    assert bugs is not None
    assert empty is not None
    assert bugs.align == 8
    assert (empty.type, empty.size) == (SHT_NOBITS, 24)
    assert not [s.name for s in elf.symbols if s.name.startswith("__export_symbol_")]


def test_notes_are_the_siblings_and_the_build_id_its_own() -> None:
    first, second = made(make_object()), made(make_object(imports=("_printk", "kernel_gpl")))
    note = first.elf.section(".note.Linux")
    assert note is not None
    assert bytes(note.data) == b"note"
    assert first.elf.section(".orc_header") is not None
    assert first.build_id != second.build_id
    blank = bytes(first.elf.data).replace(first.build_id or b"", bytes(20))
    assert first.build_id == hashlib.sha1(blank, usedforsecurity=False).digest()


def test_this_module_is_defined_for_who_wants_it() -> None:
    pointer = NewRelocation(0, 1, "__this_module")
    section = NewSection("__param", bytes(8), flags=SHF_ALLOC, relocations=[pointer])
    elf = made(make_object(extra=[section], symbols=[NewSymbol("__this_module")])).elf
    found = [symbol for symbol in elf.symbols if symbol.name == "__this_module"]
    assert [symbol.shndx == SHN_UNDEF for symbol in found] == [False]
    param = elf.section("__param")
    assert param is not None
    assert [elf.symbols[row.symbol].name for row in elf.relocations(param)] == ["__this_module"]


def test_debugging_information_loses_what_points_to_sections_left_out() -> None:
    rows = [NewRelocation(0, 1, ".discard.addressable"), NewRelocation(8, 1, ".text", 3)]
    elf = made(make_object(extra=[NewSection(".debug_info", bytes(16), relocations=rows)])).elf
    debug = elf.section(".debug_info")
    assert debug is not None
    assert [(row.offset, row.addend) for row in elf.relocations(debug)] == [(8, 3)]


def test_the_same_object_gives_the_same_file() -> None:
    image, kernel = make_object(marks=MARKS), make_kernel("7.3.1")
    first, second = (make_module(image, kernel, name="demo", where="x", crcs={}).image for _ in range(2))
    assert first == second
