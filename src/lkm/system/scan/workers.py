# SPDX-License-Identifier: MIT
"""Threads of workqueues: what they remember of the functions that they have run (kernel/workqueue.c, 5.10 to 7.x)."""

from __future__ import annotations

from lkm.errors import LkmError
from lkm.system.kernel_tasks import read_task
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scan.general import is_general
from lkm.system.scanned import Place, PlaceKind

__all__ = ["worker_reason"]

_LAST = "of the last work that a worker ran: it is compared, never called (wq_worker_last_func)"
_DEAD = "of the work in which a worker died: it is compared, never called (find_worker_executing_work)"
_CURRENT = ("current_work", "current_func")


def worker_reason(memory: KernelMemory, place: Place) -> str:
    """Why nobody follows that word of a struct worker, or "" where it is none, or its thread is at that work."""
    if (
        place.kind is not PlaceKind.SLAB
        or not is_general(place.name)
        or not 0 < memory.find_size("worker") <= place.size
    ):
        return ""
    last = place.offset == memory.find_offset("worker", "last_func")
    if not last and place.offset not in [memory.find_offset("worker", name) for name in _CURRENT]:
        return ""
    try:
        if not _is_worker(memory, place.start):
            return ""
        if last:
            return _LAST
        task = memory.u64(place.start + memory.offset("worker", "task"))
        return "" if read_task(memory, task).alive else _DEAD
    except LkmError:
        return ""


def _is_worker(memory: KernelMemory, start: int) -> bool:
    """Whether it is in the list of the pool that it names."""
    pool = memory.u64(start + memory.offset("worker", "pool"))
    node = start + memory.offset("worker", "node")
    if not is_kernel_pointer(pool) or not memory.is_listed(node):
        return False
    head = pool + memory.offset("worker_pool", "workers")
    return node in memory.list_nodes(head, what="workers of a pool")
