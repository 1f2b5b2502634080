# SPDX-License-Identifier: MIT
"""Which module a device number belongs to: by what is registered, else by the driver that sysfs shows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Optional

from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.files import read_link, read_text
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables.chrdevs import parse_majors
from lkm.system.tables.misc import parse_minors

__all__ = ["CharKey", "DeviceOwners", "char_devices_of", "disks_of"]

CharKey = tuple[int, Optional[int]]
"""Major, and minor or None for all of that major."""

_MISC_MAJOR = 10


class DeviceOwners:
    """Answers for one capture; what sysfs says of a number is read once.

    `chars` are registered numbers, `disks` the modules of block devices by the disk's name (`loop0`).
    """

    def __init__(
        self, root: Root, chars: Mapping[CharKey, ModuleName], disks: Mapping[str, ModuleName]
    ) -> None:
        self._root = root
        self._chars = chars
        self._disks = disks
        self._by_driver: dict[tuple[str, int], Optional[ModuleName]] = {}

    def owner(self, kind: str, number: int) -> Optional[ModuleName]:
        """The module of the `char` or `block` device `number` (as st_rdev), or None."""
        major, minor = os.major(number), os.minor(number)
        found = self._chars.get((major, minor)) or self._chars.get((major, None))
        if found and kind == "char":
            return found
        if (kind, number) not in self._by_driver:
            self._by_driver[kind, number] = self._driver(kind, f"{major}:{minor}")
        return self._by_driver[kind, number]

    def _driver(self, kind: str, number: str) -> Optional[ModuleName]:
        """The module of the driver that the device, or the disk of a partition, is bound to."""
        base = self._root.join(f"/sys/dev/{kind}/{number}")
        disk = read_link(base).partition("/block/")[2].partition("/")[0]  # …/block/vda/vda1
        if disk in self._disks:
            return self._disks[disk]
        places = ("device", "../device") if os.path.exists(f"{base}/partition") else ("device",)
        for place in places:
            target = read_link(f"{base}/{place}/driver/module")
            if target:
                return module_name(os.path.basename(target))
        return None


def disks_of(registrations: Iterable[Registration]) -> dict[str, ModuleName]:
    """The registered block devices by name."""
    return {item.name: item.module for item in registrations if item.kind is RegistrationKind.BLOCK}


def char_devices_of(root: Root, registrations: Iterable[Registration]) -> dict[CharKey, ModuleName]:
    """The numbers of the registered devices: their names are looked up in /proc/devices and /proc/misc.

    Both take locks (chrdevs_lock, misc_mtx) that a dead task may hold for ever.
    """
    majors: dict[str, list[int]] = {}
    for name, major in parse_majors(read_text(root.join("/proc/devices")) or ""):
        majors.setdefault(name, []).append(major)
    minors = dict(parse_minors(read_text(root.join("/proc/misc")) or ""))
    found: dict[CharKey, ModuleName] = {}
    for item in registrations:
        if item.kind is RegistrationKind.CHRDEV:
            for major in majors.get(item.name, ()):
                found[major, None] = item.module
        elif item.kind is RegistrationKind.MISC and item.name in minors:
            found[_MISC_MAJOR, minors[item.name]] = item.module
    return found
