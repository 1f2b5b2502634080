# SPDX-License-Identifier: MIT
"""module_mutex: whether it is held for good, and by whom.

`struct mutex.owner` is the owner's task_struct with flags in its low three bits (kernel/locking/mutex.c,
4.10 to 7.x); a PREEMPT_RT kernel has it in `rtmutex`. The word stays when the owner dies: nobody unlocks
it then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.files import read_text
from lkm.system.kernel_tasks import KernelTask, find_task
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.snapshot import MutexState
from lkm.system.tasks import parse_frames

__all__ = ["read_module_mutex"]

_FLAGS = 0x7
_SAMPLES = 5
_HOLDERS = ("module", "m_start", "m_next", "m_show", "klp_", "ftrace", "kprobe", "trace", "bpf", "jump_label")
"""Parts of the names of functions that hold it, or call one that does (5.10 to 7.x)."""
_TAKERS = {"m_start", "load_module", "add_unformed_module", "module_patient_check_exists", "free_module"}
"""Functions that take it, and sleep for no other reason before they give it back (kernel/module/main.c, 6.1)."""
_MAX_WAITERS = 1 << 12
_PAUSE = 0.01
"""Seconds between two samples: a load holds the mutex for microseconds, several times."""


def read_module_mutex(
    root: Root, memory: KernelMemory, *, samples: int = _SAMPLES, pause: float = _PAUSE
) -> Optional[MutexState]:
    """The state of module_mutex, or None where it cannot be read (no such symbol, as without KALLSYMS_ALL).

    It is held if at each sample the same task owned it. `owner_pid` is None if that task exits or is gone. The
    memory of a dead owner is soon given to a new task, often to one that waits for the mutex, such as our own
    reader of /proc/modules: so it is None too where the list of waiters or the task's stack (below `root`)
    tells that the task at that address cannot hold it.
    """
    try:
        mutex = memory.symbol("module_mutex")
        address = mutex + _owner_offset(memory)
        owner = memory.u64(address) & ~_FLAGS
        for _ in range(samples - 1):
            if not owner:
                break
            time.sleep(pause)
            if memory.u64(address) & ~_FLAGS != owner:
                owner = 0
        if not owner:
            return MutexState(held=False)
        task = _owner(memory, mutex, owner)
    except LkmError as error:
        memory.note_error("module_mutex", error)
        return None
    if task is not None and task.alive and _cannot_hold(root, task):
        return MutexState(held=True)
    if task is None or not task.alive:
        return MutexState(held=True, owner_command=task.command if task else "")
    return MutexState(held=True, owner_pid=task.tid, owner_command=task.command)


def _owner_offset(memory: KernelMemory) -> int:
    """0, as the owner comes first, where there is no BTF to ask."""
    return memory.offset("mutex", "owner", "rtmutex.owner") if memory.has_types else 0


def _cannot_hold(root: Root, task: KernelTask) -> bool:
    """Whether the thread sleeps far from modules, or where it waits for the mutex.

    A thread that runs has no stack to tell.
    """
    stack = read_text(root.join(f"/proc/{task.tid}/stack")) or ""
    if not any(word in stack for word in _HOLDERS):
        return bool(stack)
    names = [frame.function for frame in parse_frames(stack)]
    inner = next((name for name in names if "mutex_lock" not in name and "schedule" not in name), "")
    return inner in _TAKERS or inner.endswith("sys_delete_module")


def _owner(memory: KernelMemory, mutex: int, address: int) -> Optional[KernelTask]:
    """The owner, or None if it has gone: also if a new task has its address, which is seen where that one waits."""
    if not is_kernel_pointer(address):
        memory.note(f"module_mutex: its owner {address:#x} is no pointer")
        return None
    try:
        return None if address in _waiters(memory, mutex) else find_task(memory, address)
    except LkmError as error:
        memory.note(f"module_mutex: its owner cannot be looked up: {error}")
        return None


def _waiters(memory: KernelMemory, mutex: int) -> Iterator[int]:
    """The task of each struct mutex_waiter: in `wait_list`, in 7.x in a ring without a head from `first_waiter`."""
    link = memory.offset("mutex_waiter", "list") if memory.has("mutex_waiter", "list") else 0
    task = memory.offset("mutex_waiter", "task")
    if memory.has("mutex", "first_waiter"):
        first = memory.pointer(mutex + memory.offset("mutex", "first_waiter"))
        if first:
            yield memory.u64(first + task)
        head = first + link
    elif memory.has("mutex", "wait_list"):
        head = mutex + memory.offset("mutex", "wait_list")
    else:
        return  # PREEMPT_RT has a tree
    for node in (
        memory.list_nodes(head, what="the waiters for module_mutex", limit=_MAX_WAITERS) if head else ()
    ):
        yield memory.u64(node - link + task)
