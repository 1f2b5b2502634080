# SPDX-License-Identifier: MIT
"""Notifier chains: who is called when something happens (include/linux/notifier.h, 5.10 to 7.x).

A chain is a variable whose name ends as NAMES tells, of one of four types, which differ in what stands before
its `head`: no symbol tells the type, so each place before the next variable is tried, and one is a chain if its
first block's function is code.
Chains that lie in allocated memory (of a network namespace, of a device) are not found.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.owners import Owners
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["NAMES", "read_notifiers"]

NAMES = (
    "_chain",
    "_chain_head",
    "_notifier_list",
    "_notifier",
    "_notifiers",
    "_notify_list",
    "_notifier_head",
)
_HEADS = (
    "raw_notifier_head",
    "atomic_notifier_head",
    "blocking_notifier_head",
    "srcu_notifier_head",
)
_MAX_BLOCKS = 4096


def read_notifiers(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Blocks that lie in a module or call into one, one a chain and function."""
    size = memory.sizeof("notifier_block")
    heads = sorted({memory.offset(name, "head") for name in _HEADS if memory.has(name, "head")})
    for start, end, name in memory.symbols.variables_ending(NAMES):
        places = [start + head for head in heads if start + head < end]
        for block in _chain(memory, owners, places, name):
            try:
                function = memory.u64(block)
            except LkmError:
                continue
            module = owners.of(function) or owners.of(block)
            if module:
                symbol = memory.symbolize(function, module)
                yield Registration(
                    RegistrationKind.NOTIFIER,
                    name,
                    module,
                    certain=True,
                    source=f"{name} in kernel memory",
                    detail=f"notifier_call {symbol or hex(function)}",
                    address=block,
                    size=size,
                )


def _chain(memory: KernelMemory, owners: Owners, heads: list[int], name: str) -> Iterator[int]:
    """The blocks of the chain at the first of these places that is one. A variable that begins with a function is
    a block itself."""
    code = (memory.symbol("_stext"), memory.symbol("_etext"))
    link = memory.offset("notifier_block", "next")
    for head in heads:
        try:
            if code[0] <= memory.u64(heads[0]) < code[1]:
                return
            first = memory.u64(head)
            function = memory.u64(first) if is_kernel_pointer(first) else 0
        except LkmError:
            continue
        if code[0] <= function < code[1] or owners.of(function):
            yield from memory.chain(first, offset=link, what=name, limit=_MAX_BLOCKS)
            return
