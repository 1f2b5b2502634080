# SPDX-License-Identifier: MIT
"""Drivers, and the devices that are bound to them.

/sys/module/X/drivers is the kernel's own word, but the link is made after probe (`bus_add_driver`,
drivers/base/bus.c): where probe died, only the bus knows the driver, and a pointer tells whose it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.files import list_directory, read_link
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables import driver_core

__all__ = ["read_drivers"]

_FIELDS = ("owner", "probe", "name", "mod_name")
_MAX_DEVICES = 256
"""Devices that are listed of one driver."""


def read_drivers(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Each driver of a module (named `BUS:DRIVER`), and each device that is bound to it."""
    known = _known(memory, owners)
    for module in owners.modules:
        for driver in module.drivers:
            address, size = known.pop((driver, module.name), (0, 0))
            source = f"/sys/module/{module.name}/drivers/{driver}"
            yield from _driver(root, driver, module.name, source, address=address, size=size)
    for (driver, owner), (address, size) in known.items():
        yield from _driver(root, driver, owner, "bus_kset in kernel memory", address=address, size=size)


def _known(memory: Optional[KernelMemory], owners: Owners) -> dict[tuple[str, ModuleName], tuple[int, int]]:
    """`BUS:DRIVER` and module → address and size of the struct device_driver, as memory has them."""
    found: dict[tuple[str, ModuleName], tuple[int, int]] = {}
    if memory is None or not memory.has_types:
        return found
    try:
        size = memory.sizeof("device_driver")
        for driver, owner, address in _walk(memory, owners):
            found[driver, owner] = address, size
    except LkmError as error:
        memory.note(f"the drivers of each bus: {error}: only those in /sys/module were read")
    return found


def _driver(
    root: Root, name: str, module: ModuleName, source: str, *, address: int, size: int
) -> Iterator[Registration]:
    yield Registration(
        RegistrationKind.DRIVER, name, module, certain=True, source=source, address=address, size=size
    )
    bus, _, driver = name.partition(":")
    directory = f"/sys/bus/{bus}/drivers/{driver}"
    for device in _bound(root, directory)[:_MAX_DEVICES]:
        yield Registration(
            RegistrationKind.DEVICE,
            device,
            module,
            certain=True,
            source=f"{directory}/{device}",
            detail=f"echo {device} > {directory}/unbind",
        )


def _bound(root: Root, directory: str) -> list[str]:
    """Names of the devices linked in a driver's directory; its other link is `module`."""
    return [
        name
        for name in list_directory(root.join(directory))
        if name != "module" and "/devices/" in read_link(os.path.join(root.join(directory), name))
    ]


def _walk(memory: KernelMemory, owners: Owners) -> Iterator[tuple[str, ModuleName, int]]:
    """`BUS:DRIVER`, module and address of each driver whose struct lies in, or points into, a module."""
    size = memory.sizeof("device_driver")
    for bus, subsystem in driver_core.read_subsystems(memory, "bus_kset"):
        for name, driver in driver_core.read_bus_drivers(memory, subsystem):
            owner = owners.of(driver)
            if owner is None:
                data = memory.read(driver, size)
                pointer = owned_pointer(memory, owners, "device_driver", data, _FIELDS)
                owner = pointer.module if pointer else None
            if owner:
                yield f"{bus}:{name}", owner, driver
