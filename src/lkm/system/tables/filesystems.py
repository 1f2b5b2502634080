# SPDX-License-Identifier: MIT
"""File system types: the chain `file_systems` (fs/filesystems.c).

Each struct file_system_type has `next` until 6.x, a node `list` of an hlist in 7.x; the type is the
driver's own struct, so a freed module leaves a hole in the chain.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["filesystem_names", "read_filesystems"]

_MAX_TYPES = 1024


def read_filesystems(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Types that lie in a module or name one as their owner."""
    link = memory.offset("file_system_type", "next", "list")
    base = link if memory.has("file_system_type", "list") else 0  # an hlist links nodes, `next` links structs
    name, size = memory.offset("file_system_type", "name"), memory.sizeof("file_system_type")
    first = memory.pointer(memory.symbol("file_systems"))
    for node in memory.chain(first, offset=link - base, what="file_systems", limit=_MAX_TYPES):
        kind = node - base
        data = memory.read(kind, size)
        pointer = owned_pointer(
            memory, owners, "file_system_type", data, ("owner", "init_fs_context", "mount", "kill_sb")
        )
        module = pointer.module if pointer else owners.of(kind)
        if module:
            yield Registration(
                RegistrationKind.FILESYSTEM,
                memory.text(int.from_bytes(data[name : name + 8], "little")),
                module,
                certain=True,
                source="file_systems in kernel memory",
                address=kind,
                size=size,
            )


def filesystem_names(root: Root) -> Iterator[tuple[str, str]]:
    """Name and detail of each line of /proc/filesystems."""
    for line in read_guarded(root, "/proc/filesystems").splitlines():
        if line.split():
            yield line.split()[-1], ""
