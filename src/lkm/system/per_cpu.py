# SPDX-License-Identifier: MIT
"""Per-CPU data: one copy a CPU, each `__per_cpu_offset[cpu]` bytes from the address that the symbol has."""

from __future__ import annotations

from lkm.system.memory import KernelMemory

__all__ = ["per_cpu_address", "per_cpu_offsets"]

_WORD = (1 << 64) - 1
_MAX_CPUS = 8192


def per_cpu_offsets(memory: KernelMemory) -> tuple[int, ...]:
    """`__per_cpu_offset[]` of the CPUs that there are. Raises `LkmError`.

    A CPU that is not possible has the address of the template there (x86) or 0.
    """
    start, count = memory.symbol("__per_cpu_offset"), memory.u32(memory.symbol("nr_cpu_ids"))
    values = memory.words(start, min(count, _MAX_CPUS))
    return tuple(dict.fromkeys(value for value in values if value))


def per_cpu_address(address: int, offset: int) -> int:
    """A CPU's copy of what is at `address`."""
    return address + offset & _WORD
