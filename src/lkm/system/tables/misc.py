# SPDX-License-Identifier: MIT
"""Misc devices: `misc_list` (drivers/char/misc.c, 5.10 to 7.x), linked through the drivers' own structs."""

from __future__ import annotations

from collections.abc import Iterator

from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["misc_names", "parse_minors", "read_misc"]

_MINORS = 4096


def read_misc(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Devices whose struct miscdevice, or file operations, lie in a module."""
    size = memory.sizeof("miscdevice")
    link, name = memory.offset("miscdevice", "list"), memory.offset("miscdevice", "name")
    for node in memory.list_nodes(memory.symbol("misc_list"), what="misc_list", limit=_MINORS):
        device = node - link
        data = memory.read(device, size)
        pointer = owned_pointer(memory, owners, "miscdevice", data, ("fops",))
        module = pointer.module if pointer else owners.of(device)
        if module:
            yield Registration(
                RegistrationKind.MISC,
                memory.text(int.from_bytes(data[name : name + 8], "little")),
                module,
                certain=True,
                source="misc_list in kernel memory",
                detail=f"minor {int.from_bytes(data[:4], 'little')}",
                address=device,
                size=size,
            )


def misc_names(root: Root) -> Iterator[tuple[str, str]]:
    """Name and detail of each line of /proc/misc. The file takes misc_mtx."""
    for name, minor in parse_minors(read_guarded(root, "/proc/misc")):
        yield name, f"minor {minor}"


def parse_minors(text: str) -> Iterator[tuple[str, int]]:
    """Name and minor number of each device in /proc/misc."""
    for line in text.splitlines():
        parts = line.split(None, 1)
        if len(parts) == 2 and parts[0].isdigit():
            yield parts[1].strip(), int(parts[0])
