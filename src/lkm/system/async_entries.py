# SPDX-License-Identifier: MIT
"""Asynchronous calls that have not finished: the list `async_global_pending` (kernel/async.c, 5.10 to 7.x).

A worker removes its entry when the function has returned. If the function dies, the entry stays, and
async_synchronize_full, through which each removal of a module goes, waits for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.files import process_ids, read_text
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import AsyncEntry, LoadedModule

__all__ = ["read_async_entries"]

_MAX_ENTRIES = 1 << 15
"""MAX_WORK of kernel/async.c: what is beyond is run at once."""
_PENDING = 0x1
"""WORK_STRUCT_PENDING: queued, and not yet begun."""
_RUNNER = "async_run_entry_fn"


class _Entry(NamedTuple):
    address: int
    cookie: int
    function: int
    queued: bool


def read_async_entries(
    root: Root, memory: KernelMemory, modules: Iterable[LoadedModule]
) -> tuple[AsyncEntry, ...]:
    """The entries that were there before and after a look at all workers; usually none.

    An entry is `running` if it is still queued or a live worker has its function on its stack (below `root`).
    Never raises: what could not be read is in `memory.notes`.
    """
    try:
        before = _entries(memory)
        if not before:
            return ()
        stacks = _worker_stacks(root)
        after = {(entry.address, entry.cookie) for entry in _entries(memory)}
    except LkmError as error:
        memory.note_error("async_global_pending", error)
        return ()
    owners = Owners(modules)
    return tuple(
        _entry(memory, owners, stacks, entry) for entry in before if (entry.address, entry.cookie) in after
    )


def _entries(memory: KernelMemory) -> list[_Entry]:
    link, size = memory.offset("async_entry", "global_list"), memory.sizeof("async_entry")
    data, function = memory.offset("async_entry", "work.data"), memory.offset("async_entry", "func")
    cookie = memory.offset("async_entry", "cookie")
    head = memory.symbol("async_global_pending")
    found = []
    for node in memory.list_nodes(head, what="async_global_pending", limit=_MAX_ENTRIES):
        raw = memory.read(node - link, size)
        words = [int.from_bytes(raw[at : at + 8], "little") for at in (cookie, function, data)]
        found.append(_Entry(node - link, words[0], words[1], bool(words[2] & _PENDING)))
    return found


def _worker_stacks(root: Root) -> list[str]:
    """The stacks of live workers that are in an asynchronous call."""
    stacks = []
    for pid in process_ids(root):
        if (read_text(root.join(f"/proc/{pid}/comm")) or "").startswith("kworker"):
            stack = read_text(root.join(f"/proc/{pid}/stack")) or ""
            if _RUNNER in stack:
                stacks.append(stack)
    return stacks


def _entry(memory: KernelMemory, owners: Owners, stacks: list[str], entry: _Entry) -> AsyncEntry:
    module: Optional[ModuleName] = owners.of(entry.function)
    symbol = memory.symbolize(entry.function, module or "")
    name = symbol.name if symbol else f"{entry.function:#x}"
    if module is None and symbol and symbol.module:
        module = owners.named(symbol.module)
    running = entry.queued or any(f"] {name}+" in stack for stack in stacks)
    return AsyncEntry(function=name, module=module, running=running)
