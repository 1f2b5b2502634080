# SPDX-License-Identifier: MIT
"""The kernel's own list of tasks: struct task_struct, from `init_task` on (include/linux/sched/signal.h)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory, is_kernel_pointer

__all__ = ["KernelTask", "find_task", "init_task", "process_addresses", "read_task", "thread_addresses"]

_MAX_PROCESSES = 1 << 18
_MAX_THREADS = 1 << 16
_MAX_PARENTS = 1 << 12
_COMM = 16
_PF_EXITING = 0x4


class KernelTask(NamedTuple):
    """Some fields of a struct task_struct.

    alive    False for one that exits, is a zombie or is reaped
    stack    the lowest address of its kernel stack; 0 where that is gone
    running  it runs, or waits for a CPU
    """

    address: int
    tid: int
    pid: int
    command: str
    alive: bool
    stack: int = 0
    running: bool = False


def process_addresses(memory: KernelMemory) -> Iterator[int]:
    """The thread group leader of each process, init_task (the idle task) left out."""
    first, link = init_task(memory), memory.offset("task_struct", "tasks")
    for node in memory.list_nodes(first + link, what="the list of tasks", limit=_MAX_PROCESSES):
        yield node - link


def init_task(memory: KernelMemory) -> int:
    """Address of `init_task`.

    Without CONFIG_KALLSYMS_ALL (Debian's arm64 6.1) it has no symbol. It is the ancestor of every task, and its
    own parent (init/init_task.c).
    """
    try:
        return memory.symbol("init_task")
    except KcoreError:
        parent = memory.offset("task_struct", "real_parent")
        own = memory.own_task()[parent : parent + 8]
        task = int.from_bytes(own, "little")
        for _ in range(_MAX_PARENTS if len(own) == 8 else 0):
            above = memory.pointer(task + parent)
            if above == task and memory.i32(task + memory.offset("task_struct", "pid")) == 0:
                return task
            task = above
        raise


def read_task(memory: KernelMemory, address: int) -> KernelTask:
    """The task at `address`, which must be a task's: there is nothing to tell it by."""
    data = memory.read(address, memory.sizeof("task_struct"))

    def number(width: int, *names: str) -> int:
        at = memory.offset("task_struct", *names)
        return int.from_bytes(data[at : at + width], "little", signed=width == 4)

    comm = memory.offset("task_struct", "comm")
    stack = number(8, "stack")
    return KernelTask(
        address=address,
        tid=number(4, "pid"),
        pid=number(4, "tgid"),
        command=data[comm : comm + _COMM].split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
        alive=not number(4, "exit_state") and not number(4, "flags") & _PF_EXITING,
        stack=stack if is_kernel_pointer(stack) else 0,
        running=not number(4, "__state", "state"),  # TASK_RUNNING; __state since 5.14 (include/linux/sched.h)
    )


def find_task(memory: KernelMemory, address: int) -> Optional[KernelTask]:
    """The task at `address` if the kernel still has it in its lists, threads included; None for a freed one."""
    leaders = list(process_addresses(memory))
    if address in leaders:
        return read_task(memory, address)
    try:
        threads = any(address in thread_addresses(memory, leader) for leader in leaders)
    except LkmError:
        return None
    return read_task(memory, address) if threads else None


def thread_addresses(memory: KernelMemory, leader: int) -> list[int]:
    """The threads of a process: `signal->thread_head`, linked by `thread_node` (3.14 to 7.x)."""
    signal = memory.pointer(leader + memory.offset("task_struct", "signal"))
    if not signal:
        return []
    head, link = (
        signal + memory.offset("signal_struct", "thread_head"),
        memory.offset("task_struct", "thread_node"),
    )
    nodes = memory.list_nodes(head, what="the threads of a process", limit=_MAX_THREADS)
    return [node - link for node in nodes]
