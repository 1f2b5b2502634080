# SPDX-License-Identifier: MIT
"""The stacks of all tasks, and how much of each is in use."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.kernel_tasks import init_task, process_addresses, read_task, thread_addresses
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.per_cpu import per_cpu_address, per_cpu_offsets

__all__ = ["Stack", "Stacks"]

_KEPT = 2
"""NR_CACHED_STACKS."""
_DEFAULT_SIZE = 1 << 14
"""THREAD_SIZE of x86_64 and arm64 with 4 KB pages and no KASAN."""


class Stack(NamedTuple):
    """A task's stack, from `start` to `end`. It grows down: in use from `pointer` on, which is the saved one
    (task_struct.thread) and None while the task runs."""

    start: int
    end: int
    tid: int
    command: str
    alive: bool
    pointer: Optional[int]

    def in_use(self, address: int) -> Optional[bool]:
        """Whether `address` is above the stack pointer; None for a task that runs. A dead task uses nothing."""
        if not self.alive:
            return False
        return None if self.pointer is None else address >= self.pointer


class Stacks:
    """Every task's, by address."""

    def __init__(self, memory: KernelMemory) -> None:
        self._stacks = sorted([*_read(memory), *_kept(memory)])
        self._starts = [stack.start for stack in self._stacks]

    def of(self, address: int) -> Optional[Stack]:
        """The stack that `address` lies in, or None."""
        at = bisect_right(self._starts, address)
        found = self._stacks[at - 1] if at else None
        return found if found and address < found.end else None


def _read(memory: KernelMemory) -> Iterator[Stack]:
    try:
        size = memory.sizeof("thread_union")
    except LkmError:
        size = _DEFAULT_SIZE
    for leader in (init_task(memory), *process_addresses(memory)):
        try:
            threads = {leader, *thread_addresses(memory, leader)}
        except LkmError:
            threads = {leader}
        for task in threads:
            found = _stack_if_there(memory, task, size)
            if found:
                yield found


def _kept(memory: KernelMemory) -> Iterator[Stack]:
    """Stacks of tasks that are gone, kept for the next ones: a few a CPU (cached_stacks, kernel/fork.c, with
    CONFIG_VMAP_STACK, 5.10 to 7.x). Where these are not told, there are none."""
    try:
        symbol = memory.symbol("cached_stacks")
        address, size = memory.offset("vm_struct", "addr"), memory.offset("vm_struct", "size")
        areas = [
            area
            for offset in per_cpu_offsets(memory)
            for area in memory.words(per_cpu_address(symbol, offset), _KEPT)
            if is_kernel_pointer(area)
        ]
        for area in areas:
            start = memory.u64(area + address)
            yield Stack(
                start, start + memory.u64(area + size), 0, "a task that has ended", alive=False, pointer=None
            )
    except LkmError:
        return


def _stack_if_there(memory: KernelMemory, task: int, size: int) -> Optional[Stack]:
    """None for a task that has ended in between."""
    try:
        return _stack(memory, task, size)
    except LkmError:
        return None


def _stack(memory: KernelMemory, address: int, size: int) -> Stack:
    task = read_task(memory, address)
    start = memory.pointer(address + memory.offset("task_struct", "stack"))
    thread = address + memory.offset("task_struct", "thread")
    saved = memory.offset("thread_struct", "sp", "cpu_context.sp")
    running = memory.u8(address + memory.offset("task_struct", "on_cpu"))  # an int, 0 or 1; a byte in 7.x
    pointer = None if running else memory.u64(thread + saved)
    if pointer is not None and not start <= pointer <= start + size:
        pointer = None
    return Stack(start, start + size, task.tid, task.command, task.alive, pointer)
