# SPDX-License-Identifier: MIT
"""Works that are queued and not yet begun: each pool's `worklist`, and what a queue keeps back (kernel/workqueue.c).

All queues are in the list `workqueues`; each has its pool_workqueues, and each of these a worker_pool. What exceeds
a queue's limit waits in `pool_workqueue.inactive_works` (`delayed_works` until 5.14, f97a4a1a3f87 "workqueue: Rename
"delayed" (delayed by active management) to "inactive""). Delayed works that are not yet due are timers.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_works"]

_MAX_QUEUES = 1 << 14
_MAX_WORKS = 1 << 16


def read_works(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Queued works that lie in a module or call into one."""
    function, size = memory.offset("work_struct", "func"), memory.sizeof("work_struct")
    for work in _works(memory):
        try:
            called = memory.u64(work + function)
        except LkmError:
            continue  # it has run in between
        module = owners.of(called) or owners.of(work)
        if module:
            symbol = memory.symbolize(called, module if owners.of(called) else "")
            yield Registration(
                RegistrationKind.WORK,
                symbol.name if symbol else hex(called),
                module,
                certain=True,
                source="workqueues in kernel memory",
                detail=f"work at {work:#x}, queued",
                address=work,
                size=size,
            )


def _works(memory: KernelMemory) -> Iterator[int]:
    entry, worklist = memory.offset("work_struct", "entry"), memory.offset("worker_pool", "worklist")
    kept, pool_at = (
        memory.offset("pool_workqueue", "inactive_works", "delayed_works"),
        memory.offset("pool_workqueue", "pool"),
    )
    pools = set()
    for queue in _pool_queues(memory):
        pools.add(memory.pointer(queue + pool_at))
        yield from _list(memory, queue + kept, entry)
    for pool in sorted(pools - {0}):
        yield from _list(memory, pool + worklist, entry)


def _pool_queues(memory: KernelMemory) -> Iterator[int]:
    """Each struct pool_workqueue of each queue."""
    link, pwqs = memory.offset("workqueue_struct", "list"), memory.offset("workqueue_struct", "pwqs")
    node_at = memory.offset("pool_workqueue", "pwqs_node")
    head = memory.symbol("workqueues")
    for node in memory.list_nodes(head, what="workqueues", limit=_MAX_QUEUES):
        for each in memory.list_nodes(node - link + pwqs, what="pwqs", limit=_MAX_QUEUES):
            yield each - node_at


def _list(memory: KernelMemory, head: int, entry: int) -> Iterator[int]:
    """The works of a list; one that changes while it is read ends early, without a note: it is in motion."""
    notes, memory.notes = memory.notes, []
    try:
        yield from [node - entry for node in memory.list_nodes(head, what="works", limit=_MAX_WORKS)]
    finally:
        memory.notes = notes
