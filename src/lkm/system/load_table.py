# SPDX-License-Identifier: MIT
"""`LoadTable`: the kernel's table of files that finit_module(2) is loading, as values.

Source: kernel/module/main.c, 6.5 to 7.x: `idem_hash`, 256 buckets under `idem_lock`; each call has a
`struct idempotent` on its kernel stack, hashed by the file's inode. The first of a file loads, the others wait
for it (`idempotent_init_module`); it takes them all out when it is done (`idempotent_complete`). An oops in
init ends the loader without that, so its entry dangles, on a stack that is freed.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

from lkm.values import Address

__all__ = ["LoadBucket", "LoadNode", "LoadRole", "LoadTable", "NodeLayout", "hash_of"]

BUCKETS = 256
_GOLDEN_RATIO_64 = 0x61C8864680B583EB


def hash_of(cookie: int) -> int:
    """The bucket of an inode: hash_ptr(cookie, 8) (include/linux/hash.h, 4.7 to 7.x)."""
    return (cookie * _GOLDEN_RATIO_64 & (1 << 64) - 1) >> 56


class NodeLayout(NamedTuple):
    """Offsets in bytes into struct idempotent; `queue` is the list head of its completion's wait queue."""

    cookie: int = 0
    entry: int = 8
    complete: int = 24
    queue: int = 40
    ret: int = 56
    size: int = 64


class LoadRole(Enum):
    """What the task whose entry it is does."""

    LOADER = "loader"  # it loads the file: its stack says so, and nobody is in its completion's queue
    WAITER = "waiter"  # it is in that queue: it waits for the loader
    UNCLEAR = "unclear"  # neither could be seen, or it changed, or there are two on one stack or of one file


class LoadNode(NamedTuple):
    """A struct idempotent on the kernel stack of a live task that is in finit_module(2).

    next, previous  its hlist_node: addresses of an entry, and of a pointer to this one
    queue           `task_list.next` of its completion's wait queue
    """

    address: Address
    cookie: Address
    next: Address
    previous: Address
    queue: Address
    done: int
    ret: int
    role: LoadRole
    pid: int
    command: str

    @property
    def bucket(self) -> int:
        """Where it belongs."""
        return hash_of(self.cookie)


class LoadBucket(NamedTuple):
    """A bucket that had the same first entry, or none (`head` 0), at every look.

    chain  the live nodes that are reached from it, in their order
    dead   the entry (`hlist_node`) that follows them and is no live task's; 0: the chain is sound
    """

    number: int
    head: Address
    chain: tuple[Address, ...]
    dead: Address

    @property
    def dangles(self) -> bool:
        """Whether it leads to an entry that nobody will take out."""
        return self.dead != 0


class LoadTable(NamedTuple):
    """What was seen of it, over several looks.

    present    False: this kernel has no such table (before 6.5); then nothing else is told
    error      why it could not be read, or not told who lives; the rest is what was seen up to then
    lock_word  of idem_lock at the last look
    lock_held  it was held at every look
    lock_queued  it is a queued spinlock and nothing else: 4 bytes, the low one for who holds it, 0 where nobody does
    buckets    those that had the same first entry at every look, or none, but a live task has one that belongs there
    nodes      of live tasks in these; looked for only where an entry stays or the lock is held, or on request
    running    threads in finit_module(2) that ran at some look, so that they may hold the lock
    """

    present: bool = True
    error: str = ""
    remedy: str = ""
    table: Address = 0
    lock: Address = 0
    lock_word: int = 0
    lock_held: bool = False
    lock_size: int = 0
    lock_queued: bool = False
    preempt_rt: bool = False
    layout: NodeLayout = NodeLayout()
    buckets: tuple[LoadBucket, ...] = ()
    nodes: tuple[LoadNode, ...] = ()
    running: tuple[int, ...] = ()

    def bucket(self, index: int) -> Optional[LoadBucket]:
        """The bucket of that number, if it is listed."""
        return next((bucket for bucket in self.buckets if bucket.number == index), None)

    def head_of(self, index: int) -> int:
        """The address of that bucket's head."""
        return self.table + 8 * index

    @property
    def dangling(self) -> tuple[LoadBucket, ...]:
        """The buckets that lead to an entry of a dead task."""
        return tuple(bucket for bucket in self.buckets if bucket.dangles)

    @property
    def orphans(self) -> tuple[LoadNode, ...]:
        """Those that nobody will wake: they wait for a file that no live task loads, nor may be about to."""
        hopeful = {node.cookie for node in self.nodes if node.role is not LoadRole.WAITER}
        return tuple(node for node in self.nodes if node.cookie not in hopeful)

    @property
    def sick(self) -> tuple[LoadBucket, ...]:
        """The buckets that lead to an entry of a dead task, or in which somebody waits for one."""
        waited = {node.bucket for node in self.orphans}
        return tuple(bucket for bucket in self.buckets if bucket.dangles or bucket.number in waited)

    @property
    def unclear(self) -> tuple[LoadNode, ...]:
        """Those in the sick buckets of which it cannot be told what their task does: at the next look it may."""
        numbers = {bucket.number for bucket in self.sick}
        return tuple(node for node in self.nodes if node.role is LoadRole.UNCLEAR and node.bucket in numbers)

    @property
    def lock_dead(self) -> bool:
        """Whether idem_lock is held for good: at every look, and no live task can hold it."""
        return self.lock_held and not self.running

    @property
    def sound(self) -> bool:
        """Whether nothing is to be healed."""
        return not self.error and not self.sick and not self.lock_held
