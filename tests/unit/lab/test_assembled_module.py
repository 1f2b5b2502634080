# SPDX-License-Identifier: MIT
"""Assembled modules as files: read back by lkm's own reader and by pyelftools, for both architectures."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from lkm.errors import LabError, LkmError
from lkm.formats.btf import Btf
from lkm.formats.elf import Machine
from lkm.formats.elfwriter import NewSection
from lkm.formats.exports import Export as FoundExport
from lkm.formats.module import ModuleFile, parse_module
from lkm.formats.modversions import Version
from lkm.formats.sibling import this_module_section, versions_section
from lkm.lab.assembled.assemble import assemble_module, export_crc
from lkm.lab.assembled.language import (
    At,
    Export,
    Function,
    Module,
    Object,
    Parameter,
    Raw,
    Return,
    Self,
    call,
    struct_object,
)
from lkm.lab.assembled.target import Target
from tests.builders import BtfBuilder, make_module

MACHINES = {"x86_64": Machine.X86_64, "arm64": Machine.AARCH64}
CRCS = {"module_layout": 0x11111111, "_printk": 0x22222222, "param_ops_int": 0x33333333}

both = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def small_btf() -> Btf:
    btf = BtfBuilder()
    word, char, pointer = btf.add_int("unsigned int", 4), btf.add_int("char", 1), btf.add_pointer()
    half = btf.add_int("short", 2)
    entry = btf.add_struct("list_head", 16, [("next", pointer, 0), ("prev", pointer, 64)])
    members = [("name", pointer, 0), ("mod", pointer, 64), ("ops", pointer, 128), ("perm", half, 192)]
    btf.add_struct("kernel_param", 40, [*members, ("level", char, 208), ("arg", pointer, 256)])
    fields = [("size", word, 0), ("entry", entry, 64), ("label", btf.add_array(char, 8), 192)]
    btf.add_struct("thing", 40, [*fields, ("text", pointer, 256)])
    return Btf(btf.build())


def make_target(
    machine: int = Machine.X86_64, *, versions: Mapping[str, int] | None = None, flagged: bool = False
) -> Target:
    extra = [NewSection(name, b"\0") for name in (".plt", ".init.plt")] if machine == Machine.AARCH64 else []
    sibling = parse_module(make_module("brother", machine=machine, versions=versions, extra=extra))
    symbols = versions or dict.fromkeys(CRCS, 0)
    return Target("6.1.0", sibling, small_btf(), symbols, flagged)


def demo(**changes: Any) -> Module:
    module = Module(
        name="de-mo",
        description="for tests",
        functions=(
            Function("demo_init", (call("_printk", "hello\n"), Return(3)), section=".init.text"),
            Function("demo_exit", (call("helper"),), section=".exit.text"),
            Function("helper", ()),
            Function("second", ()),
        ),
        init="demo_init",
        exit="demo_exit",
        objects=(Raw("count", struct.pack("<I", 5)),),
    )
    return module._replace(**changes)


def assembled(module: Module, target: Target) -> tuple[ModuleFile, ELFFile]:
    data = assemble_module(module, target)
    return parse_module(data), ELFFile(io.BytesIO(data))


def part(elf: ELFFile, name: str) -> Any:
    """A section, None where there is none."""
    return elf.get_section_by_name(name)


def relocations(elf: ELFFile, section: str) -> dict[int, tuple[str, int]]:
    """Offset → the symbol (a section's name where it has none) and the addend."""
    rows = part(elf, f".rela{section}")
    assert isinstance(rows, RelocationSection), section
    table: Any = elf.get_section(rows["sh_link"])
    found = {}
    for row in rows.iter_relocations():
        symbol = table.get_symbol(row["r_info_sym"])
        name = symbol.name or elf.get_section(symbol["st_shndx"]).name
        found[row["r_offset"]] = (name, row["r_addend"])
    return found


@both
def test_it_is_tied_to_its_kernel_as_its_sibling_is(machine: int) -> None:
    target = make_target(machine, versions=CRCS)
    file, elf = assembled(demo(), target)
    assert (file.name, file.vermagic, file.machine) == ("de_mo", target.sibling.vermagic, machine)
    assert (file.modinfo.get("license"), file.modinfo.get("description")) == ("GPL", "for tests")
    assert file.this_module == target.sibling.this_module._replace(name_offset=24)
    assert file.versions == (Version("module_layout", 0x11111111), Version("_printk", 0x22222222))
    assert file.imports == ("_printk",)
    assert (file.intree, file.build_id is not None and len(file.build_id)) == (False, 20)
    assert (part(elf, ".init.plt") is not None) == (machine == Machine.AARCH64)
    assert part(elf, ".text.ftrace_trampoline") is None, "the sibling has none"


@both
def test_init_and_exit_are_other_names_of_two_functions(machine: int) -> None:
    _, elf = assembled(demo(), make_target(machine))
    table = part(elf, ".symtab")
    names = [symbol.name for symbol in table.iter_symbols()]
    for alias, function, section in (
        ("init_module", "demo_init", ".init.text"),
        ("cleanup_module", "demo_exit", ".exit.text"),
    ):
        (one,), (other,) = table.get_symbol_by_name(alias), table.get_symbol_by_name(function)
        assert (one["st_value"], one["st_shndx"]) == (other["st_value"], other["st_shndx"])
        assert elf.get_section(one["st_shndx"]).name == section
        assert names.index(function) < names.index(alias), "the kernel shows the first in a trace"


def test_without_an_exit_there_is_none() -> None:
    file, _ = assembled(demo(exit=""), make_target())
    assert (file.this_module.init_offset, file.this_module.exit_offset) == (312, None)


def test_without_modversions_there_are_no_crcs() -> None:
    file, elf = assembled(demo(exports=(Export("helper"),)), make_target())
    assert file.versions is None
    assert file.exports == (FoundExport("helper", True, None, ""),)
    assert part(elf, "__kcrctab_gpl") is None


@both
@pytest.mark.parametrize("flagged", [False, True])
def test_exports(machine: int, *, flagged: bool) -> None:
    target = make_target(machine, versions=CRCS, flagged=flagged)
    exports = (Export("second"), Export("helper", gpl=False))
    file, elf = assembled(demo(exports=exports), target)
    assert set(file.exports) == {
        FoundExport("helper", False, export_crc("helper"), ""),
        FoundExport("second", True, export_crc("second"), ""),
    }
    names = part(elf, "__ksymtab_strings").data()
    tables = (
        {"__ksymtab": ("helper", "second")}
        if flagged
        else {"__ksymtab": ("helper",), "__ksymtab_gpl": ("second",)}
    )
    for table, functions in tables.items():
        found = relocations(elf, table)
        assert len(found) == 3 * len(functions)
        for index, function in enumerate(functions):
            value, name, namespace = (found[12 * index + field] for field in (0, 4, 8))
            assert value == (function, 0)
            assert names[name[1] :].split(b"\0")[0] == function.encode()
            assert names[namespace[1] :].split(b"\0")[0] == b""
    flags = part(elf, "__kflagstab")
    assert (flags.data() if flags else None) == (b"\0\1" if flagged else None)


def test_one_fault_imports_what_another_exports_with_its_crc() -> None:
    target = make_target(versions=CRCS)
    module = demo(functions=(Function("demo_init", (call("answer"),)),), exit="", depends="other")
    file = parse_module(assemble_module(module, target, provided=["answer"]))
    assert file.imports == ("answer",)
    assert Version("answer", export_crc("answer")) in (file.versions or ())
    assert file.depends == ("other",)


def test_what_nobody_exports_is_an_error() -> None:
    module = demo(functions=(Function("demo_init", (call("secret"), call("other"))),), exit="")
    with pytest.raises(LabError, match=r"de-mo: 6\.1\.0 does not export other, secret"):
        assemble_module(module, make_target())


def test_parameters() -> None:
    level = Parameter("level", "param_ops_int", "count", 0o644, "int", "how many")
    module = demo(
        parameters=(level, Parameter("all", "own_ops", "")),
        objects=(Raw("count", bytes(4)), Raw("own_ops", bytes(8))),
    )
    file, elf = assembled(module, make_target())
    assert file.modinfo.get_all("parm") == ("level:how many", "all:")
    assert file.modinfo.get_all("parmtype") == ("level:int",)
    section = part(elf, "__param")
    found = relocations(elf, "__param")
    assert (len(section.data()), section["sh_addralign"]) == (80, 8)
    assert (section.data()[24:26], section.data()[26]) == (struct.pack("<H", 0o644), 0xFF)
    texts = part(elf, ".rodata.str").data()
    assert texts[found[0][1] :].split(b"\0")[0] == b"level"
    assert [found[at] for at in (8, 16, 32)] == [("__this_module", 0), ("param_ops_int", 0), ("count", 0)]
    assert found[56] == ("own_ops", 0)
    assert 72 not in found, "no variable, no address"


def test_objects_have_their_fields_where_the_kernel_has_them() -> None:
    first = struct_object(
        "one", "thing", {"size": -1, "entry.next": Self("entry"), "label": b"abc", "text": "abc"}
    )
    two = Object("two", "thing", ({}, {"entry.prev": At("one", 4), "entry.next": Self("entry.prev")}))
    _, elf = assembled(demo(objects=(first, two)), make_target())
    data = part(elf, ".data").data()
    found = relocations(elf, ".data")
    (place,) = part(elf, ".symtab").get_symbol_by_name("two")
    assert (place["st_value"], place["st_size"]) == (64, 80)
    assert (data[:4], data[24:32]) == (b"\xff" * 4, b"abc\0\0\0\0\0")
    assert (found[8], found[64 + 40 + 16], found[64 + 40 + 8]) == (("one", 8), ("one", 4), ("two", 56))
    assert found[32][0] == ".rodata.str"


def test_a_field_that_is_too_long_is_an_error() -> None:
    with pytest.raises(LabError, match="one: label has 8 bytes, 9 were given"):
        assemble_module(
            demo(objects=(struct_object("one", "thing", {"label": b"123456789"}),)), make_target()
        )


def test_the_same_input_gives_the_same_bytes() -> None:
    files = {assemble_module(demo(), make_target(versions=CRCS)) for _ in range(2)}
    assert len(files) == 1
    other = parse_module(assemble_module(demo(description="another"), make_target(versions=CRCS)))
    assert other.build_id != parse_module(files.pop()).build_id


def test_another_architecture_is_an_error() -> None:
    target = make_target()
    foreign = target._replace(sibling=target.sibling._replace(machine=Machine.S390))
    with pytest.raises(LabError, match="no code generator"):
        assemble_module(demo(), foreign)


def test_a_sibling_that_lacks_something_is_named() -> None:
    sibling = parse_module(make_module("half", exit_offset=None, versions={"_printk": 1}))
    with pytest.raises(LkmError, match="no exit function to go by"):
        this_module_section(sibling, name="x", pointer=1, exit_function=True)
    with pytest.raises(LkmError, match="no module_layout"):
        versions_section(sibling)


def test_names_that_change_between_releases() -> None:
    target = make_target(versions=CRCS)
    assert target.first("printk", "_printk") == "_printk"
    with pytest.raises(LabError, match=r"no module of 6\.1\.0 imports gone or lost"):
        target.first("gone", "lost")
