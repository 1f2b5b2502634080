# SPDX-License-Identifier: MIT
"""Symbols that somebody names, looked up in /proc/kallsyms: all of a name, and what stands at each."""

from __future__ import annotations

from collections.abc import Iterable

from lkm.errors import LkmError
from lkm.system.memory import KernelMemory
from lkm.system.snapshot import ResolvedSymbol, SymbolPlace

__all__ = ["resolve_symbols"]

KERNEL = "vmlinux"


def resolve_symbols(memory: KernelMemory, names: Iterable[str]) -> tuple[ResolvedSymbol, ...]:
    """Each name (`NAME`, `MODULE:NAME`, `vmlinux:NAME`) with its places. LkmError where symbols are hidden."""
    return tuple(ResolvedSymbol(name, tuple(_places(memory, name))) for name in names)


def _places(memory: KernelMemory, name: str) -> list[SymbolPlace]:
    module, _, plain = name.rpartition(":")
    wanted = None if not module else "" if module == KERNEL else module.replace("-", "_")
    return [
        SymbolPlace(
            address, kind, owner, _value(memory, address), not owner and _in_init_text(memory, address)
        )
        for address, kind, owner in memory.symbols.named(plain)
        if wanted is None or owner == wanted
    ]


def _in_init_text(memory: KernelMemory, address: int) -> bool:
    start, end = (memory.symbols.address(name) for name in ("_sinittext", "_einittext"))
    return start <= address < end


def _value(memory: KernelMemory, address: int) -> int | None:
    try:
        return memory.u64(address)
    except LkmError:
        return None
