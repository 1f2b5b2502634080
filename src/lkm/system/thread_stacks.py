# SPDX-License-Identifier: MIT
"""Every live thread with its kernel stack, and which system call it is in, from kernel memory.

The user's registers stand at the top of a kernel stack (`task_pt_regs`), and among them the number of the call
(`orig_ax`, `syscallno`). So a thread that runs on another CPU can be told too, of which /proc shows no stack.
How large a stack is, no type tells: it is measured on our own thread, which is in pread(2) while it is read.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.kernel_tasks import KernelTask, process_addresses, read_task, thread_addresses
from lkm.system.memory import KernelMemory

__all__ = ["Stacks", "Thread", "ThreadsUnknown", "read_stacks"]

_SIZES = (1 << 14, 1 << 15, 1 << 16)
"""THREAD_SIZE: 16 KiB on x86_64 and arm64, twice that with KASAN; 64 KiB on arm64 with such pages."""
_PADDINGS = (0, 16)
"""TOP_OF_KERNEL_STACK_PADDING: 16 on x86_64 with CONFIG_X86_FRED (arch/x86/include/asm/thread_info.h, since 6.9)."""
_TRIES = 5

_PREAD = {"x86_64": 17, "aarch64": 67}
_FINIT = {"x86_64": (313, 350), "aarch64": (273, 379)}
"""finit_module(2), also as a 32-bit program calls it."""


class ThreadsUnknown(LkmError):
    """Who lives could not be told."""


class Thread(NamedTuple):
    """A live thread. `running`: it ran, or was about to, as it was looked at."""

    tid: int
    pid: int
    command: str
    stack: int
    running: bool
    loading: bool


class Stacks(NamedTuple):
    """The live threads, `size` bytes of kernel stack each."""

    size: int
    threads: tuple[Thread, ...]

    @property
    def loading(self) -> tuple[Thread, ...]:
        """Those in finit_module(2)."""
        return tuple(thread for thread in self.threads if thread.loading)


class _Frame(NamedTuple):
    """Where on a kernel stack the user's registers are."""

    size: int  # of the stack
    call: int  # offset of the call's number
    width: int  # of the call's number


def read_stacks(memory: KernelMemory, *, machine: str = "", own_tid: int = 0) -> Stacks:
    """The live threads now. ThreadsUnknown without BTF, and where the list of tasks changes too fast to be read.

    `own_tid` is the reader's own thread, by default this one.
    """
    machine = machine or os.uname().machine
    if not memory.has_types:
        raise ThreadsUnknown("without BTF it is not known who lives", remedy="restart when you can")
    if machine not in _PREAD:
        raise ThreadsUnknown(f"the kernel stacks of {machine} are not known", remedy="restart when you can")
    addresses = _all_threads(memory)
    tasks = [task for address in addresses if (task := _read(memory, address)) is not None]
    own = own_tid or threading.get_native_id()
    mine = next((task for task in tasks if task.tid == own), None)
    if mine is None:
        raise ThreadsUnknown(
            f"our own thread {own} is not in the kernel's list of tasks",
            remedy="run it outside of a container",
        )
    frame = _measure(memory, mine.stack, machine)
    threads = []
    for task in tasks:
        if task.alive and task.stack:
            call = _call_of(memory, task.stack, frame)
            loading = call in _FINIT[machine]
            threads.append(Thread(task.tid, task.pid, task.command, task.stack, task.running, loading))
    return Stacks(frame.size, tuple(threads))


def _all_threads(memory: KernelMemory) -> list[int]:
    """Every struct task_struct in the lists. A walk that was cut short is made anew."""
    for _ in range(_TRIES):
        before, memory.notes = memory.notes, []
        try:
            found = [
                thread for leader in process_addresses(memory) for thread in thread_addresses(memory, leader)
            ]
            cut = memory.notes
        except LkmError as error:
            found, cut = [], [str(error)]
        finally:
            memory.notes = before
        if not cut:
            return found
    raise ThreadsUnknown(f"the list of tasks could not be read: {cut[0]}", remedy="try again")


def _read(memory: KernelMemory, address: int) -> Optional[KernelTask]:
    """The task there, None for one that has gone."""
    try:
        return read_task(memory, address)
    except LkmError:
        return None


def _measure(memory: KernelMemory, stack: int, machine: str) -> _Frame:
    """Where the registers are on our own stack, whose call is pread(2), made in user mode."""
    width = 8 if machine == "x86_64" else 4
    call, mode = ("orig_ax", "cs") if machine == "x86_64" else ("syscallno", "pstate")
    regs, call_at, mode_at = (
        memory.sizeof("pt_regs"),
        memory.offset("pt_regs", call),
        memory.offset("pt_regs", mode),
    )
    for size in _SIZES:
        for padding in _PADDINGS:
            base = size - padding - regs
            try:
                data = memory.read(stack + base, regs)
            except LkmError:
                continue
            number = int.from_bytes(data[call_at : call_at + width], "little")
            if number == _PREAD[machine] and _is_user(data[mode_at], machine):
                return _Frame(size, base + call_at, width)
    raise ThreadsUnknown(
        "the registers on our own kernel stack are not where they should be", remedy="restart when you can"
    )


def _is_user(mode: int, machine: str) -> bool:
    """Privilege level 3 in `cs`, or exception level 0 in `pstate`."""
    return mode & 3 == 3 if machine == "x86_64" else mode & 0xF == 0


def _call_of(memory: KernelMemory, stack: int, frame: _Frame) -> int:
    """The number of the call that the thread is in, or was in last; of a kernel thread anything."""
    try:
        return int.from_bytes(memory.read(stack + frame.call, frame.width), "little")
    except LkmError:
        return -1
