# SPDX-License-Identifier: MIT
"""A module file becomes one value; what is no module, or a foreign one, is refused in one line."""

from __future__ import annotations

import gzip
import lzma
import struct

import pytest
import zstandard

from lkm.errors import ParseError
from lkm.formats.elf import R_X86_64_64, STB_LOCAL, Machine
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.exports import Export
from lkm.formats.module import ModuleError, ThisModule, parse_module
from lkm.formats.modversions import Version
from tests.builders import BUILD_ID, VERMAGIC, make_absolute_crc, make_elf, make_module, make_signature


def test_what_a_module_says() -> None:
    module = parse_module(
        make_module(
            "snd_demo",
            modinfo=[
                ("name", "snd_demo"),
                ("depends", "snd,snd-timer"),
                ("intree", "Y"),
                ("vermagic", VERMAGIC),
            ],
            versions={"module_layout": 0xDEADBEEF, "kfree": 7},
            imports=["kfree", "_printk"],
            weak_imports=["perhaps"],
        )
    )
    assert module.name == "snd_demo"
    assert module.release == "6.1.0-test"
    assert module.vermagic == VERMAGIC
    assert module.depends == ("snd", "snd_timer")
    assert module.intree
    assert module.machine == Machine.X86_64
    assert module.versions == (Version("module_layout", 0xDEADBEEF), Version("kfree", 7))
    assert module.imports == ("kfree", "_printk", "perhaps")
    assert module.weak_imports == ("perhaps",)
    assert module.build_id == BUILD_ID
    assert module.signature is None
    assert tuple(section.name for section in module.elf.sections[1:3]) == (".text", ".modinfo")


def test_what_is_left_out_is_empty() -> None:
    module = parse_module(make_module(modinfo=[], build_id=None), name="/x/my-driver.ko.xz")
    assert module.name == "demo", "struct module has it as well"
    assert (module.vermagic, module.release, module.depends, module.intree) == ("", "", (), False)
    assert (module.versions, module.build_id, module.exports) == (None, None, ())


def test_file_name_stands_in_for_a_missing_name() -> None:
    assert parse_module(make_module("", modinfo=[]), name="/x/my-driver.ko.xz").name == "my_driver"


@pytest.mark.parametrize("by_section", [False, True])
@pytest.mark.parametrize("machine", [Machine.X86_64, Machine.AARCH64])
def test_offsets_in_struct_module(machine: int, by_section: bool) -> None:
    module = parse_module(make_module(machine=machine, by_section=by_section))
    assert module.this_module == ThisModule(size=896, init_offset=312, exit_offset=848, name_offset=24)


@pytest.mark.parametrize("by_section", [False, True])
def test_module_without_an_exit(by_section: bool) -> None:
    module = parse_module(make_module(exit_offset=None, by_section=by_section))
    assert (module.this_module.init_offset, module.this_module.exit_offset) == (312, None)


def test_relocation_to_an_alias_of_init_counts() -> None:
    section = ".gnu.linkonce.this_module"
    data = build_relocatable(
        62,
        [NewSection(".text", bytes(32)), NewSection(section, bytes(64), relocations=[
            NewRelocation(8, R_X86_64_64, "my_init"), NewRelocation(16, R_X86_64_64, "elsewhere")])],
        [NewSymbol("my_init", ".text", 4, bind=STB_LOCAL), NewSymbol("init_module", ".text", 4),
         NewSymbol("elsewhere", ".text", 8)],
    )  # fmt: skip
    assert parse_module(data).this_module == ThisModule(64, 8, None, None)


def test_exports_of_both_kinds_with_their_crcs() -> None:
    module = parse_module(make_module(exports={"a": 1, "b": 2}, gpl_exports={"c": 0xFFFFFFFF}))
    assert module.exports == (
        Export("a", gpl=False, crc=1, namespace=""),
        Export("b", gpl=False, crc=2, namespace=""),
        Export("c", gpl=True, crc=0xFFFFFFFF, namespace=""),
    )


def test_exports_of_other_kernels() -> None:
    """CRCs as absolute symbols (5.10), a namespace, and the flags of 7.x in place of a GPL table."""
    data = build_relocatable(
        62,
        [NewSection(".gnu.linkonce.this_module", bytes(64)), NewSection("__ksymtab", bytes(24)),
         NewSection("__ksymtab_strings", b"old\0NS\0"), NewSection("__kflagstab", b"\0\1")],
        [NewSymbol("__ksymtab_old", "__ksymtab"), make_absolute_crc("old", 5),
         NewSymbol("__kstrtabns_old", "__ksymtab_strings", 4), NewSymbol("__flags_old", "__kflagstab"),
         NewSymbol("__ksymtab_new", "__ksymtab", 12), NewSymbol("__flags_new", "__kflagstab", 1),
         NewSymbol("__ksymtab_strings_count", ".gnu.linkonce.this_module")],
    )  # fmt: skip
    assert parse_module(data).exports == (Export("old", False, 5, "NS"), Export("new", True, None, ""))


def test_extended_versions_win() -> None:
    extra = [
        NewSection("__version_ext_crcs", struct.pack("<II", 1, 2)),
        NewSection(
            "__version_ext_names", b"one\0a_name_of_more_than_fifty_five_characters_as_rust_makes_them\0"
        ),
    ]
    versions = parse_module(make_module(versions={"old": 9}, extra=extra)).versions
    assert versions is not None
    assert [version.crc for version in versions] == [1, 2]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstandard.compress])
def test_compressed_and_signed(compress: object) -> None:
    assert callable(compress)
    plain = make_module()
    module = parse_module(compress(plain + make_signature(b"SIGNED")))
    assert module.signature is not None
    assert module.signature.signature == b"SIGNED"
    assert module.signature.payload_len == len(plain)
    assert bytes(module.elf.data) == plain


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a kernel module: expected an ELF file, found nothing"),
        (b"#!/bin/sh\n", "found 23 21 2f 62"),
        (make_elf(64, "little"), "no section .gnu.linkonce.this_module"),
        (make_elf(32, "little", machine=3), "a 32-bit little-endian file for i386"),
        (make_elf(64, "big", machine=22), "a 64-bit big-endian file for s390"),
    ],
)
def test_what_is_no_module_of_ours(data: bytes, message: str) -> None:
    with pytest.raises(ModuleError) as caught:
        parse_module(data, name="x.ko")
    assert str(caught.value).startswith("x.ko: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_executable_is_no_module() -> None:
    data = bytearray(make_module())
    data[16] = 2
    with pytest.raises(ModuleError, match="found ELF type 2"):
        parse_module(bytes(data))


def test_foreign_machine_is_refused_where_one_is_asked_for() -> None:
    data = make_module(machine=Machine.AARCH64)
    assert parse_module(data).machine == Machine.AARCH64
    assert parse_module(data, machines=[Machine.AARCH64]).machine == Machine.AARCH64
    with pytest.raises(ModuleError, match=r"x\.ko: for aarch64, expected x86_64"):
        parse_module(data, name="x.ko", machines=[Machine.X86_64])


@pytest.mark.parametrize("keep", [1, 20, 64, 500, 2000])
def test_truncated_file_is_a_parse_error_that_names_it(keep: int) -> None:
    data = make_module(versions={"a": 1})
    assert len(data) > 2000
    with pytest.raises(ParseError, match=r"x\.ko: "):
        parse_module(data[:keep], name="x.ko")
