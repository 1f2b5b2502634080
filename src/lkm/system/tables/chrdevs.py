# SPDX-License-Identifier: MIT
"""Character devices: the numbers in `chrdevs` (fs/char_dev.c) and the cdevs behind them in `cdev_map`
(drivers/base/map.c), 5.10 to 7.x. Both are hash tables of 255 chains, by major number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["chrdev_names", "parse_majors", "read_chrdevs"]

_BUCKETS = 255
_MAX_CHAIN = 4096
_MINOR_BITS = 20
_MAX_MAJOR = 1 << 12
_SOURCE = "cdev_map in kernel memory"


class _Region(NamedTuple):
    """Numbers that `name` has reserved: `minors` of them from `minor` on."""

    name: str
    major: int
    minor: int
    minors: int


def read_chrdevs(_root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Devices whose struct cdev, operations or owner lie in a module, one a name, major number and module."""
    regions: list[_Region] = []
    seen = set()
    cdev_size = memory.sizeof("cdev")
    for device, cdev in _probes(memory):
        try:
            data = memory.read(cdev, cdev_size)
        except KcoreError:
            continue
        pointer = owned_pointer(memory, owners, "cdev", data, ("owner", "ops"))
        module = pointer.module if pointer else owners.of(cdev)
        if not module:
            continue
        regions = regions or list(_regions(memory))
        major, minor = device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1)
        name = _name(regions, major, minor)
        if (name, major, module) not in seen:
            seen.add((name, major, module))
            yield Registration(
                RegistrationKind.CHRDEV, name, module, certain=True, source=_SOURCE, detail=f"major {major}",
                address=cdev, size=cdev_size,
            )  # fmt: skip


def _probes(memory: KernelMemory) -> Iterator[tuple[int, int]]:
    """Device number and cdev of each registered cdev; one that spans majors is in several chains."""
    table = memory.pointer(memory.symbol("cdev_map")) + memory.offset("kobj_map", "probes")
    device, data = memory.offset("probe", "dev"), memory.offset("probe", "data")
    link, size = memory.offset("probe", "next"), memory.sizeof("probe")
    for first in memory.words(table, _BUCKETS):
        for probe in memory.chain(first, offset=link, what="cdev_map", limit=_MAX_CHAIN):
            entry = memory.read(probe, size)
            cdev = int.from_bytes(entry[data : data + 8], "little")
            if cdev:  # base_probe, which ends each chain, has none
                yield int.from_bytes(entry[device : device + 4], "little"), cdev


def _regions(memory: KernelMemory) -> Iterator[_Region]:
    link, size = memory.offset("char_device_struct", "next"), memory.sizeof("char_device_struct")
    fields = ("major", "baseminor", "minorct")
    places = [memory.offset("char_device_struct", field) for field in fields]
    name = memory.offset("char_device_struct", "name")
    for first in memory.words(memory.symbol("chrdevs"), _BUCKETS):
        for entry in memory.chain(first, offset=link, what="chrdevs", limit=_MAX_CHAIN):
            try:
                data = memory.read(entry, size)
            except LkmError:
                break
            major, minor, count = (int.from_bytes(data[at : at + 4], "little") for at in places)
            if major < _MAX_MAJOR:
                raw = data[name : name + 64].split(b"\0", 1)[0]
                yield _Region(raw.decode("utf-8", "backslashreplace"), major, minor, count)


def _name(regions: list[_Region], major: int, minor: int) -> str:
    """Who reserved that number; `MAJOR:MINOR` if nobody did (any more)."""
    for region in regions:
        if region.major == major and region.minor <= minor < region.minor + region.minors:
            return region.name
    return f"{major}:{minor}"


def chrdev_names(root: Root) -> Iterator[tuple[str, str]]:
    """Name and detail of each character device in /proc/devices, which takes chrdevs_lock."""
    for name, major in parse_majors(read_guarded(root, "/proc/devices")):
        yield name, f"major {major}"


def parse_majors(text: str) -> Iterator[tuple[str, int]]:
    """Name and major number of each character device in /proc/devices; block devices come second there."""
    for line in text.split("Block devices:", 1)[0].splitlines():
        parts = line.split(None, 1)
        if len(parts) == 2 and parts[0].isdigit():
            yield parts[1].strip(), int(parts[0])
