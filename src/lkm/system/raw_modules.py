# SPDX-License-Identifier: MIT
"""Loaded modules as kernel memory has them: raw fields, exact memory ranges, and those that /proc leaves out.

Source: the list `modules` (kernel/module.c in 5.10, kernel/module/main.c since 5.19); struct module_layout
`core_layout`, `init_layout` until 6.3; struct module_memory `mem[]` since 6.4 (ac3b43283923 "module: replace
module_layout with module_memory"). /proc/modules and find_module skip UNFORMED modules: only the list has
them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.names import MAX_NAME, ModuleName
from lkm.root import Root
from lkm.system.files import list_directory, read_number
from lkm.system.kcore import KcoreError
from lkm.system.layout import read_raw
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.snapshot import Layout, LoadedModule, MemoryRange, ModuleState, RawModule

__all__ = ["sections_memory", "with_raw"]

_NAME = re.compile(rf"[!-\[\]-~]{{1,{MAX_NAME}}}")  # printable, and no escape of what is not UTF-8
_LIST = "the list of modules"
_MAX_MODULES = 4096
_MAX_RANGE = 1 << 28
_PAGE = 4096


class _Found(NamedTuple):
    address: int
    raw: RawModule


def with_raw(
    memory: KernelMemory, layout: Layout, modules: Iterable[LoadedModule], *, root: Optional[Root] = None
) -> tuple[LoadedModule, ...]:
    """These modules with `raw`, `address`, `memory` and `permanent` filled in, then those of the list alone.

    `root` is where /sys/module is read for these; without it, what memory cannot tell stays as it was. Never
    raises: what could not be read is in `memory.notes`.
    """
    given = tuple(modules)
    listed = _walk(memory, layout, given)
    found = [_complete(memory, layout, root, module, listed.pop(module.name, None)) for module in given]
    for name, entry in listed.items():
        found.append(_unlisted(memory, root, name, entry))
    return tuple(found)


def _walk(memory: KernelMemory, layout: Layout, given: Iterable[LoadedModule]) -> dict[ModuleName, _Found]:
    """The kernel's list by name. A node whose name is not printable is no module, and the list ends there."""
    found: dict[ModuleName, _Found] = {}
    try:
        nodes, head_among = _nodes(memory, layout, given)
    except LkmError as error:
        memory.note_error(_LIST, error)
        return found
    for node in nodes:
        address = node - layout.list
        try:
            raw = read_raw(memory, layout, address)
            complaint = "" if _NAME.fullmatch(raw.name) else f"{raw.name!r} at {address:#x} is no name"
        except LkmError as error:
            complaint = str(error)
        if not complaint:
            found.setdefault(ModuleName(raw.name), _Found(address, raw))
        elif head_among:
            head_among = False
        else:
            memory.note(f"{_LIST}: {complaint}: the rest was not read")
            break
    return found


def _nodes(memory: KernelMemory, layout: Layout, given: Iterable[LoadedModule]) -> tuple[Iterable[int], bool]:
    """The nodes of the list `modules`, and whether its head is among them.

    Without CONFIG_KALLSYMS_ALL (Debian's arm64 6.1) it has no symbol. A ring can be entered anywhere: at a
    module that sysfs has the address of. The head is then the one node that is no module.
    """
    try:
        return memory.list_nodes(memory.symbol("modules"), what=_LIST, limit=_MAX_MODULES), False
    except KcoreError:
        known = next((module for module in given if _read_named(memory, layout, module)), None)
        if known is None:
            raise
        first = known.address + layout.list
        return chain([first], memory.list_nodes(first, what=_LIST, limit=_MAX_MODULES)), True


def _complete(
    memory: KernelMemory, layout: Layout, root: Optional[Root], module: LoadedModule, listed: Optional[_Found]
) -> LoadedModule:
    address, raw = listed or (module.address, _read_named(memory, layout, module))
    if raw is None:
        return _with_sections(root, module)
    permanent = module.permanent
    if permanent is None and raw.state == ModuleState.LIVE.number:
        permanent = bool(raw.init) and not raw.exit
    ranges = _ranges(memory, address)
    done = module._replace(address=address, raw=raw, permanent=permanent)
    return done._replace(memory=ranges) if ranges else _with_sections(root, done)


def _read_named(memory: KernelMemory, layout: Layout, module: LoadedModule) -> Optional[RawModule]:
    """The struct at the address that sysfs has told, if it is this module's."""
    if not module.address:
        return None
    try:
        raw = read_raw(memory, layout, module.address)
    except LkmError as error:
        memory.note(f"{module.name}: {error}")
        return None
    if raw.name == module.name:
        return raw
    memory.note(f"{module.name}: {module.address:#x} has the name {raw.name!r}")
    return None


def _unlisted(memory: KernelMemory, root: Optional[Root], name: ModuleName, entry: _Found) -> LoadedModule:
    """A module that was not given: UNFORMED, or loaded in between."""
    states = tuple(ModuleState)
    state = states[entry.raw.state] if entry.raw.state < len(states) else ModuleState.UNFORMED
    ranges = _ranges(memory, entry.address)
    return LoadedModule(
        name=name,
        state=state,
        refcnt=entry.raw.refcnt - 1,
        size=sum(stretch.size for stretch in ranges),
        address=entry.address,
        in_sysfs=root is not None and os.path.isdir(root.join(f"/sys/module/{name}/sections")),
        in_proc=state is not ModuleState.UNFORMED,
        memory=ranges,
        raw=entry.raw,
    )


def _ranges(memory: KernelMemory, address: int) -> tuple[MemoryRange, ...]:
    """The module's memory by its own struct; empty without BTF."""
    if not memory.has_types:
        return ()
    try:
        if memory.has("module", "mem"):
            return tuple(_module_memory(memory, address))
        return tuple(_module_layouts(memory, address))
    except LkmError as error:
        memory.note(f"the memory of the module at {address:#x}: {error}")
        return ()


def _module_memory(memory: KernelMemory, address: int) -> Iterable[MemoryRange]:
    """`mem[]`, since 6.4. A type that is not used has size 0, and so has init memory after init."""
    kinds = {
        value: name[len("MOD_") :].lower()
        for name, value in memory.types.enum("mod_mem_type").items()
        if value >= 0 and name.startswith("MOD_") and not name.endswith("_NUM_TYPES")
    }
    size = memory.sizeof("module_memory")
    start = address + memory.offset("module", "mem")
    for value, kind in sorted(kinds.items()):
        entry = start + value * size
        found = _range(
            memory.u64(entry + memory.offset("module_memory", "base")),
            memory.u32(entry + memory.offset("module_memory", "size")),
            kind,
        )
        if found:
            yield found


def _module_layouts(memory: KernelMemory, address: int) -> Iterable[MemoryRange]:
    """`core_layout` and `init_layout`, until 6.3."""
    base, size = memory.offset("module_layout", "base"), memory.offset("module_layout", "size")
    for kind in ("core", "init"):
        entry = address + memory.offset("module", f"{kind}_layout")
        found = _range(memory.u64(entry + base), memory.u32(entry + size), kind)
        if found:
            yield found


def _range(start: int, size: int, kind: str) -> Optional[MemoryRange]:
    if not size or size > _MAX_RANGE or not is_kernel_pointer(start):
        return None
    return MemoryRange(start, size, kind)


def _with_sections(root: Optional[Root], module: LoadedModule) -> LoadedModule:
    """Memory by /sys/module/X/sections, for a module that has none yet."""
    if module.memory or root is None:
        return module
    return module._replace(memory=sections_memory(root, module))


def sections_memory(root: Root, module: LoadedModule) -> tuple[MemoryRange, ...]:
    """What /sys/module/X/sections tells of a module's memory: the page of each section's start, merged.

    Sections have no sizes there, so this is a part of the memory. Those of init are left out: their addresses
    stay after the memory is freed.
    """
    directory = root.join(f"/sys/module/{module.name}/sections")
    starts = set()
    for name in list_directory(directory):
        start = None if name.startswith(".init") else read_number(os.path.join(directory, name))
        if start and is_kernel_pointer(start):
            starts.add(start // _PAGE * _PAGE)
    ranges: list[MemoryRange] = []
    for start in sorted(starts):
        if ranges and ranges[-1].start + ranges[-1].size == start:
            ranges[-1] = ranges[-1]._replace(size=ranges[-1].size + _PAGE)
        else:
            ranges.append(MemoryRange(start, _PAGE, "core"))
    return tuple(ranges)
