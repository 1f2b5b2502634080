# SPDX-License-Identifier: MIT
"""Armed timers of the wheel, and delayed works among them: each CPU's `timer_bases` (kernel/time/timer.c).

A base has a hash list of struct timer_list for each of its buckets. There are two bases a CPU (standard and
deferrable) with CONFIG_NO_HZ_COMMON, three since 6.9 (7ee988770326 "timers: Implement the hierarchical pull
model", which also brought struct tmigr_cpu). A delayed work is a timer whose function is
`delayed_work_timer_fn`, in a struct delayed_work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.per_cpu import per_cpu_address, per_cpu_offsets
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_timers"]

_MAX_TIMERS = 1 << 16


class _Layout(NamedTuple):
    function: int
    size: int
    timer: int  # of struct delayed_work
    work_function: int
    work_size: int
    delayed: int  # delayed_work_timer_fn


def read_timers(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Timers that lie in a module or call into one, and delayed works that do."""
    layout = _Layout(
        memory.offset("timer_list", "function"),
        memory.sizeof("timer_list"),
        memory.offset("delayed_work", "timer"),
        memory.offset("delayed_work", "work") + memory.offset("work_struct", "func"),
        memory.sizeof("delayed_work"),
        memory.symbol("delayed_work_timer_fn"),
    )
    for cpu, timer in _timers(memory):
        try:
            found = _registration(memory, owners, layout, timer, cpu)
        except LkmError:
            continue  # it has fired in between
        if found:
            yield found


def _timers(memory: KernelMemory) -> Iterator[tuple[int, int]]:
    """CPU and address of each armed timer."""
    size, vectors = memory.sizeof("timer_base"), memory.offset("timer_base", "vectors")
    buckets = memory.types.member_size("timer_base", "vectors") // 8
    bases = 3 if memory.has("tmigr_cpu", "tmgroup") else 2
    symbol = memory.symbol("timer_bases")
    for cpu, offset in enumerate(per_cpu_offsets(memory)):
        for index in range(bases):
            start = per_cpu_address(symbol, offset) + index * size + vectors
            for first in memory.words(start, buckets):
                for timer in memory.chain(first, offset=0, what="timer_bases", limit=_MAX_TIMERS):
                    yield cpu, timer


def _registration(
    memory: KernelMemory, owners: Owners, layout: _Layout, timer: int, cpu: int
) -> Registration | None:
    kind, start, size = RegistrationKind.TIMER, timer, layout.size
    function = memory.u64(timer + layout.function)
    if function == layout.delayed:
        kind, start, size = RegistrationKind.WORK, timer - layout.timer, layout.work_size
        function = memory.u64(start + layout.work_function)
    module = owners.of(function) or owners.of(timer)
    if not module:
        return None
    symbol = memory.symbolize(function, module if owners.of(function) else "")
    return Registration(
        kind,
        symbol.name if symbol else hex(function),
        module,
        certain=True,
        source="timer_bases in kernel memory",
        detail=f"{'delayed work' if kind is RegistrationKind.WORK else 'timer'} of CPU {cpu} at {start:#x}",
        address=start,
        size=size,
    )
