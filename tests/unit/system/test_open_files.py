# SPDX-License-Identifier: MIT
"""Open devices, mappings and mounts: whose they are, wherever the nodes lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.names import ModuleName
from lkm.system.device_numbers import DeviceOwners, char_devices_of, disks_of
from lkm.system.mounts import mounts_of, parse_mountinfo, read_mount_entries
from lkm.system.open_files import paths_of, read_mappings, read_open_files
from lkm.system.snapshot import LoadedModule, ModuleState, Mount, OpenFile, Registration, RegistrationKind
from tests.unit.system.trees import Tree

DEMO = ModuleName("demo")
NULL = os.stat("/dev/null").st_rdev  # the only device that every machine has, and that anybody may open
MOUNTINFO = (
    "36 35 254:1 / / rw,noatime master:1 - ext4 /dev/vda1 rw\n"
    "37 36 0:40 / /mnt/a\\040b\\134c rw - demofs none rw\n"
    "38 36 0:41 / /home/u rw shared:3 - fuse.sshfs u@host: rw\n"
    "39 36\n"
)


def registered(kind: RegistrationKind, name: str) -> Registration:
    return Registration(kind, name, DEMO, certain=True, source="test")


def loaded(*names: str) -> list[LoadedModule]:
    return [LoadedModule(ModuleName(name), ModuleState.LIVE, 0, 4096) for name in names]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(str(tmp_path))
    made.write(
        "/proc/devices",
        "Character devices:\n  1 mem\n244 demochr\n\nBlock devices:\n244 demochr\n254 demodisk\n",
    )
    made.write("/proc/misc", "124 demo-misc\n 60 cpu_dma_latency\n")
    return made


def owners(tree: Tree, *registrations: Registration) -> DeviceOwners:
    return DeviceOwners(tree.root, char_devices_of(tree.root, registrations), disks_of(registrations))


def test_numbers_of_registered_devices(tree: Tree) -> None:
    found = owners(
        tree, registered(RegistrationKind.CHRDEV, "demochr"), registered(RegistrationKind.MISC, "demo-misc")
    )
    assert found.owner("char", os.makedev(244, 7)) == DEMO
    assert found.owner("char", os.makedev(10, 124)) == DEMO
    assert found.owner("char", os.makedev(10, 60)) is None
    assert found.owner("block", os.makedev(244, 7)) is None


def test_disk_and_its_partitions(tree: Tree) -> None:
    tree.link("/sys/dev/block/254:0", "../../devices/pci0/block/demo0")
    tree.link("/sys/dev/block/254:1", "../../devices/pci0/block/demo0/demo0p1")
    found = owners(tree, registered(RegistrationKind.BLOCK, "demo0"))
    assert found.owner("block", os.makedev(254, 0)) == DEMO
    assert found.owner("block", os.makedev(254, 1)) == DEMO
    assert found.owner("block", os.makedev(254, 2)) is None


def test_driver_of_the_device_in_sysfs(tree: Tree) -> None:
    tree.write("/sys/devices/pci0/block/vda/vda1/partition", "1\n")
    tree.link("/sys/devices/pci0/block/vda/device/driver/module", "../../../../module/virtio-blk")
    tree.link("/sys/dev/block/254:1", "../../devices/pci0/block/vda/vda1")
    tree.link("/sys/dev/block/254:0", "../../devices/pci0/block/vda")
    found = owners(tree)
    assert found.owner("block", os.makedev(254, 1)) == "virtio_blk"
    assert found.owner("block", os.makedev(254, 0)) == "virtio_blk"


def test_open_node_anywhere(tree: Tree) -> None:
    tree.write("/proc/50/comm", "user\n")
    tree.link("/proc/50/fd/7", "/dev/null")
    tree.link("/proc/50/fd/8", "socket:[123]")
    tree.link("/proc/50/fd/9", "/nonexistent")
    tree.link("/proc/51", "gone")
    found = DeviceOwners(tree.root, {(os.major(NULL), None): DEMO}, {})
    assert read_open_files(tree.root, found, {}) == (
        OpenFile(DEMO, 50, "user", "/dev/null", fd=7, via="fd", how="device"),
    )


def test_file_that_the_module_registered(tree: Tree) -> None:
    tree.write("/proc/50/comm", "user\n")
    tree.link("/proc/50/fd/3", "/proc/demo/status")
    paths = paths_of([registered(RegistrationKind.PROC_ENTRY, "demo/status")])
    (item,) = read_open_files(tree.root, owners(tree), paths)
    assert (item.path, item.how, item.fd) == ("/proc/demo/status", "path", 3)


def test_server_that_may_be_gone_is_not_asked(tree: Tree) -> None:
    """stat of a file on a dead server never returns; here the same prefix hides even a device."""
    tree.write("/proc/self/mountinfo", "40 36 0:50 / /dev rw - nfs4 server:/dev rw\n")
    tree.link("/proc/50/fd/7", "/dev/null")
    found = DeviceOwners(tree.root, {(os.major(NULL), None): DEMO}, {})
    assert read_open_files(tree.root, found, {}) == ()


def test_mapped_device_once_a_process(tree: Tree) -> None:
    tree.write("/proc/50/comm", "user\n")
    tree.write(
        "/proc/50/maps",
        "00400000-00401000 r-xp 00000000 fe:01 42 /usr/bin/user\n"
        "7f0000000000-7f0000001000 rw-s 00000000 00:05 9 /dev/null\n"
        "7f0000001000-7f0000002000 rw-s 00001000 00:05 9 /dev/null\n"
        "7f0000003000-7f0000004000 rw-p 00000000 00:00 0\n"
        "cut off /dev/\n",
    )
    tree.link("/proc/50/map_files/7f0000000000-7f0000001000", "/dev/null")
    tree.link("/proc/50/map_files/7f0000001000-7f0000002000", "/dev/null")
    tree.directory("/proc/51/maps")
    found = DeviceOwners(tree.root, {(os.major(NULL), os.minor(NULL)): DEMO}, {})
    assert read_mappings(tree.root, found, {}) == (
        OpenFile(DEMO, 50, "user", "/dev/null", via="map", how="device"),
    )


def test_mountinfo() -> None:
    entries = parse_mountinfo(MOUNTINFO, pid=1)
    assert [(entry.fstype, entry.mount_point, entry.source) for entry in entries] == [
        ("ext4", "/", "/dev/vda1"),
        ("demofs", "/mnt/a b\\c", "none"),
        ("fuse.sshfs", "/home/u", "u@host:"),
    ]


def test_each_namespace_once(tree: Tree) -> None:
    for pid, namespace in ((1, "mnt:[1]"), (2, "mnt:[1]"), (30, "mnt:[2]"), (31, "mnt:[2]")):
        tree.link(f"/proc/{pid}/ns/mnt", namespace)
        tree.write(f"/proc/{pid}/mountinfo", "" if pid == 30 else MOUNTINFO)  # 30 is ending
    assert {entry.pid for entry in read_mount_entries(tree.root)} == {1, 31}


def test_mounts_by_type_and_by_device(tree: Tree) -> None:
    tree.link("/sys/dev/block/254:1", "../../devices/pci0/block/vda/vda1")
    disks = {"vda": ModuleName("virtio_blk")}
    found = mounts_of(
        parse_mountinfo(MOUNTINFO, pid=7),
        loaded("demo", "fuse", "virtio_blk"),
        DeviceOwners(tree.root, {}, disks),
        [registered(RegistrationKind.FILESYSTEM, "demofs")],
    )
    assert found == (
        Mount(ModuleName("virtio_blk"), "/", "ext4", "/dev/vda1", 7, how="device"),
        Mount(DEMO, "/mnt/a b\\c", "demofs", "none", 7, how="type"),
        Mount(ModuleName("fuse"), "/home/u", "fuse.sshfs", "u@host:", 7, how="type"),
    )


def test_type_whose_module_has_another_name(tree: Tree) -> None:
    entries = parse_mountinfo("36 35 0:9 / /cd rw - iso9660 /dev/sr0 ro\n", pid=1)
    (mount,) = mounts_of(entries, loaded("isofs"), owners(tree))
    assert (mount.module, mount.how) == ("isofs", "type")
