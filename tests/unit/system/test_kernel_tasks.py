# SPDX-License-Identifier: MIT
"""What is read by tasks: who holds module_mutex, which files are open, which asynchronous calls are dead."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.async_entries import read_async_entries
from lkm.system.file_operations import read_served_files
from lkm.system.kcore import KcoreError
from lkm.system.kernel_tasks import process_addresses
from lkm.system.module_mutex import read_module_mutex
from lkm.system.snapshot import AsyncEntry, MutexState
from tests.unit.system.kernel import HEAP, MODULES, FakeKernel, FakeTypes, module
from tests.unit.system.trees import Tree

TASKS = {
    "task_struct": (
        128,
        {"flags": 0, "exit_state": 4, "pid": 8, "tgid": 12, "tasks": 16, "thread_node": 32, "signal": 48, "files": 56,
         "comm": 64, "real_parent": 80, "stack": 88, "__state": 96},
    ),
    "signal_struct": (32, {"thread_head": 8}),
    "mutex": (32, {"owner": 0}),
    "mutex_waiter": (32, {"list": 0, "task": 16}),
    "files_struct": (64, {"fdt": 32}),
    "fdtable": (32, {"max_fds": 0, "fd": 8}),
    "file": (64, {"f_op": 8, "private_data": 24}),
    "socket": (64, {"ops": 32}),
    "async_entry": (96, {"global_list": 16, "work.data": 32, "cookie": 64, "func": 72}),
}  # fmt: skip
DEMO = module("demo", MODULES, 0x1000)
NOWHERE = Root("/nonexistent")
PF_EXITING, ZOMBIE = 4, 0x20


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path))


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel(FakeTypes(TASKS))
    kernel.symbols["init_task"] = kernel.new("task_struct")
    kernel.symbols["module_mutex"] = kernel.new("mutex")
    kernel.symbols["async_global_pending"] = kernel.new(16)
    for name, at in (("init_task", 16), ("async_global_pending", 0)):
        kernel.ring(kernel.symbols[name] + at, [])
    return kernel


def put_task(
    kernel: FakeKernel, pid: int, *, tgid: int = 0, command: str = "sh", flags: int = 0, exit_state: int = 0
) -> int:
    task = kernel.new("task_struct")
    kernel.put(task, struct.pack("<IIii", flags, exit_state, pid, tgid or pid))
    kernel.put(task + 64, command)
    return task


def schedule(kernel: FakeKernel, *leaders: int) -> None:
    kernel.ring(kernel.symbols["init_task"] + 16, [leader + 16 for leader in leaders])


# module_mutex


def mutex(kernel: FakeKernel) -> MutexState | None:
    return read_module_mutex(NOWHERE, kernel.memory(), pause=0)


def test_a_free_mutex(kernel: FakeKernel) -> None:
    assert mutex(kernel) == MutexState(held=False)
    kernel.put(kernel.symbols["module_mutex"], 5)
    assert mutex(kernel) == MutexState(held=False)


def test_a_mutex_held_by_a_live_task(kernel: FakeKernel) -> None:
    task = put_task(kernel, 42, command="modprobe")
    schedule(kernel, put_task(kernel, 1), task)
    kernel.put(kernel.symbols["module_mutex"], task | 3)
    assert mutex(kernel) == MutexState(held=True, owner_pid=42, owner_command="modprobe")


def test_a_mutex_held_by_a_thread(kernel: FakeKernel) -> None:
    leader, thread = put_task(kernel, 42), put_task(kernel, 43, tgid=42, command="worker")
    signal = kernel.new("signal_struct")
    kernel.set(leader, "task_struct", signal=signal)
    kernel.ring(signal + 8, [leader + 32, thread + 32])
    schedule(kernel, leader)
    kernel.put(kernel.symbols["module_mutex"], thread)
    assert mutex(kernel) == MutexState(held=True, owner_pid=43, owner_command="worker")


@pytest.mark.parametrize(("flags", "exit_state"), [(PF_EXITING, 0), (0, ZOMBIE)])
def test_a_mutex_held_by_one_that_dies(kernel: FakeKernel, flags: int, exit_state: int) -> None:
    task = put_task(kernel, 42, command="rmmod", flags=flags, exit_state=exit_state)
    schedule(kernel, task)
    kernel.put(kernel.symbols["module_mutex"], task)
    assert mutex(kernel) == MutexState(held=True, owner_pid=None, owner_command="rmmod")


@pytest.mark.parametrize("owner", [HEAP + 0x70_0000, 0x1230, 0x6B6B6B6B6B6B6B68])
def test_a_mutex_whose_owner_has_gone(kernel: FakeKernel, owner: int) -> None:
    schedule(kernel, put_task(kernel, 1))
    kernel.put(kernel.symbols["module_mutex"], owner)
    assert mutex(kernel) == MutexState(held=True)


@pytest.mark.parametrize("ring", [False, True])
def test_a_waiter_with_the_address_of_the_owner_is_another_task(kernel: FakeKernel, *, ring: bool) -> None:
    """`wait_list` until 6.x; `first_waiter`, a ring without a head, in 7.x."""
    assert kernel.types is not None
    member = {"first_waiter": 16} if ring else {"wait_list": 16}
    kernel.types.structs["mutex"] = (32, {"owner": 0, **member})
    kernel.types.structs["mutex_waiter"] = (32, {"list": 0, "task": 16})
    reused, other = put_task(kernel, 42), put_task(kernel, 43)
    schedule(kernel, reused, other)
    waiters = [kernel.set(kernel.new("mutex_waiter"), "mutex_waiter", task=task) for task in (other, reused)]
    place = kernel.symbols["module_mutex"]
    kernel.put(place, reused | 1)
    if ring:
        kernel.put(place + 16, waiters[0])
        kernel.ring(waiters[0], waiters[1:])
    else:
        kernel.ring(place + 16, waiters)
    assert mutex(kernel) == MutexState(held=True)
    kernel.put(waiters[1] + 16, other)
    assert mutex(kernel) == MutexState(held=True, owner_pid=42, owner_command="sh")


def test_the_stack_of_the_owner_tells_a_new_task(kernel: FakeKernel, tree: Tree) -> None:
    task = put_task(kernel, 42, command="modprobe")
    schedule(kernel, task)
    kernel.put(kernel.symbols["module_mutex"], task)
    for stack, pid in (
        ("[<0>] do_wait+0x1/0x2\n[<0>] kernel_wait4+0x1/0x2\n", None),
        ("[<0>] msleep+0x1/0x2\n[<0>] free_module+0x1/0x2\n", 42),
        ("[<0>] m_start+0x1a/0x30\n[<0>] seq_read_iter+0x1/0x2\n", None),
        ("[<0>] __mutex_lock.constprop.0+0x1/0x2\n[<0>] load_module+0x1/0x2\n", None),
        ("[<0>] __do_sys_delete_module.constprop.0+0x1b9/0x310\n", None),
        ("[<0>] demo_exit+0x18/0x20 [demo]\n[<0>] __do_sys_delete_module.constprop.0+0x1b9/0x310\n", 42),
        ("[<0>] demo_init+0x26/0x1000 [demo]\n[<0>] do_init_module+0x4a/0x220\n", 42),
        ("", 42),
    ):
        tree.write("/proc/42/stack", stack)
        found = read_module_mutex(tree.root, kernel.memory(), pause=0)
        assert found is not None
        assert (found.held, found.owner_pid) == (True, pid)


def test_a_mutex_that_changes_hands_is_not_held(kernel: FakeKernel) -> None:
    first, second = put_task(kernel, 1), put_task(kernel, 2)
    schedule(kernel, first, second)
    kernel.put(kernel.symbols["module_mutex"], first)
    memory = kernel.memory()
    plain = memory.u64

    def changing(address: int) -> int:
        value = plain(address)
        kernel.put(kernel.symbols["module_mutex"], second if value == first else first)
        return value

    memory.u64 = changing  # type: ignore[method-assign]
    assert read_module_mutex(NOWHERE, memory, pause=0) == MutexState(held=False)


def test_a_mutex_of_preempt_rt(kernel: FakeKernel) -> None:
    assert kernel.types is not None
    kernel.types.structs["mutex"] = (32, {"rtmutex.owner": 24})
    task = put_task(kernel, 42)
    schedule(kernel, task)
    kernel.put(kernel.symbols["module_mutex"] + 24, task | 1)
    found = mutex(kernel)
    assert found is not None
    assert found.owner_pid == 42


def test_a_mutex_that_kallsyms_does_not_have(kernel: FakeKernel) -> None:
    del kernel.symbols["module_mutex"]
    memory = kernel.memory()
    assert read_module_mutex(NOWHERE, memory) is None
    assert "KALLSYMS_ALL" in memory.notes[0]


def test_a_mutex_without_btf(kernel: FakeKernel) -> None:
    kernel.types = None
    assert mutex(kernel) == MutexState(held=False)
    kernel.put(kernel.symbols["module_mutex"], HEAP)
    memory = kernel.memory()
    assert read_module_mutex(NOWHERE, memory, pause=0) == MutexState(held=True)
    assert "cannot be looked up" in memory.notes[0]


def test_without_its_symbol_the_idle_task_is_the_ancestor_of_all(kernel: FakeKernel) -> None:
    idle = kernel.symbols["init_task"]
    shell = put_task(kernel, 42)
    schedule(kernel, shell)
    kernel.put(shell + 80, idle)
    kernel.put(idle + 80, idle)
    del kernel.symbols["init_task"]
    memory = kernel.memory()
    memory.own_task = lambda: bytes(80) + shell.to_bytes(8, "little")
    assert list(process_addresses(memory)) == [shell]


@pytest.mark.parametrize("own", [b"", bytes(84), bytes(88), bytes(80) + b"\xff" * 8])
def test_without_symbol_and_parents_there_are_no_tasks(kernel: FakeKernel, own: bytes) -> None:
    del kernel.symbols["init_task"]
    memory = kernel.memory()
    memory.own_task = lambda: own
    with pytest.raises(KcoreError):
        list(process_addresses(memory))


def test_a_ring_of_parents_ends(kernel: FakeKernel) -> None:
    one, other = put_task(kernel, 41), put_task(kernel, 42)
    kernel.put(one + 80, other)
    kernel.put(other + 80, one)
    del kernel.symbols["init_task"]
    memory = kernel.memory()
    memory.own_task = lambda: bytes(80) + one.to_bytes(8, "little")
    with pytest.raises(KcoreError, match="init_task is not in /proc/kallsyms"):
        list(process_addresses(memory))


# Open files


def put_files(kernel: FakeKernel, task: int, files: dict[int, int], *, slots: int = 64) -> int:
    """A table with these descriptors; its files_struct."""
    table, array = kernel.new("fdtable"), kernel.new(8 * slots)
    kernel.put(table, struct.pack("<I", slots))
    kernel.set(table, "fdtable", fd=array)
    for fd, file in files.items():
        kernel.put(array + 8 * fd, file)
    holder = kernel.set(kernel.new("files_struct"), "files_struct", fdt=table)
    kernel.set(task, "task_struct", files=holder)
    return holder


def put_file(kernel: FakeKernel, operations: int, private: int = 0) -> int:
    return kernel.set(kernel.new("file"), "file", f_op=operations, private_data=private)


def test_files_by_their_operations(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols["socket_file_ops"] = 0xFFFF_FFFF_8200_0000
    first, second = put_task(kernel, 10, command="holder"), put_task(kernel, 11)
    socket = kernel.set(kernel.new("socket"), "socket", ops=MODULES + 64)
    own = put_file(kernel, MODULES + 0x10)
    put_files(
        kernel,
        first,
        {
            0: put_file(kernel, 0xFFFF_FFFF_8100_0000),
            3: own,
            7: put_file(kernel, kernel.symbols["socket_file_ops"], socket),
        },
    )
    put_files(
        kernel, second, {1: own, 2: HEAP + 0x70_0000, 4: put_file(kernel, kernel.symbols["socket_file_ops"])}
    )
    schedule(kernel, first, second, put_task(kernel, 12))
    tree.link("/proc/10/fd/3", "/dev/left")
    found = read_served_files(tree.root, kernel.memory(), [DEMO])
    assert [(item.pid, item.command, item.fd, item.path, item.how) for item in found] == [
        (10, "holder", 3, "/dev/left", "f_op"),
        (10, "holder", 7, "", "f_op"),
        (11, "sh", 1, "", "f_op"),
    ]


def test_a_shared_table_is_counted_once(kernel: FakeKernel, tree: Tree) -> None:
    first, second = put_task(kernel, 10), put_task(kernel, 11)
    holder = put_files(kernel, first, {3: put_file(kernel, MODULES)})
    kernel.set(second, "task_struct", files=holder)
    schedule(kernel, first, second)
    assert [item.pid for item in read_served_files(tree.root, kernel.memory(), [DEMO])] == [10]


def test_a_task_that_ends_in_between_is_left_out(kernel: FakeKernel, tree: Tree) -> None:
    first, second = put_task(kernel, 10), put_task(kernel, 11)
    kernel.set(first, "task_struct", files=HEAP + 0x70_0000)
    put_files(kernel, second, {3: put_file(kernel, MODULES)})
    schedule(kernel, first, second)
    memory = kernel.memory()
    assert [item.pid for item in read_served_files(tree.root, memory, [DEMO])] == [11]
    assert memory.notes == []


def test_an_absurd_table_is_read_in_part(kernel: FakeKernel, tree: Tree) -> None:
    task = put_task(kernel, 10)
    holder = put_files(kernel, task, {3: put_file(kernel, MODULES)})
    kernel.put(kernel.memory().u64(holder + 32), struct.pack("<I", 0xFFFFFFFF))
    schedule(kernel, task)
    memory = kernel.memory()
    assert read_served_files(tree.root, memory, [DEMO]) == ()
    assert "descriptors" in memory.notes[0]


def test_many_files_of_one_module_are_cut(kernel: FakeKernel, tree: Tree) -> None:
    task = put_task(kernel, 10)
    put_files(kernel, task, dict.fromkeys(range(1200), put_file(kernel, MODULES)), slots=1200)
    schedule(kernel, task)
    memory = kernel.memory()
    assert len(read_served_files(tree.root, memory, [DEMO])) == 1000
    assert "more than 1000" in memory.notes[0]


def test_files_need_types_symbols_and_module_memory(kernel: FakeKernel, tree: Tree) -> None:
    assert read_served_files(tree.root, kernel.memory(), [module("hidden")]) == ()
    del kernel.symbols["init_task"]
    memory = kernel.memory()
    assert read_served_files(tree.root, memory, [DEMO]) == ()
    assert len(memory.notes) == 1
    kernel.types = None
    assert read_served_files(tree.root, kernel.memory(), [DEMO]) == ()


# Asynchronous calls


def put_call(kernel: FakeKernel, function: int, *, queued: bool = False) -> int:
    entry = kernel.new("async_entry")
    kernel.set(entry, "async_entry", func=function, cookie=7, work__data=HEAP | int(queued))
    return entry + 16


def test_a_call_whose_worker_died(kernel: FakeKernel, tree: Tree) -> None:
    kernel.module_symbols = [(MODULES, "dead_async", "demo"), (MODULES + 0x40, "live_async", "demo")]
    kernel.symbols["builtin_async"] = 0xFFFF_FFFF_8100_0000
    kernel.ring(
        kernel.symbols["async_global_pending"],
        [
            put_call(kernel, MODULES),
            put_call(kernel, MODULES + 0x40),
            put_call(kernel, MODULES, queued=True),
            put_call(kernel, kernel.symbols["builtin_async"]),
            put_call(kernel, 0x1234),
        ],
    )
    stack = "[<0>] live_async+0x10/0x20 [demo]\n[<0>] async_run_entry_fn+0x30/0x130\n[<0>] kthread+0x1/0x2\n"
    tree.thread(30, command="kworker/u2:1", kernel=True)
    tree.write("/proc/30/stack", stack)
    tree.thread(31, command="notaworker")
    tree.write("/proc/31/stack", stack.replace("live", "dead"))
    demo = ModuleName("demo")
    assert read_async_entries(tree.root, kernel.memory(), [DEMO]) == (
        AsyncEntry("dead_async", demo, running=False),
        AsyncEntry("live_async", demo, running=True),
        AsyncEntry("dead_async", demo, running=True),
        AsyncEntry("builtin_async", None, running=False),
        AsyncEntry("0x1234", None, running=False),
    )


def test_no_calls_are_usual(kernel: FakeKernel, tree: Tree) -> None:
    memory = kernel.memory()
    assert read_async_entries(tree.root, memory, [DEMO]) == ()
    assert memory.notes == []


def test_calls_that_cannot_be_read_are_a_note(kernel: FakeKernel, tree: Tree) -> None:
    kernel.put(kernel.symbols["async_global_pending"], HEAP + 0x70_0000)
    memory = kernel.memory()
    assert read_async_entries(tree.root, memory, [DEMO]) == ()
    assert len(memory.notes) == 1


def test_the_module_of_a_call_is_told_by_its_symbol_too(kernel: FakeKernel, tree: Tree) -> None:
    kernel.module_symbols = [(MODULES, "dead_async", "demo")]
    kernel.ring(kernel.symbols["async_global_pending"], [put_call(kernel, MODULES)])
    (entry,) = read_async_entries(tree.root, kernel.memory(), [module("demo")])
    assert entry.module == "demo"
