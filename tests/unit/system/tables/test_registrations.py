# SPDX-License-Identifier: MIT
"""All tables together, and names where no pointer can be followed."""

from __future__ import annotations

import struct

import pytest

from lkm.errors import LkmError
from lkm.formats.kallsyms import Kallsyms
from lkm.system.kallsyms import SymbolsHidden
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, describe, owned_pointer, read_guarded
from lkm.system.registrations import read_registrations
from lkm.system.tables.interrupts import interrupt_names
from lkm.system.tables.strings import ModuleStrings
from tests.unit.system.kernel import MODULES, FakeKernel, FakeTypes, module
from tests.unit.system.tables.world import KERNEL_TEXT, MODULES_GIVEN, OPS, OTHER, brief, found
from tests.unit.system.trees import Tree

# Whose an address is


def test_an_address_belongs_to_one_module() -> None:
    owners = Owners(MODULES_GIVEN)
    for address, name in ((MODULES, "demo"), (MODULES + 0xFFF, "demo"), (MODULES + 0x4000, "other")):
        assert owners.of(address) == name
    for address in (0, MODULES - 1, MODULES + 0x1000, MODULES + 0x5000, (1 << 64) - 1):
        assert owners.of(address) is None


def test_without_memory_nobody_owns_anything() -> None:
    owners = Owners([module("hidden")])
    assert not owners
    assert owners.of(MODULES) is None


def test_the_first_field_that_points_into_a_module(kernel: FakeKernel) -> None:
    memory, owners = kernel.memory(), Owners(MODULES_GIVEN)
    data = struct.pack("<8Q", KERNEL_TEXT, MODULES + 0x4000, 0, OPS, 0, 0, 0, 0)
    pointer = owned_pointer(memory, owners, "irqaction", data, ("absent", "handler", "thread_fn", "dev_id"))
    assert pointer is not None
    assert (pointer.field, pointer.module) == ("thread_fn", "demo")
    assert describe(memory, pointer) == f"thread_fn {OPS:#x}"


def test_a_file_whose_reader_fails_is_an_error(tree: Tree) -> None:
    with pytest.raises(LkmError, match="/proc/absent: cannot be read"):
        read_guarded(tree.root, "/proc/absent")
    tree.write("/proc/there", "text\n")
    assert read_guarded(tree.root, "/proc/there") == "text\n"


def test_a_name_is_that_of_a_loaded_module() -> None:
    owners = Owners([module("snd_pcm")])
    assert owners.named("snd-pcm") == "snd_pcm"
    assert owners.named("other") is None
    assert owners.named("") is None


# A machine on which nothing is registered


def test_empty_tables_have_nothing(kernel: FakeKernel, tree: Tree) -> None:
    tree.write("/proc/net/protocols", "")
    tree.write("/proc/timer_list", "")
    notes: list[str] = []
    assert found(kernel, tree, notes=notes) == []
    assert notes == []


def test_without_modules_nothing_is_read(kernel: FakeKernel, tree: Tree) -> None:
    assert read_registrations(tree.root, kernel.memory(), []) == ()
    assert kernel.reads == 0


def test_hidden_symbols_leave_what_files_tell(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols = {"misc_list": 0}
    notes: list[str] = []
    tree.write("/proc/crypto", "name : left\nmodule : demo\nrefcnt : 1\n")
    memory = KernelMemory(kernel, types=lambda: FakeTypes({}), symbols=hidden)
    items = read_registrations(tree.root, memory, MODULES_GIVEN, notes=notes)
    assert brief(list(items)) == [("left", "demo", True)]
    assert memory.notes == ["the kernel's tables were not walked, as its symbols are hidden or missing"]


def hidden() -> Kallsyms:
    raise SymbolsHidden("hidden")


def test_a_table_that_is_missing_is_a_note(kernel: FakeKernel, tree: Tree) -> None:
    del kernel.symbols["misc_list"]
    del kernel.symbols["proc_root"]
    notes: list[str] = []
    found(kernel, tree, notes=notes)
    assert any("misc_list is not in /proc/kallsyms" in note and "/proc/misc" in note for note in notes)
    assert any("proc_root" in note for note in notes)


def test_without_kernel_memory_files_are_read(tree: Tree) -> None:
    tree.write(
        "/proc/crypto",
        "name : left\ndriver : left-x\nmodule : demo\nrefcnt : 3\n\nname : a\nmodule : kernel\n",
    )
    tree.write("/proc/net/protocols", "")
    notes: list[str] = []
    items = read_registrations(tree.root, None, MODULES_GIVEN, notes=notes)
    assert [(item.name, item.detail, item.users, item.source) for item in items] == [
        ("left", "left-x", 2, "/proc/crypto")
    ]
    assert any("timer_list" in note for note in notes)


# By name, where no pointer can be followed


@pytest.fixture
def untyped(kernel: FakeKernel) -> FakeKernel:
    """A kernel without BTF, whose constants are known."""
    kernel.types = None
    kernel.put(MODULES + 0x10, b"\0left-over\0both\0/proc\0loop\0")
    kernel.put(MODULES + 0x4010, b"\xa5first-of-section\0both\0xleft-over\0")
    kernel.symbols["__start_rodata"] = kernel.place(KERNEL_TEXT + 0x20_0000, 0x1000)
    kernel.symbols["__end_rodata"] = KERNEL_TEXT + 0x20_1000
    kernel.put(KERNEL_TEXT + 0x20_0000, b"\0blkloop\0")
    return kernel


def test_names_are_looked_for_without_btf(untyped: FakeKernel, tree: Tree) -> None:
    tree.write("/proc/misc", " 61 left-over\n 62 both\n 63 loop\n 1\n")
    tree.write("/proc/filesystems", "nodev\tproc\n\tfirst-of-section\n\n")
    tree.write("/proc/devices", "Character devices:\n  5 left-over\n\nBlock devices:\n  7 first-of-section\n")
    tree.write(
        "/proc/interrupts", "  CPU0\n  5: 0 IO-APIC 5-fasteoi other, left-over\nNMI: 0 first-of-section\n"
    )
    notes: list[str] = []
    items = found(untyped, tree, notes=notes)
    assert [(item.kind.value, item.name, item.module, item.certain) for item in items] == [
        ("misc", "left-over", "demo", False),
        ("chrdev", "left-over", "demo", False),
        ("filesystem", "first-of-section", "other", False),
        ("interrupt", "left-over", "demo", False),
    ]
    assert any("no BTF" in note for note in notes)


@pytest.mark.parametrize("name", ["", "ab", "both", "loop", "absent", "left-ove", "eft-over", "proc"])
def test_names_that_tell_nothing(untyped: FakeKernel, name: str) -> None:
    assert ModuleStrings(untyped.memory(), Owners(MODULES_GIVEN)).owner(name) is None


def test_a_module_that_is_too_large_is_not_searched(untyped: FakeKernel) -> None:
    memory = untyped.memory()
    strings = ModuleStrings(memory, Owners([module("huge", MODULES, 1 << 30), OTHER]))
    assert strings.owner("first-of-section") == "other"
    assert "huge" in memory.notes[0]


def test_memory_that_is_not_mapped_has_no_names(untyped: FakeKernel) -> None:
    memory = untyped.memory()
    del untyped.symbols["__start_rodata"]
    strings = ModuleStrings(memory, Owners([module("gone", MODULES + 0x100000, 64), OTHER]))
    assert strings.owner("first-of-section") == "other"
    assert len(memory.notes) == 2


def test_the_columns_of_interrupts(tree: Tree) -> None:
    tree.write(
        "/proc/interrupts",
        "    CPU0 CPU1\n 10: 0 1 IO-APIC 10-fasteoi   ehci:usb1, left irq\nLOC: 1 2 Local timer\n 11: 1 2\n",
    )
    assert list(interrupt_names(tree.root)) == [("ehci:usb1", "irq 10"), ("left irq", "irq 10")]
