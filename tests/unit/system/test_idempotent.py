# SPDX-License-Identifier: MIT
"""The table of files being loaded, read: which entries are a dead task's, who loads, who waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.root import Root
from lkm.system.idempotent import read_load_table
from lkm.system.kcore import KcoreError
from lkm.system.load_table import LoadRole, LoadTable, hash_of
from lkm.system.memory import KernelMemory
from tests.unit.system.kernel import FakeKernel, FakeTypes
from tests.unit.system.loads import OWN, STACK, TYPES, Loads, cookie_of
from tests.unit.system.trees import Tree

NOWHERE = Root("/nonexistent")
PF_EXITING = 4


def read(loads: Loads, memory: KernelMemory | None = None) -> LoadTable:
    return loads.read(memory, looks=3)


def test_the_hash_is_the_kernels() -> None:
    """hash_ptr(…, 8): the product's topmost byte, so it spreads what is side by side."""
    assert (hash_of(0), hash_of(1), hash_of(1 << 56)) == (0, 0x61, 0xEB)
    assert len({hash_of(0xFFFF888003C54A00 + 0x260 * i) for i in range(1000)}) > 150


def test_an_empty_table_costs_two_reads() -> None:
    loads = Loads()
    before = loads.kernel.reads
    table = read(loads)
    assert table.sound
    assert loads.kernel.reads - before == 2


def test_a_kernel_without_the_table() -> None:
    kernel = FakeKernel(FakeTypes({name: TYPES[name] for name in ("task_struct", "pt_regs")}))
    kernel.symbols["init_task"] = kernel.new("task_struct")
    table = read_load_table(NOWHERE, kernel.memory())
    assert not table.present
    assert not table.error


def test_a_table_that_kallsyms_leaves_out_is_an_error() -> None:
    loads = Loads()
    del loads.kernel.symbols["idem_hash"]
    assert "idem_hash is not in /proc/kallsyms" in read(loads).error


@pytest.mark.parametrize("padding", [0, 16])
def test_a_load_in_progress_does_not_dangle(padding: int) -> None:
    loads = Loads(padding)
    loads.thread(50)
    node = loads.node(50, cookie_of(7))
    table = read(loads)
    assert table.sound
    (bucket,) = table.buckets
    assert (bucket.number, bucket.chain) == (7, (node,))
    assert [(each.pid, each.role) for each in table.nodes] == [(50, LoadRole.LOADER)]


def test_the_entry_of_a_task_that_is_gone_dangles() -> None:
    loads = Loads()
    loads.thread(50)
    node = loads.node(50, cookie_of(7))
    loads.end(50)
    (bucket,) = read(loads).dangling
    assert (bucket.number, bucket.head, bucket.dead, bucket.chain) == (7, node + 8, node + 8, ())


def test_a_task_that_exits_is_none_that_lives() -> None:
    loads = Loads()
    loads.thread(50, flags=PF_EXITING)
    loads.node(50, cookie_of(7))
    assert read(loads).dangling


def test_a_stack_that_another_task_has_by_now_dangles_too() -> None:
    """What stands there may still look sound: the content tells nothing."""
    loads = Loads()
    stack = loads.thread(50)
    loads.node(50, cookie_of(7))
    loads.end(50)
    loads.thread(51, call=0, stack=stack)
    assert [bucket.number for bucket in read(loads).dangling] == [7]


def test_the_same_place_used_by_a_live_load_of_another_bucket() -> None:
    loads = Loads()
    stack = loads.thread(50)
    node = loads.node(50, cookie_of(7))
    loads.end(50)
    loads.thread(51, stack=stack)
    loads.node(51, cookie_of(9))
    table = read(loads)
    assert [bucket.number for bucket in table.dangling] == [7]
    assert table.bucket(9) is not None
    assert [(each.address, each.bucket) for each in table.nodes] == [(node, 9)]


def test_a_waiter_before_the_dead_and_a_loader_behind_it() -> None:
    loads = Loads()
    for tid in (50, 51, 52):
        loads.thread(tid)
    behind = loads.node(50, cookie_of(7, 1))
    dead = loads.node(51, cookie_of(7))
    waiter = loads.node(52, cookie_of(7), waits=True)
    loads.end(51)
    table = read(loads)
    (bucket,) = table.dangling
    assert (bucket.chain, bucket.dead) == ((waiter,), dead + 8)
    roles = {node.address: node.role for node in table.nodes}
    assert roles == {behind: LoadRole.LOADER, waiter: LoadRole.WAITER}


def test_two_entries_on_one_stack_are_not_told_apart() -> None:
    loads = Loads()
    loads.on_one_stack(50, 51, cookie_of(7))
    assert {node.role for node in read(loads).nodes} == {LoadRole.UNCLEAR}


def test_a_chain_that_leads_back_to_itself_dangles() -> None:
    """The same file loaded again on the very stack: it waits for itself."""
    loads = Loads()
    stack = loads.thread(50)
    node = loads.node(50, cookie_of(7))
    loads.end(50)
    loads.thread(51, stack=stack)
    loads.node(51, cookie_of(7), waits=True)
    (bucket,) = read(loads).dangling
    assert (bucket.chain, bucket.dead) == ((node,), node + 8)


class Changing:
    """Memory in which something happens after so many reads."""

    def __init__(self, loads: Loads, after: int, change: object) -> None:
        self.loads, self.after, self.change = loads, after, change

    def read(self, address: int, size: int) -> bytes:
        self.after -= 1
        if self.after == 0:
            assert callable(self.change)
            self.change()
        return self.loads.kernel.read(address, size)

    def memory(self) -> KernelMemory:
        kernel = self.loads.kernel
        return KernelMemory(self, types=lambda: FakeTypes(TYPES), symbols=kernel.kallsyms)


def test_a_load_that_ends_while_it_is_looked_at_does_not_dangle() -> None:
    loads = Loads()
    loads.thread(50)
    loads.node(50, cookie_of(7))
    table = read(loads, Changing(loads, 4, lambda: loads.kernel.put(loads.table + 56, 0)).memory())
    assert table.sound
    assert not table.buckets


def test_a_lock_that_is_held_for_a_moment_is_none_that_is_dead() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    memory = Changing(loads, 3, lambda: loads.kernel.put(loads.kernel.symbols["idem_lock"], 0)).memory()
    assert not read(loads, memory).lock_held


def test_a_lock_without_anybody_in_the_call_is_dead() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    loads.thread(50)  # asleep in the call: a spinlock's holder does not sleep
    table = read(loads)
    assert (table.lock_held, table.lock_dead, table.lock_word, table.lock_size) == (True, True, 1, 4)


def test_a_lock_that_a_live_task_may_hold_is_not_dead() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    loads.thread(50, running=True)
    table = read(loads)
    assert (table.lock_held, table.lock_dead, table.running) == (True, False, (50,))


def test_without_types_it_is_not_known_who_lives() -> None:
    loads = Loads()
    loads.kernel.types = None
    loads.kernel.put(loads.table, loads.kernel.new(64))
    table = read(loads)
    assert "without BTF" in table.error
    assert not table.sound


def test_a_reader_outside_of_the_list_of_tasks_is_told() -> None:
    loads = Loads()
    loads.kernel.put(loads.table, loads.kernel.new(64))
    loads.end(OWN)
    assert "not in the kernel's list of tasks" in read(loads).error


def test_registers_that_are_not_where_they_should_be_are_told() -> None:
    loads = Loads()
    loads.kernel.put(loads.table, loads.kernel.new(64))
    loads.kernel.put(loads.stacks[OWN] + STACK - 168 + 120, 999)
    assert "registers" in read(loads).error


def test_who_lives_is_not_known_where_a_live_stack_cannot_be_read() -> None:
    loads = Loads()
    loads.thread(50)
    loads.node(50, cookie_of(7))

    class Unread(Changing):
        def read(self, address: int, size: int) -> bytes:
            if address == loads.stacks[50] and size == STACK:
                raise KcoreError("not this one")
            return super().read(address, size)

    table = read(loads, Unread(loads, 0, None).memory())
    assert table.error == "not this one"
    assert not table.dangling


def test_one_that_is_not_in_its_queue_yet_is_not_taken_for_the_loader() -> None:
    """Preempted between idempotent() and the wait: its own completion's queue is empty, as the loader's is."""
    loads = Loads()
    loads.thread(50)
    loads.node(50, cookie_of(7))
    loads.frames[50] = ("idempotent_init_module",)
    (node,) = read(loads).nodes
    assert node.role is LoadRole.UNCLEAR


def test_two_loaders_of_one_file_are_not_told_apart() -> None:
    loads = Loads()
    for tid in (50, 51, 52):
        loads.thread(tid)
    loads.node(50, cookie_of(7))
    loads.node(51, cookie_of(7))
    other = loads.node(52, cookie_of(7, 1))
    table = read(loads)
    assert {node.address for node in table.nodes if node.role is LoadRole.LOADER} == {other}
    assert not table.orphans


def test_one_that_waits_for_nobody_makes_its_bucket_sick_though_nothing_dangles() -> None:
    loads = Loads()
    for tid in (50, 51):
        loads.thread(tid)
    loads.node(50, cookie_of(7, 1))
    node = loads.node(51, cookie_of(7), waits=True)
    table = read(loads)
    assert not table.dangling
    assert [each.address for each in table.orphans] == [node]
    assert [bucket.number for bucket in table.sick] == [7]
    assert not table.sound


@pytest.mark.parametrize("frames", [(), ("load_module",)])
def test_one_whose_loader_lives_or_may_live_is_no_orphan(frames: tuple[str, ...]) -> None:
    loads = Loads()
    for tid in (50, 51):
        loads.thread(tid)
    loads.node(50, cookie_of(7))
    loads.node(51, cookie_of(7), waits=True)
    loads.frames[50] = frames
    assert read(loads).sound


def test_an_entry_that_no_bucket_leads_to_is_found_by_a_search() -> None:
    loads = Loads()
    loads.thread(50)
    node = loads.node(50, cookie_of(7), waits=True)
    loads.kernel.put(loads.table + 56, 0)
    assert loads.read().sound
    table = loads.read(search=True)
    assert [each.address for each in table.orphans] == [node]
    assert [(bucket.number, bucket.head, bucket.chain) for bucket in table.sick] == [(7, 0, ())]


def test_a_search_finds_nothing_in_a_table_at_rest_or_at_work() -> None:
    loads = Loads()
    assert loads.read(search=True).sound
    loads.thread(50)
    loads.node(50, cookie_of(7))
    assert loads.read(search=True).sound


def test_without_types_a_search_of_an_empty_table_is_left_out() -> None:
    loads = Loads()
    loads.kernel.types = None
    assert loads.read(search=True).sound


def test_what_a_thread_is_in_is_read_from_its_stack_file(tmp_path: Path) -> None:
    loads = Loads()
    for tid in (50, 51):
        loads.thread(tid)
        loads.node(tid, cookie_of(tid))
    tree = Tree(str(tmp_path))
    tree.write(
        "/proc/50/stack", "[<0>] msleep+0x1/0x2\n[<0>] do_init_module+0x1/0x2\n[<0>] load_module+0x1/0x2\n"
    )
    tree.write("/proc/51/stack", "[<0>] idempotent_init_module+0x1/0x2\n")
    table = read_load_table(tree.root, loads.kernel.memory(), looks=2, pause=0, machine="x86_64", own_tid=OWN)
    assert {node.pid: node.role for node in table.nodes} == {50: LoadRole.LOADER, 51: LoadRole.UNCLEAR}
