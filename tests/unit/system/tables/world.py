# SPDX-License-Identifier: MIT
"""What the tests of the tables share: structs, modules, and how a result is compared."""

from __future__ import annotations

from typing import Optional

from lkm.system.registrations import read_registrations
from lkm.system.snapshot import Registration, RegistrationKind
from tests.unit.system.kernel import MODULES, FakeKernel, module
from tests.unit.system.trees import Tree

KERNEL_TEXT = 0xFFFF_FFFF_8100_0000
OPS, DATA = MODULES + 0x100, MODULES + 0x800
DEMO, OTHER = module("demo", MODULES, 0x1000), module("other", MODULES + 0x4000, 0x1000)
MODULES_GIVEN = (DEMO, OTHER, module("hidden"))

STRUCTS: dict[str, tuple[int, dict[str, int]]] = {
    "miscdevice": (80, {"name": 8, "fops": 16, "list": 24}),
    "file_system_type": (64, {"name": 0, "init_fs_context": 16, "owner": 40, "next": 48}),
    "probe": (56, {"next": 0, "dev": 8, "range": 16, "owner": 24, "get": 32, "data": 48}),
    "kobj_map": (2048, {"probes": 0}),
    "cdev": (104, {"owner": 64, "ops": 72}),
    "char_device_struct": (96, {"next": 0, "major": 8, "baseminor": 12, "minorct": 16, "name": 20}),
    "proc_dir_entry": (
        160,
        {"proc_iops": 40, "proc_ops": 48, "seq_ops": 64, "data": 80, "subdir": 96, "subdir_node": 104, "name": 136},
    ),
    "rb_root": (8, {"rb_node": 0}),
    "rb_node": (24, {"rb_right": 8, "rb_left": 16}),
    "net": (64, {"list": 0, "dev_base_head": 16, "proc_net": 32}),
    "net_device": (
        96,
        {"name": 0, "dev_list": 16, "netdev_ops": 32, "rtnl_link_ops": 40, "ethtool_ops": 48, "header_ops": 56,
         "priv_destructor": 64, "flags": 72},
    ),
    "crypto_alg": (320, {"cra_list": 0, "cra_refcnt": 20, "cra_name": 24, "cra_driver_name": 152, "cra_module": 280}),
    "irq_desc": (64, {"action": 8}),
    "irqaction": (64, {"handler": 0, "dev_id": 8, "next": 16, "thread_fn": 24, "name": 32}),
    "xarray": (16, {"xa_head": 8}),
    "xa_node": (8 + 64 * 8, {"shift": 0, "slots": 8}),
    "maple_tree": (16, {"ma_root": 8}),
    "maple_range_64": (256, {"pivot": 8, "slot": 128}),
    "maple_arange_64": (248, {"pivot": 8, "slot": 80}),
    "subsys_private": (128, {"subsys": 0, "klist_devices": 64, "drivers_kset": 104}),
    "kset": (64, {"list": 0, "kobj": 16}),
    "kobject": (48, {"name": 0, "entry": 8}),
    "klist": (16, {"k_list": 0}),
    "klist_node": (24, {"n_node": 8}),
    "device_private": (48, {"knode_class": 0, "device": 32}),
    "device": (64, {"type": 8}),
    "driver_private": (64, {"kobj": 0, "driver": 56}),
    "device_driver": (64, {"name": 0, "owner": 16, "probe": 24, "mod_name": 32}),
    "gendisk": (96, {"major": 0, "first_minor": 4, "disk_name": 8, "fops": 40, "part0": 48}),
    "timer_list": (40, {"entry": 0, "expires": 16, "function": 24}),
    "timer_base": (64, {"vectors": 16}),
    "work_struct": (32, {"entry": 8, "func": 24}),
    "workqueue_struct": (64, {"pwqs": 0, "list": 16}),
    "pool_workqueue": (64, {"pool": 0, "inactive_works": 16, "pwqs_node": 32}),
    "worker_pool": (64, {"worklist": 16}),
    "delayed_work": (96, {"work": 0, "timer": 32}),
    "notifier_block": (24, {"notifier_call": 0, "next": 8, "priority": 16}),
    "raw_notifier_head": (8, {"head": 0}),
    "atomic_notifier_head": (16, {"head": 8}),
    "blocking_notifier_head": (48, {"head": 40}),
    "block_device": (96, {"bd_device": 16, "bd_disk": 8}),
}  # fmt: skip
SIZES = {
    ("xa_node", "slots"): 512,
    ("maple_range_64", "slot"): 128,
    ("maple_arange_64", "slot"): 80,
    ("timer_base", "vectors"): 48,
}


def found(
    kernel: FakeKernel, tree: Tree, kind: Optional[RegistrationKind] = None, notes: Optional[list[str]] = None
) -> list[Registration]:
    said = notes if notes is not None else []
    memory = kernel.memory()
    everything = read_registrations(tree.root, memory, MODULES_GIVEN, notes=said)
    said.extend(memory.notes)
    return [item for item in everything if kind is None or item.kind is kind]


def brief(items: list[Registration]) -> list[tuple[str, str, bool]]:
    return [(item.name, item.module, item.certain) for item in items]
