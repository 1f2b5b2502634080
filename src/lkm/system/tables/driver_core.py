# SPDX-License-Identifier: MIT
"""Classes, buses and their drivers in kernel memory (drivers/base/, 5.10 to 7.x).

Each class and bus is a struct subsys_private whose kobject is in the kset `class_kset` or `bus_kset`: the
way of `class_to_subsys` and `bus_to_subsys` (6.4), which needs no pointer in struct class or bus_type.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.system.memory import KernelMemory

__all__ = ["class_devices", "drivers", "subsystems"]

_MAX = 1 << 16


def subsystems(memory: KernelMemory, kset_symbol: str) -> Iterator[tuple[str, int]]:
    """Name and struct subsys_private of everything in `class_kset` or `bus_kset`."""
    kset = memory.pointer(memory.symbol(kset_symbol))
    inside = memory.offset("subsys_private", "subsys") + memory.offset("kset", "kobj")
    for kobject in _kobjects(memory, kset, kset_symbol):
        yield _kobject_name(memory, kobject), kobject - inside


def class_devices(memory: KernelMemory, subsystem: int) -> Iterator[int]:
    """Each struct device of a class: `klist_devices`, linked in struct device_private by `knode_class`."""
    head = subsystem + memory.offset("subsys_private", "klist_devices") + memory.offset("klist", "k_list")
    link = memory.offset("device_private", "knode_class") + memory.offset("klist_node", "n_node")
    device = memory.offset("device_private", "device")
    for node in memory.list_nodes(head, what="klist_devices", limit=_MAX):
        yield memory.pointer(node - link + device)


def drivers(memory: KernelMemory, subsystem: int) -> Iterator[tuple[str, int]]:
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
