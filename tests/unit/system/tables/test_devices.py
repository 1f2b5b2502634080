# SPDX-License-Identifier: MIT
"""Misc devices, file systems, character devices, interfaces, disks and drivers."""

from __future__ import annotations

import struct

from lkm.system.registrations import read_registrations
from lkm.system.snapshot import RegistrationKind
from tests.unit.system.kernel import HEAP, MODULES, FakeKernel
from tests.unit.system.tables.world import DATA, DEMO, KERNEL_TEXT, OPS, OTHER, brief, found
from tests.unit.system.trees import Tree

# misc, filesystem, chrdev


def put_misc(kernel: FakeKernel, address: int, name: str, fops: int) -> int:
    """Its list node."""
    kernel.set(address, "miscdevice", name=kernel.text(name), fops=fops)
    kernel.put(address, struct.pack("<I", 61))
    return kernel.at(address, "miscdevice", "list")


def test_misc_devices_by_struct_or_by_operations(kernel: FakeKernel, tree: Tree) -> None:
    nodes = [
        put_misc(kernel, DATA, "in-module", KERNEL_TEXT),
        put_misc(kernel, kernel.new("miscdevice"), "on-heap", MODULES + 0x4010),
        put_misc(kernel, kernel.new("miscdevice"), "built-in", KERNEL_TEXT),
    ]
    kernel.ring(kernel.symbols["misc_list"], nodes)
    items = found(kernel, tree, RegistrationKind.MISC)
    assert brief(items) == [("in-module", "demo", True), ("on-heap", "other", True)]
    assert items[0].detail == "minor 61"


def test_a_misc_list_that_runs_into_freed_memory(kernel: FakeKernel, tree: Tree) -> None:
    first = put_misc(kernel, DATA, "first", OPS)
    kernel.put(kernel.symbols["misc_list"], first)
    kernel.put(first, MODULES + 0x9000)
    notes: list[str] = []
    assert brief(found(kernel, tree, RegistrationKind.MISC, notes)) == [("first", "demo", True)]
    assert any("not mapped" in note for note in notes)


def test_file_systems_in_a_chain_until_7(kernel: FakeKernel, tree: Tree) -> None:
    heap = kernel.new("file_system_type")
    kernel.set(DATA, "file_system_type", name=kernel.text("leftfs"), next=heap)
    kernel.set(heap, "file_system_type", name=kernel.text("heapfs"), owner=MODULES + 0x4000)
    kernel.put(kernel.symbols["file_systems"], DATA)
    assert brief(found(kernel, tree, RegistrationKind.FILESYSTEM)) == [
        ("leftfs", "demo", True),
        ("heapfs", "other", True),
    ]


def test_file_systems_in_an_hlist_since_7(kernel: FakeKernel, tree: Tree) -> None:
    assert kernel.types is not None
    kernel.types.structs["file_system_type"] = (64, {"name": 0, "owner": 40, "list": 48})
    heap = kernel.new("file_system_type")
    kernel.set(DATA, "file_system_type", name=kernel.text("leftfs"), list=heap + 48)
    kernel.set(heap, "file_system_type", name=kernel.text("ext4"))
    kernel.put(kernel.symbols["file_systems"], DATA + 48)
    assert brief(found(kernel, tree, RegistrationKind.FILESYSTEM)) == [("leftfs", "demo", True)]


def test_a_chain_that_bites_its_tail_ends(kernel: FakeKernel, tree: Tree) -> None:
    kernel.set(DATA, "file_system_type", name=kernel.text("leftfs"), next=DATA)
    kernel.put(kernel.symbols["file_systems"], DATA)
    notes: list[str] = []
    assert len(found(kernel, tree, RegistrationKind.FILESYSTEM, notes)) == 1
    assert any("a node comes twice" in note for note in notes)


def put_cdev(kernel: FakeKernel, major: int, minor: int, cdev: int) -> None:
    probe = kernel.new("probe")
    table = kernel.memory().u64(kernel.symbols["cdev_map"])
    kernel.set(probe, "probe", dev=struct.pack("<I", major << 20 | minor), data=cdev)
    kernel.put(probe, kernel.memory().u64(table + 8 * (major % 255)))
    kernel.put(table + 8 * (major % 255), probe)


def put_region(kernel: FakeKernel, major: int, minor: int, count: int, name: str) -> None:
    entry = kernel.new("char_device_struct")
    kernel.put(entry + 8, struct.pack("<III", major, minor, count) + name.encode() + b"\0")
    kernel.put(kernel.symbols["chrdevs"] + 8 * (major % 255), entry)


def test_character_devices_by_their_cdev(kernel: FakeKernel, tree: Tree) -> None:
    heap, builtin = kernel.new("cdev"), kernel.new("cdev")
    kernel.set(heap, "cdev", ops=MODULES + 0x4010)
    kernel.set(builtin, "cdev", ops=KERNEL_TEXT)
    for major, minor, cdev in (
        (250, 0, DATA),
        (250, 1, DATA),
        (251, 7, heap),
        (4, 64, builtin),
        (9, 0, HEAP - 64),
    ):
        put_cdev(kernel, major, minor, cdev)
    put_region(kernel, 250, 0, 16, "leftchr")
    put_region(kernel, 251, 0, 4, "elsewhere")
    items = found(kernel, tree, RegistrationKind.CHRDEV)
    assert sorted(brief(items)) == [("251:7", "other", True), ("leftchr", "demo", True)]


# interfaces, block devices, drivers


def put_netdev(kernel: FakeKernel, name: str, **members: int) -> int:
    device = kernel.new("net_device")
    kernel.put(device, name)
    return kernel.at(kernel.set(device, "net_device", **members), "net_device", "dev_list")


def test_interfaces_of_every_namespace_and_of_sysfs(kernel: FakeKernel, tree: Tree) -> None:
    first, second = kernel.new("net"), kernel.new("net")
    kernel.symbols["init_net"] = first
    kernel.ring(kernel.symbols["net_namespace_list"], [first, second])
    kernel.ring(
        first + 16,
        [
            put_netdev(kernel, "lo", netdev_ops=KERNEL_TEXT),
            put_netdev(kernel, "left0", netdev_ops=OPS, flags=0x1043),
        ],
    )
    kernel.ring(second + 16, [put_netdev(kernel, "inner", rtnl_link_ops=MODULES + 0x4000)])
    tree.link("/sys/class/net/left0/device/driver/module", "../../../module/demo")
    tree.link("/sys/class/net/usb0/device/driver/module", "../../../module/other")
    tree.link("/sys/class/net/eth0/device/driver/module", "../../../module/e1000")
    items = found(kernel, tree, RegistrationKind.INTERFACE)
    assert [(item.name, item.module, item.detail, item.users) for item in items] == [
        ("left0", "demo", "", 1),
        ("inner", "other", "in another network namespace", 0),
        ("usb0", "other", "", None),
    ]


def put_subsystem(kernel: FakeKernel, kset: str, name: str) -> int:
    subsystem = kernel.new("subsys_private")
    kobject = subsystem + 16
    kernel.put(kobject, kernel.text(name))
    kernel.ring(kernel.memory().u64(kernel.symbols[kset]), [kobject + 8])
    return subsystem


def put_disk(kernel: FakeKernel, name: str, fops: int) -> int:
    disk = kernel.new("gendisk")
    kernel.put(disk, struct.pack("<II", 7, 3) + name.encode() + b"\0")
    return kernel.set(disk, "gendisk", fops=fops)


def class_of(kernel: FakeKernel, subsystem: int, devices: list[int]) -> None:
    nodes = []
    for device in devices:
        private = kernel.set(kernel.new("device_private"), "device_private", device=device)
        nodes.append(private + 8)
    kernel.ring(subsystem + 64, nodes)


def test_disks_by_block_device_since_5_11(kernel: FakeKernel, tree: Tree) -> None:
    disk, builtin = put_disk(kernel, "left0", OPS), put_disk(kernel, "ram0", KERNEL_TEXT)
    parts = [
        kernel.set(kernel.new("block_device"), "block_device", bd_disk=each) for each in (disk, disk, builtin)
    ]
    class_of(kernel, put_subsystem(kernel, "class_kset", "block"), [part + 16 for part in parts])
    items = found(kernel, tree, RegistrationKind.BLOCK)
    assert [(item.name, item.module, item.detail) for item in items] == [("left0", "demo", "7:3")]


def test_disks_by_hd_struct_until_5_10(kernel: FakeKernel, tree: Tree) -> None:
    assert kernel.types is not None
    del kernel.types.structs["block_device"]
    kernel.types.structs["hd_struct"] = (32, {"__dev": 8})
    kernel.symbols["disk_type"] = KERNEL_TEXT
    disk = put_disk(kernel, "left0", OPS)
    kernel.put(disk + 48 + 8 + 8, KERNEL_TEXT)
    partition = kernel.set(kernel.new("device"), "device", type=KERNEL_TEXT + 64)
    class_of(kernel, put_subsystem(kernel, "class_kset", "block"), [disk + 56, partition])
    assert brief(found(kernel, tree, RegistrationKind.BLOCK)) == [("left0", "demo", True)]


def test_disks_of_sysfs(kernel: FakeKernel, tree: Tree) -> None:
    tree.link("/sys/block/sda/device/driver/module", "../../../module/other")
    assert brief(found(kernel, tree, RegistrationKind.BLOCK)) == [("sda", "other", True)]


def test_drivers_of_sysfs_and_of_the_bus(kernel: FakeKernel, tree: Tree) -> None:
    kset, driver = kernel.new("kset"), kernel.new("device_driver")
    subsystem = put_subsystem(kernel, "bus_kset", "platform")
    kernel.set(subsystem, "subsys_private", drivers_kset=kset)
    kernel.set(driver, "device_driver", probe=OPS)
    privates = []
    for name, place in (("dead", driver), ("built-in", kernel.new("device_driver")), ("in-module", DATA)):
        private = kernel.set(kernel.new("driver_private"), "driver_private", driver=place)
        kernel.put(private, kernel.text(name))
        privates.append(private + 8)
    kernel.ring(kset, privates)
    directory = "/sys/bus/platform/drivers/dead"
    tree.link(f"{directory}/dev.0", "../../../../devices/platform/dev.0")
    tree.link(f"{directory}/module", "../../../../module/demo")
    tree.write(f"{directory}/bind", "")
    known = DEMO._replace(drivers=("platform:in-module",))
    items = read_registrations(tree.root, kernel.memory(), [known, OTHER])
    drivers = [(item.name, item.source) for item in items if item.kind is RegistrationKind.DRIVER]
    assert drivers == [
        ("platform:in-module", "/sys/module/demo/drivers/platform:in-module"),
        ("platform:dead", "bus_kset in kernel memory"),
    ]
    (device,) = (item for item in items if item.kind is RegistrationKind.DEVICE)
    assert (device.name, device.module, device.detail) == (
        "dev.0",
        "demo",
        f"echo dev.0 > {directory}/unbind",
    )
