# SPDX-License-Identifier: MIT
"""module_mutex: whether it is held for good, and by whom.

`struct mutex.owner` is the owner's task_struct with flags in its low three bits (kernel/locking/mutex.c,
4.10 to 7.x); a PREEMPT_RT kernel has it in `rtmutex`. The word stays when the owner dies: nobody unlocks
it then.
"""

from __future__ import annotations

import time
from typing import Optional

from lkm.errors import LkmError
from lkm.system.kernel_tasks import KernelTask, find_task
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.snapshot import MutexState

__all__ = ["read_module_mutex"]

_FLAGS = 0x7
_SAMPLES = 5
_PAUSE = 0.01
"""Seconds between two samples: a load holds the mutex for microseconds, several times."""


def read_module_mutex(
    memory: KernelMemory, *, samples: int = _SAMPLES, pause: float = _PAUSE
) -> Optional[MutexState]:
    """The state of module_mutex, or None where it cannot be read (no such symbol, as without KALLSYMS_ALL).

    It is held if at each sample the same task owned it. `owner_pid` is None if that task exits or is gone.
    """
    try:
        address = memory.symbol("module_mutex") + _owner_offset(memory)
        owner = memory.u64(address) & ~_FLAGS
        for _ in range(samples - 1):
            if not owner:
                break
            time.sleep(pause)
            if memory.u64(address) & ~_FLAGS != owner:
                owner = 0
        if not owner:
            return MutexState(held=False)
        task = _owner(memory, owner)
    except LkmError as error:
        memory.note(f"module_mutex: {error}")
        return None
    if task is None or not task.alive:
        return MutexState(held=True, owner_command=task.command if task else "")
    return MutexState(held=True, owner_pid=task.tid, owner_command=task.command)


def _owner_offset(memory: KernelMemory) -> int:
    """0, as the owner comes first, where there is no BTF to ask."""
    return memory.offset("mutex", "owner", "rtmutex.owner") if memory.has_types else 0


def _owner(memory: KernelMemory, address: int) -> Optional[KernelTask]:
    if not is_kernel_pointer(address):
        memory.note(f"module_mutex: its owner {address:#x} is no pointer")
        return None
    try:
        return find_task(memory, address)
    except LkmError as error:
        memory.note(f"module_mutex: its owner cannot be looked up: {error}")
        return None
