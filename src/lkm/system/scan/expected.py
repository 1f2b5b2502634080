# SPDX-License-Identifier: MIT
"""Pointers into a module that its removal takes away by itself, or that nobody follows.

Each rule cites what removes them. Read in 5.10, 6.1 and 6.12: delete_module, free_module, mod_sysfs_teardown
(kernel/module.c in 5.10, kernel/module/{main,sysfs,tree_lookup}.c since 5.19).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scan.fixed import Fixed
from lkm.system.scan.notified import Notified
from lkm.system.scan.workers import worker_reason
from lkm.system.scanned import Place, PlaceKind
from lkm.system.snapshot import LoadedModule, ModuleState, Registration

__all__ = ["Expected", "Range", "World", "is_followed"]

_PAGE = 4096
_MAX_DEPTH = 16
_MAX_PAGES = 1 << 16
_MAX_AREAS = 64
_MAX_USES = 4096

_SYMBOLS = {
    "modules": "list_del_rcu in free_module",
    "mod_tree": "mod_tree_remove in free_module",
    "module_bug_list": "module_bug_cleanup in module_arch_cleanup and free_module",
    "module_kset": "mod_kobject_put in mod_sysfs_fini",
    "cur_orc_table": "a loader's scratch variable: unwind_module_init sets it anew before each use",
    "cur_orc_ip_table": "a loader's scratch variable: unwind_module_init sets it anew before each use",
    "exec_summary_regs": "registers of an oops, for printing (oops_end): never followed",
    "last_unloaded_module": "a name, for printing",
    "idem_hash": "not followed by a removal; the rescue looks at this table by itself",
}
"""Variables of the kernel. The idempotent table holds stacks of loaders, no module memory."""

_MODULE_FIELDS = (
    ("list", "list_del_rcu in free_module"),
    ("init", "stale: the function is not called again after the load (do_init_module)"),
    ("mkobj", "kobject_put in mod_sysfs_fini unlinks it from module_kset"),
    ("core_layout", "mod_tree_remove in free_module; init_layout: stale base of freed init memory"),
    ("init_layout", "mod_tree_remove in free_module; init_layout: stale base of freed init memory"),
    ("mem", "mod_tree_remove in free_module; of init kinds: stale base of freed init memory"),
    ("bug_list", "module_bug_cleanup in free_module"),
    ("source_list", "module_unload_free in free_module"),
    ("target_list", "module_unload_free in free_module"),
)
"""Members of another module's struct module that lead to this one."""

_OWN_INIT = (
    "a member of another struct module that nothing links to this one: an address of its own init, freed"
)

_OBJECTS = (
    ("sect_attrs", "free_sect_attrs in mod_sysfs_teardown"),
    ("notes_attrs", "remove_notes_attrs in mod_sysfs_teardown"),
    ("modinfo_attrs", "module_remove_modinfo_attrs in mod_sysfs_teardown"),
    ("mkobj.mp", "module_param_sysfs_remove in mod_sysfs_teardown"),
    ("holders_dir", "kobject_put in mod_sysfs_teardown"),
    ("mkobj.drivers_dir", "kobject_put in module_remove_driver"),
    ("args", "kfree in free_module"),
)
"""Members of struct module that own an allocation which points back into the module."""


def is_followed(place: Place) -> bool:
    """Whether pointers in that variable of the kernel matter to a removal."""
    return place.kind is not PlaceKind.KERNEL or place.name not in _SYMBOLS


class Range(NamedTuple):
    """Addresses, and why what lies there is expected."""

    start: int
    end: int
    reason: str


class World(NamedTuple):
    """What is the same for each module of a scan. `records`: of ftrace; `fields`: members of struct module."""

    root: Root
    memory: KernelMemory
    modules: tuple[LoadedModule, ...]
    registrations: tuple[Registration, ...]
    records: tuple[Range, ...]
    fields: tuple[Range, ...]
    machine: str

    @classmethod
    def of(
        cls,
        root: Root,
        memory: KernelMemory,
        modules: Iterable[LoadedModule],
        registrations: Iterable[Registration],
        *,
        machine: str,
    ) -> World:
        """What is read once for all."""
        records, fields = _ftrace_records(memory), _module_fields(memory)
        return cls(root, memory, tuple(modules), tuple(registrations), records, fields, machine)


class Expected:
    """The rules for one module. What cannot be read makes a rule that applies to nothing."""

    def __init__(
        self, world: World, module: LoadedModule, found: Iterable[tuple[int, Place]], notified: Notified
    ) -> None:
        memory, modules = world.memory, world.modules
        self._fixed = Fixed(world.root, memory, world.machine)
        self._memory = memory
        self._module = module
        self._by_name = {each.name: each for each in modules}
        self._kobject = self._own("mkobj.kobj", "kobject")
        self._objects = {self._pointer(module, path): why for path, why in _OBJECTS}
        self._others = {
            self._pointer(
                each, "sect_attrs"
            ): f"addresses to be shown in /sys/module/{each.name}/sections: never followed"
            for each in modules
            if each.name != module.name
        }
        self._fields = world.fields
        self._uses = self._module_uses()
        self._areas = self._vm_structs(found)
        self._bounds = {
            self._memory.find_offset("vmap_area", "va_start"),
            self._memory.find_offset("vmap_area", "va_end"),
        }
        self._freeing = self._init_pointers()
        self._records = world.records
        self._notified = notified

    def reason(self, value: int, place: Place) -> str:
        """Why the removal of the module takes this word away, or why it does not matter; "" if nothing does."""
        return (
            self._removed(value, place)
            or self._notified.reason(value, place)
            or worker_reason(self._memory, place)
        )

    def _removed(self, value: int, place: Place) -> str:
        if place.kind is PlaceKind.KERNEL:
            known = _SYMBOLS.get(place.name, "") if place.name else self._by_value(value)
            return known or self._fixed.of_kernel(place.address)
        if place.kind is PlaceKind.PER_CPU:
            return "percpu_modfree in free_module" if place.module == self._module.name else ""
        if place.kind is PlaceKind.MODULE:
            return self._in_module(place)
        if place.kind is PlaceKind.SLAB:
            return self._in_slab(value, place)
        for start, end, why in self._records:
            if start <= place.address < end:
                return why
        return ""

    def _in_module(self, place: Place) -> str:
        other = self._by_name.get(place.module)  # type: ignore[call-overload]
        if other is None:
            return ""
        inside = place.address - other.address
        if 0 <= inside < self._memory.find_size("module"):
            return self._in_struct(inside) or _OWN_INIT
        return self._fixed.of_module(other, place.address, uses=other.name in self._module.holders)

    def _by_value(self, value: int) -> str:
        """Of a variable whose name is hidden (no CONFIG_KALLSYMS_ALL): what the list, tree or set is that leads to
        that member of our struct module."""
        inside = value - self._module.address
        return self._in_struct(inside) if 0 <= inside < self._memory.find_size("module") else ""

    def _in_struct(self, inside: int) -> str:
        return next((why for start, end, why in self._fields if start <= inside < end), "")

    def _in_slab(self, value: int, place: Place) -> str:
        for objects in (self._objects, self._others):
            if place.start and place.start in objects:
                return objects[place.start]
        if place.start in self._areas or (place.name == "vmap_area" and place.offset in self._bounds):
            return "vfree of the module's memory in free_module"
        if place.name == "maple_node" and (self._is_start(value) or value & 0xFFF == 0xFFF):
            return "execmem_free in free_module: the trees of what is given out (mm/execmem.c, since 6.13)"
        if place.name == "kmem_cache" and place.offset == self._memory.find_offset("kmem_cache", "ctor"):
            return "called for new slabs of a cache from which only the module allocates"
        if place.start in self._uses:
            return "module_unload_free in free_module, of this module or of the one that uses it"
        start, end = self._kobject
        if start <= value < end:
            return self._of_kobject(place)
        if place.name == "kernfs_node_cache":
            return self._of_kernfs(place)
        if "kmalloc-" in place.name and place.offset in self._freeing and self._is_init(value):
            return "mod_initfree of do_init_module: a dead loader never queued it"
        return ""

    def _of_kobject(self, place: Place) -> str:
        """The module's kobject: its node of kernfs, its children's parent, its neighbours in module_kset."""
        if place.name == "kernfs_node_cache" or place.offset == self._memory.find_offset("kobject", "parent"):
            return "mod_sysfs_teardown"
        return (
            "kobject_put in mod_sysfs_fini unlinks it from module_kset" if place.offset in (0, 8, 16) else ""
        )

    def _of_kernfs(self, place: Place) -> str:
        """A node below /sys/module/X."""
        top, node = self._kernfs_top(), place.start
        for _ in range(_MAX_DEPTH):
            if top and node == top:
                return "mod_sysfs_teardown removes /sys/module/X and what is below"
            try:
                node = self._memory.u64(node + self._memory.offset("kernfs_node", "parent", "__parent"))
            except LkmError:
                return ""
        return ""

    def _kernfs_top(self) -> int:
        start, _ = self._kobject
        try:
            return self._memory.u64(start + self._memory.offset("kobject", "sd")) if start else 0
        except LkmError:
            return 0

    def _module_uses(self) -> frozenset[int]:
        """Each struct module_use in which this module is source or target."""
        found: set[int] = set()
        for name in ("source_list", "target_list"):
            try:
                head = self._module.address + self._memory.offset("module", name)
                link = self._memory.offset("module_use", name)
            except LkmError:
                continue
            nodes = self._memory.list_nodes(head, what=f"{name} of {self._module.name}", limit=_MAX_USES)
            found.update(node - link for node in nodes)
        return frozenset(found)

    def _vm_structs(self, found: Iterable[tuple[int, Place]]) -> frozenset[int]:
        """The vm_struct of each vmap_area that was hit."""
        areas: set[int] = set()
        for _, place in found:
            if place.kind is PlaceKind.SLAB and place.name == "vmap_area" and len(areas) < _MAX_AREAS:
                try:
                    areas.add(self._memory.u64(place.start + self._memory.offset("vmap_area", "vm")))
                except LkmError:
                    continue
        return frozenset(areas - {0})

    def _is_start(self, value: int) -> bool:
        return any(stretch.start == value for stretch in self._module.memory)

    def _is_init(self, value: int) -> bool:
        """The start of init memory of a module whose load has not ended: `core` for kernels that tell no kinds."""
        starts = (part.start for part in self._module.memory if part.kind.startswith("init"))
        return self._module.state is ModuleState.COMING and value in starts

    def _init_pointers(self) -> frozenset[int]:
        """Where struct mod_initfree points to init memory: one pointer until 6.3, three since (kernel/module/main.c,
        ac3b43283923 "module: replace module_layout with module_memory")."""
        names = ("module_init", "init_text", "init_data", "init_rodata")
        return frozenset(
            at for name in names if (at := self._memory.find_offset("mod_initfree", name)) is not None
        )

    def _own(self, path: str, kind: str) -> tuple[int, int]:
        try:
            start = self._module.address + self._memory.offset("module", path)
            return start, start + self._memory.sizeof(kind)
        except LkmError:
            return 0, 0

    def _pointer(self, module: LoadedModule, path: str) -> int:
        try:
            value = self._memory.u64(module.address + self._memory.offset("module", path))
        except LkmError:
            return 0
        return value if is_kernel_pointer(value) else 0


def _module_fields(memory: KernelMemory) -> tuple[Range, ...]:
    """Where in a struct module such members are, as far as it has them."""
    return tuple(
        Range(start, start + memory.types.member_size("module", name), why)
        for name, why in _MODULE_FIELDS
        if memory.has("module", name)
        for start in (memory.offset("module", name),)
    )


def _ftrace_records(memory: KernelMemory) -> tuple[Range, ...]:
    """The pages of records of traced functions: ftrace_pages_start, struct ftrace_page (kernel/trace/ftrace.c)."""
    found: list[Range] = []
    try:
        node = memory.pointer(memory.symbol("ftrace_pages_start"))
        link, records = memory.offset("ftrace_page", "next"), memory.offset("ftrace_page", "records")
        # Records that were dropped again lie behind those in use
        order = memory.offset("ftrace_page", "order") if memory.has("ftrace_page", "order") else 0
        count, size = memory.offset("ftrace_page", "size", "index"), memory.sizeof("dyn_ftrace")
        for page in memory.chain(node, offset=link, what="ftrace_pages_start", limit=_MAX_PAGES):
            start = memory.u64(page + records)
            end = start + (_PAGE << memory.u32(page + order) if order else memory.u32(page + count) * size)
            found.append(Range(start, end, "ftrace_release_mod in delete_module"))
    except LkmError as error:
        memory.note_error("ftrace's records", error)
    return tuple(found)
