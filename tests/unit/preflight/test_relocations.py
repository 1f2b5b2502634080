# SPDX-License-Identifier: MIT
"""Relocations that apply_relocate_add refuses, on x86_64 and arm64."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, STB_WEAK, Machine
from lkm.formats.elfwriter import ABSOLUTE, NewRelocation, NewSection, NewSymbol
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Target
from lkm.preflight.values import Cause, Prediction
from tests.mutants.editor import Editor
from tests.unit.preflight.world import module, target

OWN = NewSymbol("own", ".text", 8)
SYMBOLS = (
    OWN,
    NewSymbol("far", ABSOLUTE, 0x123456789ABC),
    NewSymbol("small", ABSOLUTE, 64),
    NewSymbol("per_cpu", ".data..percpu", 8),
    NewSymbol("nobody_has_it", bind=STB_WEAK),
)
OLD, NEW = "6.1.0-1-amd64", "7.3.1-amd64"
ARM_SECTIONS = (".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline")


def relocated(
    *entries: tuple[int, str, int], machine: int = Machine.X86_64, size: int = 1 << 16, **options: Any
) -> bytes:
    """A module with a section of these relocations (type, symbol, addend), 16 bytes apart."""
    extra = (
        NewSection(".data..percpu", bytes(64), flags=SHF_ALLOC),
        NewSection(
            ".text.more", bytes(size), flags=SHF_ALLOC | SHF_EXECINSTR,
            relocations=[NewRelocation(16 * at, *entry) for at, entry in enumerate(entries)],
        ),
        *options.pop("extra", ()),
    )  # fmt: skip
    return module(
        extra=extra, symbols=(*SYMBOLS, NewSymbol("here", ".text.more", 4)), machine=machine, **options
    )


def arm64(release: str = "6.1.0-1-arm64") -> Target:
    config = {
        **target().config,
        "CONFIG_ARM64_MODULE_PLTS": "y",
        "CONFIG_RANDOMIZE_BASE": "y",
        "CONFIG_DYNAMIC_FTRACE": "y",
    }
    return target(release, machine=Machine.AARCH64, config=config)


def on_arm64(*entries: tuple[int, str, int], release: str = "6.1.0-1-arm64") -> Prediction:
    extra = tuple(NewSection(name, bytes(8), flags=SHF_ALLOC) for name in ARM_SECTIONS)
    data = relocated(*entries, machine=Machine.AARCH64, extra=extra, release=release)
    return check_module(data, arm64(release))


@pytest.mark.parametrize(("release", "where"), [(OLD, ""), ("6.12.1-amd64", ""), (NEW, " sec 8 idx 1")])
def test_code_that_was_not_compiled_for_the_kernel(release: str, where: str) -> None:
    """R_X86_64_32 of a symbol of the module's own: what user space's compiler makes of an address."""
    data = relocated((2, "own", -4), (10, "own", 0), release=release)
    prediction = check_module(data, target(release))
    assert (prediction.errno, prediction.problems[-1].cause) == (errno.ENOEXEC, Cause.RELOCATION)
    assert prediction.lines == (
        f"module: overflow in relocation type 10 val *{where}",
        "module: `sound' likely not compiled with -mcmodel=kernel",
    )


@pytest.mark.parametrize(("kind", "symbol", "addend", "loads"), [
    (11, "own", 0, True),
    (11, "per_cpu", 0, True),
    (11, "small", 0, True),
    (10, "small", 0, True),
    (11, "nobody_has_it", 0, True),
    (11, "far", 0, False),
    (11, "own", 1 << 40, False),
    (10, "own", -8, False),
    (11, "own", -1 << 25, None),
    (10, "printk", 0, None),  # a variable of each CPU would fit
])  # fmt: skip
def test_addresses_that_fit_in_32_bits(kind: int, symbol: str, addend: int, *, loads: bool | None) -> None:
    assert check_module(relocated((kind, symbol, addend)), target()).loads is loads


def test_the_value_is_told_where_it_is_known() -> None:
    prediction = check_module(relocated((11, "far", 4)), target())
    assert prediction.lines[0] == "module: overflow in relocation type 11 val 123456789ac0"


@pytest.mark.parametrize(("release", "line"), [(OLD, "nonzero"), (NEW, "overflow")])
def test_which_of_two_faults_of_an_entry_is_told(release: str, line: str) -> None:
    """Before 6.3 the place was looked at first."""
    editor = Editor(relocated((10, "own", 0), release=release))
    editor.data[editor.section(".text.more").offset] = 1
    assert line in check_module(editor.result(), target(release)).lines[0]


def test_the_section_of_per_cpu_data_is_not_relocated() -> None:
    """Its SHF_ALLOC is taken away before; not in 7.3."""
    editor = Editor(relocated((99, "own", 0)))
    rows = editor.raw.sections
    table = next(i for i, row in enumerate(rows) if row.type == 4 and row.info == editor.index(".text.more"))
    editor.set_section(table, info=editor.index(".data..percpu"))
    assert check_module(editor.result(), target()).loads
    assert check_module(editor.result(), target(NEW, vermagic=None)).errno == errno.ENOEXEC


@pytest.mark.parametrize(("release", "prefix"), [("6.1.0-1-arm64", ""), ("6.12.1-arm64", "Modules: ")])
def test_arm64_names_the_type_that_it_does_not_know(release: str, prefix: str) -> None:
    prediction = on_arm64((283, "printk", 0), (281, "own", 0), release=release)
    assert (prediction.errno, prediction.lines) == (
        errno.ENOEXEC, (f"{prefix}module sound: unsupported RELA relocation: 281",)
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "symbol", "addend", "loads"), [
    (257, "own", 0, True),
    (258, "own", 0, False),  # ABS32 of an address
    (258, "small", 0, True),
    (258, "small", -65, False),
    (259, "small", 1 << 16, False),
    (263, "own", 0, False),
    (272, "own", 0, True),  # MOVN takes what is negative
    (271, "own", 0, False),
    (261, "own", 0, True),
    (261, "printk", 8, True),
    (261, "nobody_has_it", 0, False),
    (275, "nobody_has_it", 0, False),
    (276, "nobody_has_it", 0, True),
    (275, "printk", 0, True),
    (283, "nobody_has_it", 0, True),  # by a PLT entry
    (280, "here", 0, True),
    (280, "here", 1 << 21, False),
    (279, "here", 1 << 16, False),
    (279, "own", 0, None),  # how far sections are from each other
    (275, "per_cpu", 0, True),
])  # fmt: skip
def test_values_that_fit_on_arm64(kind: int, symbol: str, addend: int, *, loads: bool | None) -> None:
    prediction = on_arm64((kind, symbol, addend))
    assert prediction.loads is loads
    if loads is False:
        assert prediction.lines[0].startswith(f"module sound: overflow in relocation type {kind} val ")


def test_arm64_goes_through_branches_first() -> None:
    """They are moved to the front for their PLT entries, and what they change places with goes to the end."""
    prediction = on_arm64((281, "own", 0), (1, "own", 0), (283, "printk", 0))
    assert prediction.lines == ("module sound: unsupported RELA relocation: 1",)


@pytest.mark.parametrize(("name", "release", "number"), [
    (".plt", "6.1.0-1-arm64", errno.ENOEXEC),
    (".text.ftrace_trampoline", "6.1.0-1-arm64", errno.ENOEXEC),
    (".init.text.ftrace_trampoline", "6.1.0-1-arm64", None),
    (".init.text.ftrace_trampoline", "6.12.1-arm64", errno.ENOEXEC),
])  # fmt: skip
def test_sections_that_arm64_wants(name: str, release: str, number: int | None) -> None:
    extra = tuple(NewSection(each, bytes(8), flags=SHF_ALLOC) for each in ARM_SECTIONS if each != name)
    prediction = check_module(module(extra=extra, machine=Machine.AARCH64, release=release), arm64(release))
    assert prediction.errno == number
    if number:
        assert prediction.problems[-1].cause is Cause.ARCHITECTURE_SECTIONS
        assert bool(prediction.lines) == (name == ".plt")
