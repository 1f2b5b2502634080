# SPDX-License-Identifier: MIT
"""A kernel with threads, their stacks, and a table of files being loaded, in synthetic memory."""

from __future__ import annotations

import struct
from typing import Optional

from lkm.root import Root
from lkm.system.idempotent import read_load_table
from lkm.system.load_table import LoadTable, hash_of
from lkm.system.memory import KernelMemory
from tests.unit.system.kernel import FakeKernel, FakeTypes

__all__ = ["FINIT", "PREAD", "STACK", "Loads", "cookie_of"]

STACK = 1 << 14
PREAD, FINIT = 17, 313
OWN = 1000
TYPES = {
    "task_struct": (
        192,
        {"flags": 0, "exit_state": 4, "pid": 8, "tgid": 12, "tasks": 16, "thread_node": 32, "signal": 48, "comm": 64,
         "stack": 80, "__state": 88},
    ),
    "signal_struct": (32, {"thread_head": 8}),
    "pt_regs": (168, {"orig_ax": 120, "cs": 136}),
    "idempotent": (64, {"cookie": 0, "entry": 8, "complete": 24, "complete.wait.task_list": 40, "ret": 56}),
    "raw_spinlock": (4, {"raw_lock": 0}),
    "spinlock": (4, {"rlock": 0, "rlock.raw_lock.locked": 0, "rlock.raw_lock.tail": 2}),
}  # fmt: skip


def cookie_of(bucket: int, number: int = 0) -> int:
    """The `number`-th inode address that falls into that bucket."""
    at = 0xFFFF_8880_1000_0000
    while True:
        at += 8
        if hash_of(at) == bucket:
            if not number:
                return at
            number -= 1


class Loads:
    """The kernel, with the thread that reads it."""

    def __init__(self, padding: int = 0) -> None:
        self.kernel = FakeKernel(FakeTypes(TYPES))
        self.padding = padding
        self.tasks: list[int] = []
        self.stacks: dict[int, int] = {}
        self.frames: dict[int, tuple[str, ...]] = {}
        symbols = self.kernel.symbols
        symbols["idem_hash"] = self.kernel.new(8 * 256)
        symbols["idem_lock"] = self.kernel.new(8)
        symbols["init_task"] = self.kernel.new("task_struct")
        self.thread(OWN, call=PREAD)

    @property
    def table(self) -> int:
        return self.kernel.symbols["idem_hash"]

    def thread(
        self, tid: int, *, call: int = FINIT, running: bool = False, stack: int = 0, flags: int = 0
    ) -> int:
        """A thread in that system call; its stack's address. `stack`: one that another thread had."""
        kernel = self.kernel
        stack = stack or kernel.new(STACK)
        regs = stack + STACK - self.padding - 168
        kernel.put(regs + 120, call)
        kernel.put(regs + 136, 0x33)
        task, signal = kernel.new("task_struct"), kernel.new("signal_struct")
        kernel.put(task, struct.pack("<IIii", flags, 0, tid, tid))
        kernel.set(task, "task_struct", signal=signal, comm="insmod", stack=stack)
        kernel.put(task + 88, 0 if running else 1)
        kernel.ring(kernel.at(signal, "signal_struct", "thread_head"), [task + 32])
        self.tasks.append(task)
        self.stacks[tid] = stack
        self._ring()
        return stack

    def on_one_stack(self, dead: int, alive: int, cookie: int) -> None:
        """A load whose task has the stack of one that died in a load of the same file: whose entry is whose?"""
        stack = self.thread(dead)
        self.node(dead, cookie, at=0x2000)
        self.end(dead)
        self.thread(alive, stack=stack)
        self.node(alive, cookie, at=0x3000)

    def end(self, tid: int) -> None:
        """The thread is gone; what stands on its stack stays."""
        self.tasks = [task for task in self.tasks if self.kernel.memory().i32(task + 8) != tid]
        self._ring()

    def _ring(self) -> None:
        self.kernel.ring(self.kernel.symbols["init_task"] + 16, [task + 16 for task in self.tasks])

    def node(self, tid: int, cookie: int, *, waits: bool = False, at: int = 0x3000) -> int:
        """hlist_add_head of a struct idempotent on that thread's stack; its address."""
        kernel = self.kernel
        head = self.table + 8 * hash_of(cookie)
        first = kernel.memory().u64(head)
        node = self.stacks[tid] + at
        queue = node - 0x100 if waits else node + 40
        for offset, value in ((0, cookie), (8, first), (16, head), (40, queue), (48, queue)):
            kernel.put(node + offset, value)
        kernel.put(node + 56, struct.pack("<i", -4))
        if first:
            try:
                kernel.put(first + 8, node + 8)
            except AssertionError:
                pass  # into a stack that is not mapped any more
        kernel.put(head, node + 8)
        inner = "idempotent_wait_for_completion" if waits else "load_module"
        self.frames[tid] = (inner, "idempotent_init_module")
        return node

    def read(
        self, memory: Optional[KernelMemory] = None, *, looks: int = 2, search: bool = False
    ) -> LoadTable:
        """What is seen of it."""
        return read_load_table(
            Root("/nonexistent"),
            memory or self.kernel.memory(),
            looks=looks,
            pause=0,
            machine="x86_64",
            own_tid=OWN,
            search=search,
            frames_of=lambda tid: self.frames.get(tid, ()),
        )

    def chain(self, bucket: int) -> list[int]:
        """The nodes of a bucket, each linked back to the one before it."""
        memory = self.kernel.memory()
        link, found = self.table + 8 * bucket, []
        while memory.u64(link):
            entry = memory.u64(link)
            assert memory.u64(entry + 8) == link, "pprev"
            found.append(entry - 8)
            link = entry
            assert len(found) < 500
        return found
