# SPDX-License-Identifier: MIT
"""Mounts of every mount namespace, and the modules that they need.

Source: `show_mountinfo`, fs/proc_namespace.c (6.1); proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.device_numbers import DeviceOwners
from lkm.system.files import process_ids, read_link, read_text
from lkm.system.snapshot import LoadedModule, Mount, Registration, RegistrationKind

__all__ = ["REMOTE_TYPES", "MountEntry", "mounts_of", "parse_mountinfo", "read_mount_entries"]

REMOTE_TYPES = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "ncpfs", "glusterfs", "lustre", "virtiofs")
"""Beginnings of the types whose every operation may wait for another machine or process."""

_ALIASES = {
    "iso9660": "isofs", "nfs4": "nfs", "fuseblk": "fuse", "fusectl": "fuse", "smb3": "cifs",
    "binder": "binder_linux", "msdos": "msdos", "ext2": "ext4", "ext3": "ext4", "nfsd": "nfsd",
    "rpc_pipefs": "sunrpc", "efivarfs": "efivarfs", "squashfs": "squashfs", "9p": "9p",
}  # fmt: skip
"""Types whose module has another name (their `MODULE_ALIAS_FS`), used where kernel memory is not read."""


class MountEntry(NamedTuple):
    """One line of a mountinfo. `device` is `major:minor`; `pid` is a process of its namespace."""

    fstype: str
    mount_point: str
    source: str
    device: str
    pid: int


def parse_mountinfo(text: str, *, pid: int) -> list[MountEntry]:
    """The mounts of one namespace; lines that are cut off are left out."""
    found = []
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        fields, tail = place.split(" "), kind.split(" ")
        if len(fields) >= 5 and len(tail) >= 2:
            found.append(
                MountEntry(tail[0], _unescaped(fields[4]), _unescaped(tail[1]), device=fields[2], pid=pid)
            )
    return found


def _unescaped(text: str) -> str:
    r"""`\040` and the like (mangle, fs/seq_file.c) as the characters that they stand for."""
    head, *rest = text.split("\\")
    for piece in rest:
        octal = piece[:3]
        if len(octal) == 3 and all(char in "01234567" for char in octal):
            head += chr(int(octal, 8)) + piece[3:]
        else:
            head += "\\" + piece
    return head


def read_mount_entries(root: Root) -> list[MountEntry]:
    """The mounts of every mount namespace that the caller may look into, each through its first process."""
    found: list[MountEntry] = []
    seen = set()
    for pid in process_ids(root):
        namespace = read_link(root.join(f"/proc/{pid}/ns/mnt"))
        if not namespace or namespace in seen:
            continue
        text = read_text(root.join(f"/proc/{pid}/mountinfo"))
        if text:  # a process that is ending has no mounts any more: another will do
            seen.add(namespace)
            found += parse_mountinfo(text, pid=pid)
    return found


def mounts_of(
    entries: Iterable[MountEntry],
    modules: Sequence[LoadedModule],
    owners: DeviceOwners,
    registrations: Iterable[Registration] = (),
) -> tuple[Mount, ...]:
    """The mounts whose type, or whose block device, belongs to one of `modules`.

    The type's module is the one that registered it, else the one of its name.
    """
    loaded = {module.name for module in modules}
    types = {item.name: item.module for item in registrations if item.kind is RegistrationKind.FILESYSTEM}
    found: dict[tuple[ModuleName, MountEntry], Mount] = {}
    for entry in entries:
        kind = entry.fstype.split(".", 1)[0]  # fuse.sshfs is fuse
        owner = types.get(kind) or module_name(_ALIASES.get(kind, kind))
        disk = owners.owner("block", _number(entry.device))
        for module, how in ((owner, "type"), (disk, "device")):
            if module in loaded:
                found[module, entry] = Mount(
                    module, entry.mount_point, entry.fstype, entry.source, entry.pid, how=how
                )
    return tuple(found.values())


def _number(device: str) -> int:
    """`major:minor` as one number; 0, which is no device, for anything else."""
    major, _, minor = device.partition(":")
    return os.makedev(int(major), int(minor)) if major.isdigit() and minor.isdigit() else 0
