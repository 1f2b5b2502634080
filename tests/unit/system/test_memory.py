# SPDX-License-Identifier: MIT
"""Typed reads of kernel memory, and walks that always end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.errors import LkmError
from lkm.formats.btf import BtfLookupError
from lkm.system.kallsyms import SymbolsHidden
from lkm.system.kcore import KcoreError
from lkm.system.memory import is_kernel_pointer, open_memory, read_memory
from tests.builders import BtfBuilder
from tests.unit.system.kernel import HEAP, FakeKernel, FakeTypes
from tests.unit.system.test_kcore import make_core
from tests.unit.system.trees import Tree

TYPES = FakeTypes({"thing": (32, {"list": 0, "new_name": 16, "part.inner": 24})})


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(TYPES)


def test_numbers_have_their_width_and_sign(kernel: FakeKernel) -> None:
    memory = kernel.memory()
    at = kernel.new(16)
    kernel.put(at, b"\xfe\xff\xff\xff\x01\0\0\0" + b"\x02" * 8)
    assert (memory.u8(at), memory.u32(at), memory.i32(at), memory.u64(at)) == (
        0xFE,
        0xFFFFFFFE,
        -2,
        0x1FFFFFFFE,
    )
    assert memory.words(at, 2) == (0x1FFFFFFFE, 0x0202020202020202)


@pytest.mark.parametrize("address", [0, 8, 0x7FFF_FFFF_F000, 1 << 64, (1 << 64) - 1, -8])
def test_only_kernel_addresses_are_read(kernel: FakeKernel, address: int) -> None:
    assert not is_kernel_pointer(address)
    with pytest.raises(KcoreError):
        kernel.memory().read(address, 8)
    assert kernel.reads == 0


def test_a_pointer_is_checked(kernel: FakeKernel) -> None:
    at = kernel.new(24)
    kernel.put(at, HEAP)
    kernel.put(at + 16, 0x6B6B6B6B6B6B6B6B)
    memory = kernel.memory()
    assert (memory.pointer(at), memory.pointer(at + 8)) == (HEAP, 0)
    with pytest.raises(KcoreError, match="no pointer"):
        memory.pointer(at + 16)


def test_strings_may_cross_pages_and_must_end(kernel: FakeKernel) -> None:
    base = kernel.place(HEAP + 0x10_0000, 0x2000)
    kernel.put(base + 0xFFC, "crossing")
    kernel.put(base + 0x1FF0, b"x" * 16)
    memory = kernel.memory()
    assert memory.cstring(base + 0xFFC) == "crossing"
    with pytest.raises(KcoreError):
        memory.cstring(base + 0x1FF0)
    with pytest.raises(KcoreError, match="no string"):
        memory.cstring(base + 0x1FF0, limit=8)
    assert memory.text(base + 0x1FF0, "?") == "?"


def test_members_are_found_by_the_first_name_that_exists(kernel: FakeKernel) -> None:
    memory = kernel.memory()
    assert memory.offset("thing", "old_name", "new_name") == 16
    assert memory.offset("thing", "part.inner") == 24
    assert memory.has("thing", "list")
    assert not memory.has("thing", "gone")
    assert not memory.has("nothing", "list")
    with pytest.raises(BtfLookupError, match="old_name or older"):
        memory.offset("thing", "old_name", "older")


def test_symbols_that_are_missing_say_what_they_need(kernel: FakeKernel) -> None:
    kernel.symbols["modules"] = HEAP
    assert kernel.memory().symbol("modules") == HEAP
    with pytest.raises(KcoreError, match="CONFIG_KALLSYMS_ALL"):
        kernel.memory().symbol("misc_list")


def test_a_list_is_walked_to_its_head(kernel: FakeKernel) -> None:
    head, *nodes = (kernel.new("thing") for _ in range(4))
    kernel.ring(head, nodes)
    memory = kernel.memory()
    assert list(memory.list_nodes(head, what="things")) == nodes
    kernel.ring(head, [])
    assert list(memory.list_nodes(head, what="things")) == []
    assert memory.notes == []


def test_a_cycle_beside_the_head_ends(kernel: FakeKernel) -> None:
    head, *nodes = (kernel.new("thing") for _ in range(4))
    kernel.ring(head, nodes)
    kernel.put(nodes[2], nodes[1])
    memory = kernel.memory()
    assert list(memory.list_nodes(head, what="things")) == nodes
    assert memory.notes == ["things: a node comes twice: the rest was not read"]


@pytest.mark.parametrize("link", [0xDEAD000000000100, 1, 0x4141414141414141, HEAP + 0xFFFF_0000])
def test_a_bad_link_ends_the_walk_with_a_note(kernel: FakeKernel, link: int) -> None:
    head, node = kernel.new("thing"), kernel.new("thing")
    kernel.put(head, node)
    kernel.put(node, link)
    memory = kernel.memory()
    found = list(memory.list_nodes(head, what="things"))
    assert found[0] == node
    assert len(memory.notes) == 1


def test_a_list_that_is_too_long_ends(kernel: FakeKernel) -> None:
    head, *nodes = (kernel.new("thing") for _ in range(9))
    kernel.ring(head, nodes)
    memory = kernel.memory()
    assert list(memory.list_nodes(head, what="things", limit=5)) == nodes[:5]
    assert memory.notes == ["things: more than 5 nodes: the rest was not read"]


def test_a_head_that_cannot_be_read_is_an_empty_list(kernel: FakeKernel) -> None:
    memory = kernel.memory()
    assert list(memory.list_nodes(HEAP + 0x1000_0000, what="things")) == []
    assert len(memory.notes) == 1


def test_a_note_is_made_once(kernel: FakeKernel) -> None:
    memory = kernel.memory()
    memory.note("a")
    memory.note("a")
    assert memory.notes == ["a"]


def test_memory_of_a_machine(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    assert read_memory(tree.root).memory is None
    assert "kcore" in read_memory(tree.root).error
    with pytest.raises(LkmError):
        open_memory(tree.root)
    tree.write("/proc/kcore", make_core([(HEAP, bytes(64))]))
    tree.write("/proc/kallsyms", f"{HEAP:016x} D modules\n")
    builder = BtfBuilder()
    integer = builder.add_int("int", 4)
    inner = builder.add_struct("", 4, [("b", integer, 0)], union=True)
    builder.add_struct("module", 8, [("a", integer, 0), ("", inner, 32)])
    memory = open_memory(tree.root)
    assert not memory.has_types
    assert memory.symbol("modules") == HEAP
    tree.write("/sys/kernel/btf/vmlinux", builder.build())
    memory = open_memory(tree.root)
    assert memory.has_types
    assert [memory.offset("module", name) for name in ("a", "b")] == [0, 4]
    assert memory.sizeof("module") == 8


def test_hidden_symbols_symbolize_nothing(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/kcore", make_core([(HEAP, bytes(64))]))
    tree.write("/proc/kallsyms", "0000000000000000 D modules\n")
    assert open_memory(tree.root).symbolize(HEAP) is None


def test_hidden_symbols_are_read_and_noted_once(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/kcore", make_core([(HEAP, bytes(64))]))
    path = tree.write("/proc/kallsyms", "0000000000000000 D modules\n")
    memory = open_memory(tree.root)
    assert not memory.has_symbols
    os.remove(path)
    for what in ("one", "two"):
        with pytest.raises(SymbolsHidden) as caught:
            memory.symbol("modules")
        memory.note_error(what, caught.value)
    assert len(memory.notes) == 1
    memory.note_error("three", KcoreError("not mapped"))
    assert memory.notes[1] == "three: not mapped"
