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

from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.device_numbers import DeviceOwners
from lkm.system.files import list_directory, process_ids, read_bytes, read_link, read_text
from lkm.system.mounts import REMOTE_TYPES, parse_mountinfo
from lkm.system.snapshot import OpenFile, Registration, RegistrationKind

__all__ = ["paths_of", "read_mappings", "read_open_files"]

_NODES = (b"/dev/", b"/proc/", b"/sys/")


def paths_of(registrations: Iterable[Registration]) -> dict[str, ModuleName]:
    """The files in /proc that modules registered."""
    return {
        item.name if item.name.startswith("/") else f"/proc/{item.name}": item.module
        for item in registrations
        if item.kind is RegistrationKind.PROC_ENTRY
    }


def read_open_files(
    root: Root, owners: DeviceOwners, paths: Mapping[str, ModuleName]
) -> tuple[OpenFile, ...]:
    """The descriptors of every process (of one's own only, without root) that lead to a module."""
    remote = _remote_prefixes(root)
    found = []
    for pid in process_ids(root):
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
    for pid in process_ids(root):
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


def _command(root: Root, pid: int) -> str:
    return read_text(root.join(f"/proc/{pid}/comm")) or ""


def _shown(path: str) -> str:
    return path.replace(" (deleted)", "") if path.startswith("/dev/") else path
