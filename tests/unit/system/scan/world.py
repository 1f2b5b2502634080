# SPDX-License-Identifier: MIT
"""A kernel with two modules for the tests of the scan."""

from __future__ import annotations

from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.scan.classify import Classifier
from lkm.system.scan.expected import World
from lkm.system.scan.notified import Notified
from lkm.system.scanned import Hit, Place, PlaceKind
from lkm.system.snapshot import LoadedModule, MemoryRange, ModuleState, Registration
from tests.unit.system.kernel import MODULES, FakeKernel, FakeTypes

STRUCTS = {
    "module": (0x200, {
        "list": 0x8, "init": 0x20, "core_layout": 0x40, "core_layout.text_size": 0x50, "source_list": 0x80,
        "target_list": 0x90, "sect_attrs": 0xA0,
        "mkobj.kobj": 0xC0, "kp": 0x100, "num_kp": 0x108, "trace_events": 0x110, "num_trace_events": 0x118,
        "static_call_sites": 0x120, "num_static_call_sites": 0x128, "jump_entries": 0x130, "num_jump_entries": 0x138,
    }),
    "trace_event_call": (0x40, {"class": 0x10}),
    "trace_event_class": (0x48, {"fields": 0x30}),
    "ftrace_event_field": (56, {"link": 8}),
    "btf_module": (40, {"list": 0, "module": 16}),
    "static_call_mod": (24, {"next": 0, "mod": 8, "sites": 16}),
    "static_call_site": (8, {}),
    "static_key_mod": (24, {"next": 0, "entries": 8, "mod": 16}),
    "jump_entry": (16, {}),
    "trace_eprobe": (96, {"event": 24}),
    "perf_event": (200, {"tp_event": 0x80}),
    "worker": (0x80, {
        "current_work": 0x10, "current_func": 0x18, "task": 0x30, "pool": 0x38, "node": 0x40, "last_func": 0x58,
    }),
    "worker_pool": (0x100, {"workers": 0x10}),
    "xa_node": (576, {"array": 32, "slots": 40}),
    "ctl_table_header": (0x60, {"ctl_table": 0, "ctl_table_arg": 0x20, "root": 0x28, "parent": 0x38}),
    "ctl_table": (64, {"procname": 0}),
    "kmem_cache": (256, {"ctor": 0x48}),
    "net": (0x400, {"list": 0x10}),
    "kernel_param": (40, {"arg": 32}),
    "kobject": (0x40, {"parent": 0x18, "sd": 0x30}),
    "module_use": (48, {"source_list": 0, "target_list": 16}),
    "mod_initfree": (32, {"init_text": 16}),
    "vmap_area": (64, {"va_start": 0, "va_end": 8, "vm": 56}),
    "kernfs_node": (128, {"parent": 8, "name": 16, "active": 4, "flags": 0x70}),
    "ftrace_page": (32, {"next": 0, "records": 8, "index": 16, "order": 20}),
    "dyn_ftrace": (16, {"ip": 0}),
    "file": (256, {"f_path.dentry": 0x48, "f_inode": 0x50, "f_op": 0x58, "private_data": 0x60}),
    "dentry": (192, {"d_name.name": 0x28, "d_inode": 0x30}),
    "vm_area_struct": (152, {"vm_start": 0, "vm_end": 8, "vm_ops": 0x60}),
    "net_device": (0x900, {"name": 0, "netdev_ops": 0xD0, "dev_list": 0x48}),
    "task_struct": (0x800, {
        "stack": 0x38, "__state": 0x40,
        "comm": 0x100, "exit_state": 0x20, "flags": 0x28, "pid": 0x30, "tgid": 0x34}),
}  # fmt: skip
SIZES = {
    ("module", "list"): 16, ("module", "init"): 8, ("module", "core_layout"): 0x30, ("module", "source_list"): 16,
    ("module", "target_list"): 16,
}  # fmt: skip
STRUCT = MODULES + 0x800
OTHER = MODULES + 0x10000
INIT = MODULES + 0x8000


def make_kernel() -> FakeKernel:
    kernel = FakeKernel(FakeTypes(STRUCTS, SIZES))
    kernel.place(MODULES, 0x2000)
    kernel.place(OTHER, 0x2000)
    for name in ("source_list", "target_list"):
        kernel.ring(kernel.at(STRUCT, "module", name), [])
    kernel.symbols["init_task"] = kernel.new(8)
    kernel.symbols["ftrace_pages_start"] = kernel.new(8)
    return kernel


def demo(state: ModuleState = ModuleState.COMING) -> LoadedModule:
    memory = (MemoryRange(MODULES, 0x2000, "core"), MemoryRange(INIT, 0x1000, "init"))
    return LoadedModule(ModuleName("demo"), state, 0, 0x2000, address=STRUCT, memory=memory)


OTHERS = LoadedModule(
    ModuleName("other"),
    ModuleState.LIVE,
    0,
    0x2000,
    address=OTHER + 0x800,
    memory=(MemoryRange(OTHER, 0x2000, "core"),),
)


def classify(
    kernel: FakeKernel,
    place: Place,
    value: int = MODULES + 0x10,
    *,
    module: LoadedModule | None = None,
    registrations: tuple[Registration, ...] = (),
    root: Root = Root("/nonexistent"),  # noqa: B008
    machine: str = "x86_64",
) -> Hit:
    """What the pointer `value` at that place is."""
    module = module or demo()
    world = World.of(root, kernel.memory(), (module, OTHERS), registrations, machine=machine)
    return Classifier(world, module, [(value, place)], Notified(world.memory, module)).hits()[0]


def slab(name: str, start: int, offset: int = 0, size: int = 64, *, live: bool | None = True) -> Place:
    """A word in an object of that cache."""
    return Place(PlaceKind.SLAB, start + offset, name, offset, start, size, live=live)
