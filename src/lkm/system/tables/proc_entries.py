# SPDX-License-Identifier: MIT
"""Entries of /proc: the trees of struct proc_dir_entry (fs/proc/internal.h, 5.10 to 7.x).

Each directory has a red-black tree of its entries. One tree begins at `proc_root`, and one a network
namespace (`proc_net`, /proc/net) is not linked into it.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.root import Root
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.owners import Owners, describe, owned_pointer
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables.namespaces import network_namespaces

__all__ = ["read_proc_entries"]

_MAX_ENTRIES = 1 << 17
_FIELDS = ("proc_ops", "seq_ops", "write", "data", "proc_iops", "proc_dops")
"""`proc_dir_ops` and `single_show` are in unions with the first two."""


def read_proc_entries(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Entries that call into, or keep a pointer to, a module."""
    yield from _tree(memory, owners, memory.symbol("proc_root"), "/proc")
    seen = set()
    for namespace in network_namespaces(memory):
        top = memory.pointer(namespace + memory.offset("net", "proc_net"))
        for entry in _tree(memory, owners, top, "/proc/net") if top else ():
            if (entry.name, entry.module) not in seen:
                seen.add((entry.name, entry.module))
                yield entry


def _tree(memory: KernelMemory, owners: Owners, top: int, path: str) -> Iterator[Registration]:
    """Everything below one directory. Each node is read once, in one piece."""
    size, link = memory.sizeof("proc_dir_entry"), memory.offset("proc_dir_entry", "subdir_node")
    below = memory.offset("proc_dir_entry", "subdir") + memory.offset("rb_root", "rb_node")
    name_at = memory.offset("proc_dir_entry", "name")
    sides = [link + memory.offset("rb_node", side) for side in ("rb_left", "rb_right")]
    waiting = [(memory.u64(top + below), path)]
    seen: set[int] = set()
    while waiting:
        node, parent = waiting.pop()
        if not node or node in seen:
            continue
        if not is_kernel_pointer(node) or len(seen) >= _MAX_ENTRIES:
            memory.note(f"{parent}: the tree of its entries is broken at {node:#x}: the rest was not read")
            continue
        seen.add(node)
        try:
            data = memory.read(node - link, size)
        except KcoreError as error:
            memory.note(f"{parent}: {error}")
            continue
        waiting.extend((_word(data, side), parent) for side in sides)
        pointer = owned_pointer(memory, owners, "proc_dir_entry", data, _FIELDS)
        directory = _word(data, below)
        if pointer or directory:
            name = f"{parent}/{memory.text(_word(data, name_at))}"
            if directory:
                waiting.append((directory, name))
            if pointer:
                yield Registration(
                    RegistrationKind.PROC_ENTRY,
                    name,
                    pointer.module,
                    certain=True,
                    source="proc_dir_entry in kernel memory",
                    detail=describe(memory, pointer),
                    address=node - link,
                    size=size,
                )


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")
