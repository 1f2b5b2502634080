# SPDX-License-Identifier: MIT
"""Block devices: the disks of the class `block`, by their operations, and the drivers that /sys/block tells.

Source: block/genhd.c, include/linux/blkdev.h. The device of a disk is `gendisk.part0.__dev` until 5.10,
`block_device.bd_device` with a pointer `bd_disk` since 5.11 (0d02129e76ed "block: merge struct block_device
and struct hd_struct").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables import driver_core

__all__ = ["read_blocks"]


def read_blocks(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Disks whose operations, or whose device's driver, belong to a module."""
    return driver_core.read_class(
        root, memory, owners, kind=RegistrationKind.BLOCK, directory="/sys/block", walk=_walk
    )


def _walk(memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    size, name = memory.sizeof("gendisk"), memory.offset("gendisk", "disk_name")
    seen = set()
    for disk in _disks(memory):
        if not disk or disk in seen:
            continue
        seen.add(disk)
        data = memory.read(disk, size)
        pointer = owned_pointer(memory, owners, "gendisk", data, ("fops",))
        if pointer:
            raw = data[name : name + 32].split(b"\0", 1)[0]
            major, minor = (
                int.from_bytes(data[at : at + 4], "little")
                for at in (memory.offset("gendisk", "major"), memory.offset("gendisk", "first_minor"))
            )
            yield Registration(
                RegistrationKind.BLOCK,
                raw.decode("utf-8", "backslashreplace"),
                pointer.module,
                certain=True,
                source="gendisk in kernel memory",
                detail=f"{major}:{minor}",
            )


def _disks(memory: KernelMemory) -> Iterator[int]:
    """Each struct gendisk; the disk of a partition may come again."""
    whole = memory.symbols.address("disk_type")
    kind = memory.offset("device", "type")
    for name, subsystem in driver_core.read_subsystems(memory, "class_kset"):
        if name != "block":
            continue
        for device in driver_core.read_class_devices(memory, subsystem):
            if memory.has("block_device", "bd_device"):
                part = device - memory.offset("block_device", "bd_device")
                yield memory.pointer(part + memory.offset("block_device", "bd_disk"))
            elif memory.u64(device + kind) == whole:
                yield device - memory.offset("hd_struct", "__dev") - memory.offset("gendisk", "part0")
        return
