# SPDX-License-Identifier: MIT
"""Per-CPU data: one copy a CPU, each `__per_cpu_offset[cpu]` bytes from the address that the symbol has."""

from __future__ import annotations

from lkm.system.exports import symbol_or_export
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory

__all__ = ["per_cpu_address", "per_cpu_offsets"]

_WORD = (1 << 64) - 1
_MAX_CPUS = 8192


def per_cpu_offsets(memory: KernelMemory) -> tuple[int, ...]:
    """`__per_cpu_offset[]` of the CPUs that there are, by number where those that are possible come first.
    Raises `LkmError`.

    A CPU that is not possible has the address of the template there (x86) or 0.
    """
    start = symbol_or_export(memory, "__per_cpu_offset")
    values = memory.words(start, min(_count(memory), _MAX_CPUS))
    return tuple(dict.fromkeys(value for value in values if value))


def _count(memory: KernelMemory) -> int:
    """`nr_cpu_ids`; with CONFIG_FORCE_NR_CPUS (since 6.1) it is no variable, and the mask of possible CPUs tells
    (include/linux/cpumask.h)."""
    try:
        return memory.u32(symbol_or_export(memory, "nr_cpu_ids"))
    except KcoreError:
        mask = memory.u64(symbol_or_export(memory, "__cpu_possible_mask"))
        return max(1, mask.bit_length())


def per_cpu_address(address: int, offset: int) -> int:
    """A CPU's copy of what is at `address`."""
    return address + offset & _WORD
