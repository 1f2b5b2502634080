# SPDX-License-Identifier: MIT
"""Modules completed from kernel memory, before and after 6.4, with and without BTF."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.names import ModuleName
from lkm.system.raw_modules import with_raw
from lkm.system.snapshot import Layout, LoadedModule, MemoryRange, ModuleState
from tests.unit.system.kernel import MODULES, FakeKernel, FakeTypes
from tests.unit.system.trees import Tree

LAYOUT = Layout(size=512, init=128, exit=400, refcnt=408, origin="btf", num_syms=136, num_gpl_syms=140)
BEFORE = FakeTypes(
    {
        "module": (512, {"core_layout": 192, "init_layout": 256}),
        "module_layout": (64, {"base": 0, "size": 8}),
    }
)
SINCE = FakeTypes(
    {"module": (512, {"mem": 192}), "module_memory": (16, {"base": 0, "size": 8})},
    enums={
        "mod_mem_type": {
            "MOD_TEXT": 0,
            "MOD_DATA": 1,
            "MOD_INIT_TEXT": 2,
            "MOD_MEM_NUM_TYPES": 3,
            "MOD_INVALID": -1,
        }
    },
)
HEAD = MODULES - 0x1000


def build(types: FakeTypes | None, *names: str) -> tuple[FakeKernel, list[int]]:
    """A kernel whose list has these modules, each live with one reference beyond the base."""
    kernel = FakeKernel(types)
    kernel.symbols["modules"] = kernel.place(HEAD, 16)
    places = [kernel.place(MODULES + 0x4000 * index, 512) for index in range(len(names))]
    for place, name in zip(places, names):
        kernel.put(place + LAYOUT.name, name)
        kernel.put(place + LAYOUT.init, place + 0x100)
        kernel.put(place + LAYOUT.exit, place + 0x200)
        kernel.put(place + LAYOUT.refcnt, b"\2\0\0\0")
        kernel.put(place + 136, b"\5\0\0\0\7\0\0\0")
    kernel.ring(HEAD, [place + LAYOUT.list for place in places])
    return kernel, places


def live(name: str, address: int = 0) -> LoadedModule:
    return LoadedModule(ModuleName(name), ModuleState.LIVE, 1, 4096, address=address)


def test_fields_and_address_come_from_the_list() -> None:
    kernel, places = build(BEFORE, "one", "two")
    memory = kernel.memory()
    first, second = with_raw(memory, LAYOUT, [live("one"), live("two")])
    assert (first.address, second.address) == tuple(places)
    assert first.raw is not None
    assert (first.raw.name, first.raw.state, first.raw.refcnt) == ("one", 0, 2)
    assert (first.raw.init, first.raw.exit) == (places[0] + 0x100, places[0] + 0x200)
    assert (first.raw.num_syms, first.raw.num_gpl_syms) == (5, 7)
    assert first.permanent is False
    assert memory.notes == []


def test_memory_before_6_4() -> None:
    kernel, (place,) = build(BEFORE, "one")
    kernel.put(place + 192, place)
    kernel.put(place + 200, b"\0\x30\0\0")
    assert with_raw(kernel.memory(), LAYOUT, [live("one")])[0].memory == (MemoryRange(place, 0x3000, "core"),)
    kernel.put(place + 256, place + 0x8000)
    kernel.put(place + 264, b"\0\x10\0\0")
    both = with_raw(kernel.memory(), LAYOUT, [live("one")])[0].memory
    assert both == (MemoryRange(place, 0x3000, "core"), MemoryRange(place + 0x8000, 0x1000, "init"))


def test_memory_since_6_4() -> None:
    kernel, (place,) = build(SINCE, "one")
    for index, size in enumerate((0x1000, 0x2000, 0)):
        kernel.put(place + 192 + 16 * index, place + 0x10000 * index)
        kernel.put(place + 200 + 16 * index, size.to_bytes(4, "little"))
    found = with_raw(kernel.memory(), LAYOUT, [live("one")])[0].memory
    assert found == (MemoryRange(place, 0x1000, "text"), MemoryRange(place + 0x10000, 0x2000, "data"))


@pytest.mark.parametrize(("base", "size"), [(0x1000, 0x1000), (MODULES, 0xFFFFFFFF), (0, 0x1000)])
def test_a_range_that_cannot_be_is_left_out(base: int, size: int) -> None:
    kernel, (place,) = build(BEFORE, "one")
    kernel.put(place + 192, base)
    kernel.put(place + 200, size.to_bytes(4, "little"))
    assert with_raw(kernel.memory(), LAYOUT, [live("one")])[0].memory == ()


def test_a_module_that_only_the_list_has_is_added() -> None:
    kernel, places = build(BEFORE, "one", "half")
    kernel.put(places[1], b"\3\0\0\0")
    found = with_raw(kernel.memory(), LAYOUT, [live("one")])
    assert [module.name for module in found] == ["one", "half"]
    assert (found[1].state, found[1].in_proc, found[1].in_sysfs) == (ModuleState.UNFORMED, False, False)
    assert found[1].address == places[1]


def test_a_module_without_exit_is_permanent() -> None:
    kernel, (place,) = build(BEFORE, "one")
    kernel.put(place + LAYOUT.exit, 0)
    assert with_raw(kernel.memory(), LAYOUT, [live("one")])[0].permanent is True
    kernel.put(place + LAYOUT.init, 0)
    assert with_raw(kernel.memory(), LAYOUT, [live("one")])[0].permanent is False


def test_a_module_that_has_gone_stays_as_it_was() -> None:
    kernel, _ = build(BEFORE, "one")
    gone = live("gone")
    assert with_raw(kernel.memory(), LAYOUT, [gone])[0] == gone


def test_without_the_list_the_address_of_sysfs_is_used() -> None:
    kernel, (place,) = build(BEFORE, "one")
    del kernel.symbols["modules"]
    memory = kernel.memory()
    found = with_raw(
        memory, LAYOUT, [live("one", address=place), live("two", address=place), live("three", address=16)]
    )
    assert found[0].raw is not None
    assert (found[1].raw, found[2].raw) == (None, None)
    assert any("has the name 'one'" in note for note in memory.notes)


def test_without_its_symbol_the_list_is_entered_at_a_known_module() -> None:
    kernel, places = build(BEFORE, "one", "two", "half")
    kernel.put(places[2], b"\3\0\0\0")
    del kernel.symbols["modules"]
    memory = kernel.memory()
    found = with_raw(memory, LAYOUT, [live("one"), live("two", address=places[1])])
    assert [(module.name, module.address) for module in found] == list(zip(("one", "two", "half"), places))
    assert found[2].state is ModuleState.UNFORMED
    assert memory.notes == []


def test_without_its_symbol_only_one_node_may_be_the_head() -> None:
    kernel, places = build(BEFORE, "one", "bad", "three")
    kernel.put(places[1] + LAYOUT.name, b"\xff\0")
    del kernel.symbols["modules"]
    memory = kernel.memory()
    found = with_raw(memory, LAYOUT, [live("one", address=places[0])])
    assert [module.name for module in found] == ["one", "three"]
    assert len(memory.notes) == 1


def test_without_symbol_and_address_the_list_is_not_read() -> None:
    kernel, _ = build(BEFORE, "one")
    del kernel.symbols["modules"]
    memory = kernel.memory()
    assert with_raw(memory, LAYOUT, [live("one")])[0].raw is None
    assert "modules is not in /proc/kallsyms" in memory.notes[0]


@pytest.mark.parametrize("name", [b"\0", b"\xff\xfe\0", b"x" * 56, b"two words\0"])
def test_the_walk_ends_where_there_is_no_name(name: bytes) -> None:
    kernel, places = build(BEFORE, "one", "bad", "three")
    kernel.put(places[1] + LAYOUT.name, name)
    memory = kernel.memory()
    assert [module.name for module in with_raw(memory, LAYOUT, [live("one")])] == ["one"]
    assert "is no name" in memory.notes[0]


def test_a_cycle_ends() -> None:
    kernel, places = build(BEFORE, "one", "two")
    kernel.put(places[1] + LAYOUT.list, places[0] + LAYOUT.list)
    memory = kernel.memory()
    assert len(with_raw(memory, LAYOUT, [])) == 2
    assert len(memory.notes) == 1


def test_without_btf_sections_tell_a_part_of_the_memory(tmp_path: Path) -> None:
    kernel, (place,) = build(None, "one")
    tree = Tree(str(tmp_path))
    for name, at in (
        (".text", 0x10),
        (".data", 0x1020),
        (".bss", 0x5000),
        (".init.text", 0x9000),
        ("odd", -place),
    ):
        tree.write(f"/sys/module/one/sections/{name}", f"{place + at:#x}\n")
    found = with_raw(kernel.memory(), LAYOUT, [live("one")], root=tree.root)[0].memory
    assert found == (MemoryRange(place, 0x2000, "core"), MemoryRange(place + 0x5000, 0x1000, "core"))


def test_an_added_module_tells_whether_sysfs_has_it(tmp_path: Path) -> None:
    kernel, _ = build(BEFORE, "new")
    tree = Tree(str(tmp_path))
    tree.module("new")
    (found,) = with_raw(kernel.memory(), LAYOUT, [], root=tree.root)
    assert (found.in_sysfs, found.in_proc, found.refcnt) == (True, True, 1)
