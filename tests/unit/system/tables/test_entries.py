# SPDX-License-Identifier: MIT
"""Entries of /proc, interrupts, algorithms, protocols and timers."""

from __future__ import annotations

import struct
from typing import Optional

import pytest

from lkm.names import module_name
from lkm.system.owners import Owners
from lkm.system.snapshot import RegistrationKind
from lkm.system.tables.hrtimers import read_hrtimers
from lkm.system.tables.interrupts import read_interrupts
from lkm.system.tables.proc_entries import read_proc_entries
from lkm.system.tables.protocols import read_protocols
from lkm.system.tables.trees import maple_load, xarray_load
from tests.unit.system.kernel import HEAP, MODULES, FakeKernel
from tests.unit.system.tables.world import DATA, KERNEL_TEXT, MODULES_GIVEN, OPS, brief, found
from tests.unit.system.trees import Tree

# proc entries


def put_entry(kernel: FakeKernel, name: str, **members: int) -> int:
    entry = kernel.new("proc_dir_entry")
    return kernel.set(entry, "proc_dir_entry", name=kernel.text(name), **members)


def test_proc_entries_at_any_depth_and_side(kernel: FakeKernel, tree: Tree) -> None:
    leaf = put_entry(kernel, "leaf", seq_ops=OPS)
    left = put_entry(kernel, "left", data=MODULES + 0x4000)
    directory = put_entry(kernel, "dir", subdir=leaf + 104)
    kernel.put(directory + 104 + 16, left + 104)
    kernel.put(directory + 104 + 8, put_entry(kernel, "builtin", proc_ops=KERNEL_TEXT) + 104)
    kernel.set(kernel.symbols["proc_root"], "proc_dir_entry", subdir=directory + 104)
    net_entry = put_entry(kernel, "tcpx", proc_ops=OPS)
    nets = [kernel.new("net"), kernel.new("net"), kernel.new("net")]
    kernel.ring(kernel.symbols["net_namespace_list"], nets)
    for net in nets[:2]:
        kernel.ring(kernel.at(net, "net", "dev_base_head"), [])
        kernel.set(net, "net", proc_net=put_entry(kernel, "net", subdir=net_entry + 104))
    kernel.ring(kernel.at(nets[2], "net", "dev_base_head"), [])
    assert sorted(brief(found(kernel, tree, RegistrationKind.PROC_ENTRY))) == [
        ("/proc/dir/leaf", "demo", True),
        ("/proc/left", "other", True),
        ("/proc/net/tcpx", "demo", True),
    ]


@pytest.mark.parametrize("link", [0x1234, MODULES + 0x9000, None])
def test_a_broken_tree_ends(kernel: FakeKernel, tree: Tree, link: Optional[int]) -> None:
    entry = put_entry(kernel, "loop", proc_ops=OPS)
    kernel.put(entry + 104 + 8, entry + 104 if link is None else link)
    kernel.set(kernel.symbols["proc_root"], "proc_dir_entry", subdir=entry + 104)
    memory = kernel.memory()
    items = list(read_proc_entries(tree.root, memory, Owners(MODULES_GIVEN)))
    assert brief(items) == [("/proc/loop", "demo", True)]
    assert len(memory.notes) == (0 if link is None else 1)


# interrupts, and their trees


def put_interrupt(kernel: FakeKernel, *handlers: int) -> int:
    """A descriptor with that many actions."""
    descriptor = kernel.new("irq_desc")
    following = 0
    for handler in reversed(handlers):
        action = kernel.new("irqaction")
        kernel.set(
            action,
            "irqaction",
            handler=handler,
            name=kernel.text(f"irq-{handler & 0xFFFF:x}"),
            next=following,
        )
        following = action
    return kernel.set(descriptor, "irq_desc", action=following)


def put_xa_node(kernel: FakeKernel, shift: int, **slots: int) -> int:
    node = kernel.new("xa_node")
    kernel.put(node, bytes([shift]))
    for name, value in slots.items():
        kernel.put(node + 8 + 8 * int(name[1:]), value)
    return node


def test_interrupts_in_the_radix_tree(kernel: FakeKernel, tree: Tree) -> None:
    low = put_xa_node(
        kernel, 0, s5=put_interrupt(kernel, KERNEL_TEXT, OPS), s6=put_interrupt(kernel, KERNEL_TEXT)
    )
    high = put_xa_node(kernel, 0, s2=put_interrupt(kernel, MODULES + 0x4020))
    top = put_xa_node(kernel, 6, s0=low + 2, s1=high + 2)
    kernel.set(kernel.symbols["irq_desc_tree"], "xarray", xa_head=top + 2)
    for number in (5, 6, 7, 66, 9999):
        tree.directory(f"/proc/irq/{number}")
    tree.write("/proc/irq/default_smp_affinity", "1")
    items = found(kernel, tree, RegistrationKind.INTERRUPT)
    assert brief(items) == [("irq-100", "demo", True), ("irq-4020", "other", True)]
    assert items[0].detail == f"irq 5, handler {OPS:#x}"


def test_interrupts_in_the_maple_tree_since_6_5(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols["sparse_irqs"] = kernel.new("maple_tree")
    leaf, top = kernel.place(HEAP + 0x10_0000, 256), kernel.place(HEAP + 0x20_0000, 256)
    for slot, (pivot, entry) in enumerate([(4, 0), (5, put_interrupt(kernel, OPS)), (9, 0)]):
        kernel.put(leaf + 8 + 8 * slot, pivot)
        kernel.put(leaf + 128 + 8 * slot, entry)
    kernel.put(top + 8, 9)
    kernel.put(top + 80, leaf | 1 << 3 | 4)
    kernel.put(top + 88, leaf | 1 << 3 | 4)
    kernel.set(kernel.symbols["sparse_irqs"], "maple_tree", ma_root=top | 3 << 3 | 2)
    tree.directory("/proc/irq/4")
    tree.directory("/proc/irq/5")
    assert brief(found(kernel, tree, RegistrationKind.INTERRUPT)) == [("irq-100", "demo", True)]


def test_interrupts_without_any_descriptor_are_a_note(kernel: FakeKernel, tree: Tree) -> None:
    tree.directory("/proc/irq/4")
    notes: list[str] = []
    assert found(kernel, tree, RegistrationKind.INTERRUPT, notes) == []
    assert any("none of the interrupts" in note for note in notes)


def test_a_tree_of_one_entry(kernel: FakeKernel) -> None:
    entry = kernel.new(8)
    xarray, maple = kernel.new("xarray"), kernel.new("maple_tree")
    kernel.put(xarray + 8, entry)
    kernel.put(maple + 8, entry)
    memory = kernel.memory()
    assert (xarray_load(memory, xarray, 0), xarray_load(memory, xarray, 1)) == (entry, 0)
    assert (maple_load(memory, maple, 0), maple_load(memory, maple, 1)) == (entry, 0)


def test_values_in_a_tree_are_no_pointers(kernel: FakeKernel) -> None:
    xarray = kernel.new("xarray")
    kernel.put(xarray + 8, put_xa_node(kernel, 0, s1=5, s2=0x406) + 2)
    assert [xarray_load(kernel.memory(), xarray, index) for index in (0, 1, 2, 64)] == [0, 0, 0, 0]


def test_a_radix_tree_that_never_ends_is_a_note(kernel: FakeKernel, tree: Tree) -> None:
    node = put_xa_node(kernel, 6)
    kernel.put(node + 8, node + 2)
    kernel.set(kernel.symbols["irq_desc_tree"], "xarray", xa_head=node + 2)
    tree.directory("/proc/irq/4")
    notes: list[str] = []
    assert found(kernel, tree, RegistrationKind.INTERRUPT, notes) == []
    assert any("deeper than" in note for note in notes)


def test_a_maple_tree_that_never_ends_is_a_note(kernel: FakeKernel, tree: Tree) -> None:
    node = kernel.place(HEAP + 0x10_0000, 256)
    kernel.put(node + 8, 100)
    kernel.put(node + 128, node | 2 << 3)
    kernel.symbols["sparse_irqs"] = kernel.new("maple_tree")
    kernel.set(kernel.symbols["sparse_irqs"], "maple_tree", ma_root=node | 2 << 3 | 2)
    tree.directory("/proc/irq/4")
    notes: list[str] = []
    assert found(kernel, tree, RegistrationKind.INTERRUPT, notes) == []
    assert any("deeper than" in note for note in notes)


def test_a_maple_node_of_an_unknown_kind_is_a_note(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols["sparse_irqs"] = kernel.new("maple_tree")
    kernel.set(kernel.symbols["sparse_irqs"], "maple_tree", ma_root=HEAP | 9 << 3 | 2)
    tree.directory("/proc/irq/4")
    notes: list[str] = []
    assert found(kernel, tree, RegistrationKind.INTERRUPT, notes) == []
    assert any("unknown kind" in note for note in notes)


def test_a_cycle_of_actions_ends(kernel: FakeKernel, tree: Tree) -> None:
    descriptor = put_interrupt(kernel, OPS)
    action = kernel.memory().u64(descriptor + 8)
    kernel.set(action, "irqaction", next=action)
    kernel.set(kernel.symbols["irq_desc_tree"], "xarray", xa_head=put_xa_node(kernel, 0, s3=descriptor) + 2)
    tree.directory("/proc/irq/3")
    memory = kernel.memory()
    assert len(list(read_interrupts(tree.root, memory, Owners(MODULES_GIVEN)))) == 1
    assert len(memory.notes) == 1


# crypto, protocols, hrtimers


def test_algorithms_in_memory_with_their_users(kernel: FakeKernel, tree: Tree) -> None:
    alg = kernel.new("crypto_alg")
    kernel.put(alg + 20, struct.pack("<i", 3))
    kernel.put(alg + 24, "left-hash")
    kernel.put(alg + 152, "left-hash-generic")
    kernel.set(alg, "crypto_alg", cra_module=DATA)
    kernel.ring(kernel.symbols["crypto_alg_list"], [alg, kernel.new("crypto_alg")])
    (item,) = found(kernel, tree, RegistrationKind.CRYPTO)
    assert (item.name, item.module, item.detail, item.users) == ("left-hash", "demo", "left-hash-generic", 2)


def test_algorithms_of_the_file_where_the_list_is_hidden(kernel: FakeKernel, tree: Tree) -> None:
    del kernel.symbols["crypto_alg_list"]
    tree.write("/proc/crypto", "name         : left\nmodule       : demo\nrefcnt       : x\n")
    notes: list[str] = []
    (item,) = found(kernel, tree, RegistrationKind.CRYPTO, notes)
    assert (item.name, item.users, item.source) == ("left", None, "/proc/crypto")
    assert any("/proc/crypto was read" in note for note in notes)


def test_protocols_with_their_sockets(kernel: FakeKernel, tree: Tree) -> None:
    tree.write(
        "/proc/net/protocols",
        "protocol  size sockets  memory press maxhdr  slab module     cl co\n"
        "SCTPv6    1560      2       0   no       0   yes  demo        y  n\n"
        "MY PROTO  1560      0      -1   NI       0   no   other       y  n\n"
        "TCP       2432      9       0   no     256   yes  kernel      y  y\n"
        "TCP       2432\n",
    )
    items = list(read_protocols(tree.root, None, Owners(MODULES_GIVEN)))
    assert [(item.name, item.module, item.users) for item in items] == [
        ("SCTPv6", "demo", 2),
        ("MY PROTO", "other", 0),
    ]


def test_a_congestion_control_stands_for_users_that_nothing_counts(kernel: FakeKernel, tree: Tree) -> None:
    tree.write("/proc/net/protocols", "")
    tree.write("/proc/sys/net/ipv4/tcp_available_congestion_control", "reno cubic htcp\n")
    owners = Owners([MODULES_GIVEN[0]._replace(name=module_name("tcp_htcp"))])
    items = list(read_protocols(tree.root, None, owners))
    assert [(item.name, item.module, item.users) for item in items] == [
        ("TCP congestion control htcp", "tcp_htcp", 1)
    ]


def test_the_timer_of_a_module_in_quarantine_is_seen(kernel: FakeKernel, tree: Tree) -> None:
    """Its name has a dot; removed with the timer armed, it would take the machine with it."""
    tree.write("/proc/timer_list", " #0: <0000000012345678>, left_tick [demo.dead1], S:01\n")
    renamed = MODULES_GIVEN[0]._replace(name=module_name("demo.dead1"))
    items = read_hrtimers(tree.root, kernel.memory(), Owners([renamed]))
    assert [(item.name, item.module) for item in items] == [("left_tick", "demo.dead1")]


def test_timers_by_module_by_address_and_by_symbol(kernel: FakeKernel, tree: Tree) -> None:
    tree.write(
        "/proc/timer_list",
        f"""active timers:
 #0: <0000000012345678>, tick_sched_timer, S:01
 # expires at 1-2 nsecs [in 1 to 2 nsecs]
 #1: <0000000012345678>, left_tick [demo], S:01
 #2: <0000000012345678>, left_tick [demo], S:01
 #3: <(____ptrval____)>, {MODULES + 0x4010:#x}, S:01
 #4: <0000000012345678>, only_here, S:01
 #5: <0000000012345678>, twice, S:01
 #6: <0000000012345678>, other_tick [unknown], S:01
 #7: ffff888000000000, 0xzz, S:01
""",
    )
    kernel.symbols["tick_sched_timer"] = KERNEL_TEXT
    kernel.module_symbols = [
        (OPS, "only_here", "demo"),
        (OPS, "twice", "demo"),
        (OPS, "twice", "other"),
        (OPS, "tick_sched_timer", "demo"),
    ]
    items = list(read_hrtimers(tree.root, kernel.memory(), Owners(MODULES_GIVEN)))
    assert [(item.name, item.module) for item in items] == [
        ("left_tick", "demo"),
        (f"{MODULES + 0x4010:#x}", "other"),
        ("only_here", "demo"),
    ]
