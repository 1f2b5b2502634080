# SPDX-License-Identifier: MIT
"""What is wrong with an object is told: all of it, with what, where and what next."""

from __future__ import annotations

import re

import pytest

from lkm.errors import LkmError
from lkm.formats.elf import R_X86_64_64, SHF_ALLOC, SHN_COMMON, STB_LOCAL, Machine, parse_elf
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol
from lkm.modpost.kernel import Kernel
from lkm.modpost.objects import ObjectError
from lkm.modpost.problems import Kind, Problem
from lkm.modpost.run import make_module
from tests.builders import make_module as make_ready
from tests.unit.modpost.test_make import old_exports
from tests.unit.modpost.world import make_kernel, make_object


def problems_of(image: bytes, kernel: Kernel | None = None, *, name: str = "demo") -> dict[Kind, Problem]:
    """By kind; that each says what to do, and that no module is made where one is fatal, is asserted for all."""
    outcome = make_module(image, kernel or make_kernel(), name=name, where="demo.o", crcs={})
    assert all(problem.words and problem.remedy for problem in outcome.problems)
    assert bool(outcome.image) is not any(problem.fatal for problem in outcome.problems)
    return {problem.kind: problem for problem in outcome.problems}


def test_all_errors_are_told_at_once() -> None:
    image = make_object(
        modinfo=(("vermagic", "mine"),), imports=("nobody_has_it", "kernel_spaced", "nor_this"),
        marks=(("_printk", "", ""),),
    )  # fmt: skip
    outcome = make_module(image, make_kernel(), name="x" * 56, where="demo.o", crcs={})
    assert sorted(problem.kind.value for problem in outcome.problems if problem.fatal) == [
        "export-twice", "name-too-long", "namespace", "no-license", "own-info", "symbol-missing", "symbol-missing",
    ]  # fmt: skip
    assert not outcome.image


def test_what_nobody_exports_is_named() -> None:
    problem = problems_of(make_object(imports=("nobody_has_it",)))[Kind.SYMBOL_MISSING]
    assert (problem.symbol, problem.fatal) == ("nobody_has_it", True)
    assert "6.1.0-test" in problem.words
    assert "--with" in problem.remedy


def test_weak_imports_may_be_missing() -> None:
    assert problems_of(make_object(weak=("nobody_has_it",))) == {}


def test_numbers_behind_names_do_not_count() -> None:
    assert problems_of(make_object(imports=("_printk.123",))) == {}


@pytest.mark.parametrize(("licences", "fine"), [
    (("GPL",), True), (("Dual BSD/GPL",), True), (("Proprietary",), False), (("GPL", "Proprietary"), False),
])  # fmt: skip
def test_gpl_only_symbols_are_for_compatible_licences(licences: tuple[str, ...], *, fine: bool) -> None:
    info = [("license", licence) for licence in licences]
    found = problems_of(make_object(modinfo=info, imports=("_printk", "kernel_gpl")))
    assert (Kind.GPL_ONLY not in found) is fine
    if not fine:
        assert found[Kind.GPL_ONLY].fatal
        assert "'Proprietary'" in found[Kind.GPL_ONLY].words


def test_namespaces_are_to_be_imported() -> None:
    image = make_object(imports=("kernel_spaced",))
    assert problems_of(image)[Kind.NAMESPACE].fatal
    allowed = make_kernel(config={"CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS": "y"})
    assert not problems_of(image, allowed)[Kind.NAMESPACE].fatal
    info = (("license", "GPL"), ("import_ns", "SPACE"))
    assert problems_of(make_object(modinfo=info, imports=("kernel_spaced",))) == {}


def test_some_symbols_are_for_modules_that_they_name() -> None:
    kernel, image = make_kernel("6.18.1"), make_object(imports=("for_demo",))
    assert problems_of(image, kernel, name="demo") == {}
    assert problems_of(image, kernel, name="stranger")[Kind.NAMESPACE].fatal
    info = (("license", "GPL"), ("import_ns", "module:demo"))
    assert problems_of(make_object(modinfo=info), kernel)[Kind.NAMESPACE_FORBIDDEN].fatal


def test_crcs_that_are_missing_are_told() -> None:
    found = problems_of(make_object(imports=("unversioned",), marks=(("mine", "", ""),)))
    assert set(found) == {Kind.NO_CRC, Kind.EXPORT_CRC}
    assert not any(problem.fatal for problem in found.values())
    assert ".NAME.o.cmd" in found[Kind.EXPORT_CRC].remedy
    assert problems_of(make_object(imports=("unversioned",)), make_kernel(versions=False)) == {}


def test_long_names_need_the_extended_form() -> None:
    image = make_object(imports=("a" * 60,))
    assert problems_of(image)[Kind.SYMBOL_TOO_LONG].fatal
    assert problems_of(image, make_kernel("6.18.1", extended=True)) == {}


@pytest.mark.parametrize(("symbol", "kind"), [
    (NewSymbol("mine", ".text", bind=STB_LOCAL), Kind.EXPORT_LOCAL), (NewSymbol("mine"), Kind.EXPORT_UNDEFINED),
])  # fmt: skip
def test_exports_are_of_global_symbols_that_are_defined(symbol: NewSymbol, kind: Kind) -> None:
    found = problems_of(make_object(marks=(("mine", "", ""),), symbols=[symbol]))
    assert found[kind].symbol == "mine"
    assert found[kind].fatal


@pytest.mark.parametrize(("symbol", "kind"), [
    (NewSymbol("zeta", ".text", bind=STB_LOCAL), Kind.EXPORT_LOCAL), (NewSymbol("zeta"), Kind.EXPORT_UNDEFINED),
])  # fmt: skip
def test_so_are_those_of_objects_of_before_6_4(symbol: NewSymbol, kind: Kind) -> None:
    sections, symbols = old_exports()
    others = [each for each in symbols if each.name != "zeta"]
    assert problems_of(make_object(extra=sections, symbols=[*others, symbol]))[kind].symbol == "zeta"


def test_exports_come_once_and_with_a_licence_that_is_known() -> None:
    marks = (("mine", "", ""), ("mine", "GPL", ""))
    assert problems_of(make_object(marks=marks, symbols=[NewSymbol("mine", ".text")]))[
        Kind.EXPORT_TWICE
    ].fatal
    assert problems_of(make_object(marks=(("mine", "BSD", ""),)))[Kind.EXPORT_STRANGE].fatal
    pointer = NewRelocation(0, R_X86_64_64, "_printk")
    strange = NewSection(".export_symbol", bytes(8), flags=SHF_ALLOC, relocations=[pointer])
    assert problems_of(make_object(extra=[strange]))[Kind.EXPORT_STRANGE].fatal


def test_exports_of_before_6_4_are_nothing_for_7_1() -> None:
    sections, symbols = old_exports()
    image = make_object(extra=sections, symbols=symbols)
    assert Kind.EXPORT_FORM not in problems_of(image, make_kernel("7.0.1"))
    assert problems_of(image, make_kernel("7.1.1"))[Kind.EXPORT_FORM].fatal


def test_exports_of_both_forms_are_refused() -> None:
    sections, symbols = old_exports()
    image = make_object(marks=(("mine", "", ""),), extra=sections, symbols=symbols)
    with pytest.raises(ObjectError, match=r"is exported as before 6\.4") as caught:
        problems_of(image)
    assert "headers of one kernel" in str(caught.value)


def test_a_version_without_its_checksum_is_told() -> None:
    found = problems_of(make_object(modinfo=(("license", "GPL"), ("version", "1"))))
    assert not found[Kind.NO_SRCVERSION].fatal


def test_allocation_tags_are_refused() -> None:
    tags = NewSection("alloc_tags", bytes(8), flags=SHF_ALLOC)
    assert problems_of(make_object(extra=[tags]))[Kind.NOT_SUPPORTED].fatal


def test_common_symbols_are_refused() -> None:
    image = bytearray(make_object(symbols=[NewSymbol("shared", ".text")]))
    elf = parse_elf(bytes(image))
    index = next(i for i, symbol in enumerate(elf.symbols) if symbol.name == "shared")
    table = elf.symbol_table
    assert table is not None
    at = table.offset + 24 * index + 6
    image[at : at + 2] = SHN_COMMON.to_bytes(2, "little")
    found = problems_of(bytes(image))[Kind.COMMON_SYMBOL]
    assert (found.symbol, found.fatal) == ("shared", True)
    assert "-fno-common" in found.remedy


def refuse(image: bytes, words: str, kernel: Kernel | None = None) -> None:
    with pytest.raises(LkmError, match=words) as error:
        make_module(image, kernel or make_kernel(), name="demo", where="demo.o", crcs={})
    assert error.value.message.startswith("demo.o")


def test_what_is_no_object_for_this_kernel_is_refused() -> None:
    refuse(make_object(machine=Machine.AARCH64), "an object for aarch64, the kernel is for x86_64")
    refuse(make_ready(), "it is a module already")
    refuse(b"int main;", "expected an ELF file")
    image = bytearray(make_object())
    image[16] = 3
    refuse(bytes(image), "expected a relocatable object")
    riscv = make_kernel(machine=Machine.RISCV)
    refuse(make_object(machine=Machine.RISCV), re.escape("no modules are made for riscv"), riscv)
    refuse(make_object(symbols=[NewSymbol("__this_module", ".text")]), "it defines __this_module itself")


def test_forms_that_are_not_linked_here_are_refused_with_a_way_on() -> None:
    refuse(make_object(symbols=[NewSymbol("__gnu_lto_slim", ".text")]), "slim LTO")
    packed = NewSection(".debug_info", bytes(64), flags=0x800)
    refuse(make_object(extra=[packed]), "compressed sections")


def test_init_and_exit_are_global() -> None:
    symbol = NewSymbol("init_module", ".text", bind=STB_LOCAL)
    refuse(make_object(init=False, symbols=[symbol]), "init_module is local")


def test_code_must_not_need_what_is_left_out() -> None:
    pointer = NewRelocation(0, 1, ".discard.addressable")
    data = NewSection(".data", bytes(8), flags=SHF_ALLOC, relocations=[pointer])
    refuse(make_object(extra=[data]), "which is left out of modules")
