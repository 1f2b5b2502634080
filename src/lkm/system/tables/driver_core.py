# SPDX-License-Identifier: MIT
"""Classes, buses and their drivers in kernel memory (drivers/base/, 5.10 to 7.x) and in sysfs.

Each class and bus is a struct subsys_private whose kobject is in the kset `class_kset` or `bus_kset`: the
way of `class_to_subsys` and `bus_to_subsys` (6.4), which needs no pointer in struct class or bus_type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.files import list_directory, read_link
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_bus_drivers", "read_class", "read_class_devices", "read_subsystems"]

_MAX = 1 << 16


def read_class(
    root: Root,
    memory: Optional[KernelMemory],
    owners: Owners,
    *,
    kind: RegistrationKind,
    directory: str,
    walk: Callable[[KernelMemory, Owners], Iterable[Registration]],
) -> Iterator[Registration]:
    """What `walk` finds in memory, then what is in `directory` and whose device's driver is a module's."""
    seen = set()
    if memory is not None and memory.has_types:
        try:
            for found in walk(memory, owners):
                seen.add((found.name, found.module))
                yield found
        except LkmError as error:
            memory.note(f"registrations ({kind.value}): {error}: only {directory} was read")
    for name in list_directory(root.join(directory)):
        path = f"{directory}/{name}/device/driver/module"
        module = owners.named(os.path.basename(read_link(root.join(path))))
        if module and (name, module) not in seen:
            yield Registration(kind, name, module, certain=True, source=path)


def read_subsystems(memory: KernelMemory, kset_symbol: str) -> Iterator[tuple[str, int]]:
    """Name and struct subsys_private of everything in `class_kset` or `bus_kset`."""
    kset = memory.pointer(memory.symbol(kset_symbol))
    inside = memory.offset("subsys_private", "subsys") + memory.offset("kset", "kobj")
    for kobject in _kobjects(memory, kset, kset_symbol):
        yield _kobject_name(memory, kobject), kobject - inside


def read_class_devices(memory: KernelMemory, subsystem: int) -> Iterator[int]:
    """Each struct device of a class: `klist_devices`, linked in struct device_private by `knode_class`."""
    head = subsystem + memory.offset("subsys_private", "klist_devices") + memory.offset("klist", "k_list")
    link = memory.offset("device_private", "knode_class") + memory.offset("klist_node", "n_node")
    device = memory.offset("device_private", "device")
    for node in memory.list_nodes(head, what="klist_devices", limit=_MAX):
        yield memory.pointer(node - link + device)


def read_bus_drivers(memory: KernelMemory, subsystem: int) -> Iterator[tuple[str, int]]:
    """Name and struct device_driver of each driver of a bus.

    A driver whose probe died is in `drivers_kset` already (bus_add_driver), but has no module link in sysfs.
    """
    kset = memory.pointer(subsystem + memory.offset("subsys_private", "drivers_kset"))
    if not kset:
        return
    inside, driver = memory.offset("driver_private", "kobj"), memory.offset("driver_private", "driver")
    for kobject in _kobjects(memory, kset, "drivers_kset"):
        found = memory.pointer(kobject - inside + driver)
        if found:
            yield _kobject_name(memory, kobject), found


def _kobjects(memory: KernelMemory, kset: int, what: str) -> Iterator[int]:
    """The kobjects of a kset."""
    if not kset:
        return
    link = memory.offset("kobject", "entry")
    for node in memory.list_nodes(kset + memory.offset("kset", "list"), what=what, limit=_MAX):
        yield node - link


def _kobject_name(memory: KernelMemory, kobject: int) -> str:
    return memory.text(memory.u64(kobject + memory.offset("kobject", "name")))
