# SPDX-License-Identifier: MIT
"""Files, devices and mappings that processes have open and whose number or path belongs to a module.

This is the way of /proc/PID/{fd,maps}: it needs no kernel memory, but does not see who serves an anonymous
inode or a socket. `lkm.system.file_operations` goes by the operations of each open file instead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Optional

from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.files import list_directory, read_bytes, read_link, read_text
from lkm.system.mounts import REMOTE_TYPES, parse_mountinfo
from lkm.system.snapshot import OpenFile, Registration, RegistrationKind

__all__ = ["DeviceOwners", "devices_of", "paths_of", "read_mappings", "read_open_files"]

DeviceKey = tuple[str, int, Optional[int]]
"""`char` or `block`, major, and minor or None for all of that major."""

_NODES = (b"/dev/", b"/proc/", b"/sys/")
_SECTIONS = {"Character devices:": "char", "Block devices:": "block"}
_MISC_MAJOR = 10


class DeviceOwners:
    """Which module a device number belongs to: by what is registered, else by its driver in sysfs."""

    def __init__(self, root: Root, devices: Mapping[DeviceKey, ModuleName]) -> None:
        self._root = root
        self._devices = devices
        self._by_driver: dict[tuple[str, int], Optional[ModuleName]] = {}

    def owner(self, kind: str, number: int) -> Optional[ModuleName]:
        """The module of device `number` (st_rdev), or None."""
        major, minor = os.major(number), os.minor(number)
        found = self._devices.get((kind, major, minor)) or self._devices.get((kind, major, None))
        if found:
            return found
        if (kind, number) not in self._by_driver:
            self._by_driver[kind, number] = self._driver(kind, f"{major}:{minor}")
        return self._by_driver[kind, number]

    def _driver(self, kind: str, number: str) -> Optional[ModuleName]:
        """The module of the driver that the device, or the disk of a partition, is bound to."""
        base = self._root.join(f"/sys/dev/{kind}/{number}")
        for device in ("device", "../device"):
            target = read_link(f"{base}/{device}/driver/module")
            if target:
                return module_name(os.path.basename(target))
            if kind != "block" or not os.path.exists(f"{base}/partition"):
                break
        return None


def devices_of(root: Root, registrations: Iterable[Registration]) -> dict[DeviceKey, ModuleName]:
    """The numbers of the registered devices: their names are looked up in /proc/devices and /proc/misc."""
    kinds = {RegistrationKind.CHRDEV: "char", RegistrationKind.BLOCK: "block"}
    majors = _read_majors(root)
    minors = _read_misc(root)
    found: dict[DeviceKey, ModuleName] = {}
    for item in registrations:
        if item.kind in kinds:
            kind = kinds[item.kind]
            for major in majors.get((kind, item.name), ()):
                found[kind, major, None] = item.module
        elif item.kind is RegistrationKind.MISC and item.name in minors:
            found["char", _MISC_MAJOR, minors[item.name]] = item.module
    return found


def paths_of(registrations: Iterable[Registration]) -> dict[str, ModuleName]:
    """The files in /proc that modules registered."""
    return {
        item.name if item.name.startswith("/") else f"/proc/{item.name}": item.module
        for item in registrations
        if item.kind is RegistrationKind.PROC_ENTRY
    }


def _read_majors(root: Root) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    kind = ""
    for line in (read_text(root.join("/proc/devices")) or "").splitlines():
        number, _, name = line.strip().partition(" ")
        if line.strip() in _SECTIONS:
            kind = _SECTIONS[line.strip()]
        elif number.isdigit():
            found.setdefault((kind, name), []).append(int(number))
    return found


def _read_misc(root: Root) -> dict[str, int]:
    lines = (read_text(root.join("/proc/misc")) or "").splitlines()
    pairs = [line.split(None, 1) for line in lines]
    return {pair[1].strip(): int(pair[0]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()}


def read_open_files(
    root: Root, owners: DeviceOwners, paths: Mapping[str, ModuleName]
) -> tuple[OpenFile, ...]:
    """The descriptors of every process (of one's own only, without root) that lead to a module."""
    remote = _remote_prefixes(root)
    found = []
    for pid in _processes(root):
        directory = root.join(f"/proc/{pid}/fd")
        for name in list_directory(directory):
            path = read_link(f"{directory}/{name}")
            if not path.startswith("/"):  # socket:[…], pipe:[…], anon_inode:…
                continue
            module, how = _owner(f"{directory}/{name}", path, owners, paths, remote)
            if module:
                found.append(
                    OpenFile(module, pid, _command(root, pid), _shown(path), fd=int(name), via="fd", how=how)
                )
    return tuple(found)


def read_mappings(root: Root, owners: DeviceOwners, paths: Mapping[str, ModuleName]) -> tuple[OpenFile, ...]:
    """The mapped devices and registered files, each once a process.

    To read /proc/PID/maps takes that process's mmap_lock: where a dead thread holds it, this never returns.
    Only paths below /dev, /proc and /sys are looked at.
    """
    remote = _remote_prefixes(root)
    found: dict[tuple[int, str], OpenFile] = {}
    for pid in _processes(root):
        data = read_bytes(root.join(f"/proc/{pid}/maps")) or b""
        if not any(node in data for node in _NODES):
            continue
        for line in data.splitlines():
            fields = line.split(None, 5)
            if len(fields) < 6 or not fields[5].startswith(_NODES):
                continue
            path = fields[5].decode("utf-8", "backslashreplace")
            place = root.join(f"/proc/{pid}/map_files/{fields[0].decode('ascii', 'replace')}")
            module, how = _owner(place, path, owners, paths, remote)
            if module:
                found[pid, path] = OpenFile(
                    module, pid, _command(root, pid), _shown(path), via="map", how=how
                )
    return tuple(found.values())


def _owner(
    place: str,
    path: str,
    owners: DeviceOwners,
    paths: Mapping[str, ModuleName],
    remote: tuple[str, ...],
) -> tuple[Optional[ModuleName], str]:
    """The module behind the magic link `place`, and how it is known. A device node may lie anywhere."""
    if path in paths:
        return paths[path], "path"
    if path.startswith(remote):  # stat asks the server, which may be gone for good
        return None, ""
    try:
        found = os.stat(place)
    except OSError:
        return None, ""
    if stat.S_ISCHR(found.st_mode):
        return owners.owner("char", found.st_rdev), "device"
    if stat.S_ISBLK(found.st_mode):
        return owners.owner("block", found.st_rdev), "device"
    return None, ""


def _remote_prefixes(root: Root) -> tuple[str, ...]:
    """Mount points, as prefixes, of file systems that answer as long as another machine or process does."""
    entries = parse_mountinfo(read_text(root.join("/proc/self/mountinfo")) or "", pid=0)
    return tuple(
        entry.mount_point.rstrip("/") + "/" for entry in entries if entry.fstype.startswith(REMOTE_TYPES)
    )


def _processes(root: Root) -> list[int]:
    return sorted(int(name) for name in list_directory(root.join("/proc")) if name.isdigit())


def _command(root: Root, pid: int) -> str:
    return read_text(root.join(f"/proc/{pid}/comm")) or ""


def _shown(path: str) -> str:
    return path.replace(" (deleted)", "") if path.startswith("/dev/") else path
