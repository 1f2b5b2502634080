# SPDX-License-Identifier: MIT
"""The loaded modules as /sys/module and /proc/modules tell of them, in a form that is cheap to import.

sysfs is asked without any lock; /proc/modules takes module_mutex (`m_start`, kernel/module/procfs.c, 6.1), so
it is read by a child with a deadline. Each knows something that the other does not.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple, Optional

from lkm.formats.procmodules import ProcModule, parse_proc_modules
from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.child import run_in_child
from lkm.system.files import list_directory, read_number, read_text

__all__ = ["ModuleRow", "ModuleRows", "has_loadable_modules", "read_module_rows"]

PROC_SECONDS = 2.0
"""How long /proc/modules may take: module_mutex is held for milliseconds while anything is well."""


class ModuleRow(NamedTuple):
    """One module. Fields as in `lkm.system.snapshot.LoadedModule`; `state` is that of initstate.

    `base` is the address of its code that /proc/modules shows, 0 if hidden.
    """

    name: ModuleName
    state: str
    refcnt: Optional[int]
    size: int
    holders: tuple[ModuleName, ...]
    permanent: Optional[bool]
    taints: str
    base: int
    in_sysfs: bool
    in_proc: bool


class ModuleRows(NamedTuple):
    """All modules, the newest first where /proc/modules could be read.

    `proc_error` says why it could not; `loadable` is whether this kernel has loadable modules at all, None
    where /proc is not there to tell.
    """

    rows: tuple[ModuleRow, ...]
    proc_error: str
    loadable: Optional[bool]


def has_loadable_modules(root: Root) -> Optional[bool]:
    """Whether the kernel has CONFIG_MODULES: then /proc/modules exists. None without a /proc.

    The look at the name takes no lock.
    """
    if os.path.exists(root.join("/proc/modules")):
        return True
    return (
        False if os.path.exists(root.join("/proc/self")) or os.path.exists(root.join("/proc/stat")) else None
    )


def read_module_rows(root: Root, *, seconds: float = PROC_SECONDS) -> ModuleRows:
    """Read both, and once more if they differ: a module may have come or gone in between.

    What differs twice is told as it is: a module without sysfs entry (its load died early) or one that
    /proc/modules does not show.
    """
    loadable = has_loadable_modules(root)
    for attempt in (1, 2):
        in_proc, error = _read_proc(root, seconds) if loadable else ({}, "")
        in_sysfs = _read_sysfs(root, in_proc)
        if error or not loadable or attempt == 2 or set(in_proc) == set(in_sysfs):
            break
        time.sleep(0.02)
    names = [*in_proc, *sorted(set(in_sysfs) - set(in_proc))]
    listed = bool(loadable and not error)
    sections = os.path.exists(root.join("/proc/kallsyms"))
    rows = tuple(
        _merge(root, name, in_proc.get(name), in_sysfs.get(name), listed=listed, sections=sections)
        for name in names
    )
    return ModuleRows(rows, error, loadable)


def _read_proc(root: Root, seconds: float) -> tuple[dict[ModuleName, ProcModule], str]:
    path = root.join("/proc/modules")

    def read() -> str:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read()

    result = run_in_child(read, seconds=seconds, name="lkm-modules")
    if result.timed_out:
        return {}, f"module_mutex is held: /proc/modules did not answer in {seconds:g} s"
    if not result.ok:
        return {}, f"/proc/modules could not be read: {result.error}"
    try:
        return {module.name: module for module in parse_proc_modules(result.value)}, ""
    except ValueError as error:
        return {}, f"/proc/modules could not be read: {error}"


def _read_sysfs(root: Root, known: dict[ModuleName, ProcModule]) -> dict[ModuleName, str]:
    """initstate by name. Built-in modules have no such file; one that vanishes while it is read has none."""
    found = {}
    for entry in list_directory(root.join("/sys/module")):
        state = read_text(root.join(f"/sys/module/{entry}/initstate"))
        if state:
            found[module_name(entry)] = state
        elif state == "" and module_name(entry) in known:
            found[module_name(entry)] = _state(known[module_name(entry)])
    return found


def _state(proc: ProcModule) -> str:
    """As initstate has it."""
    return proc.state.name.lower()


def _merge(
    root: Root,
    name: ModuleName,
    proc: Optional[ProcModule],
    state: Optional[str],
    *,
    listed: bool,
    sections: bool,
) -> ModuleRow:
    """What sysfs says, completed by /proc/modules; the size is that of /proc/modules, as lsmod has it.

    `listed`: /proc/modules was read, so a module that it lacks is not in the kernel's list. `sections`: a whole
    module has them in sysfs; without CONFIG_KALLSYMS none has.
    """
    base = root.join(f"/sys/module/{name}")
    present = state is not None and (not sections or os.path.exists(f"{base}/sections"))
    refcnt = read_number(f"{base}/refcnt") if state is not None else None
    taints = read_text(f"{base}/taint") if state is not None else None
    holders = tuple(module_name(entry) for entry in list_directory(f"{base}/holders"))
    if proc is None:
        return ModuleRow(
            name=name,
            state=state or "",
            refcnt=refcnt,
            size=read_number(f"{base}/coresize") or 0,
            holders=holders,
            permanent=None,
            taints=taints or "",
            base=0,
            in_sysfs=present,
            in_proc=not listed,
        )
    return ModuleRow(
        name=name,
        state=state or _state(proc),
        refcnt=proc.refcnt if refcnt is None else refcnt,
        size=proc.size,
        holders=holders or proc.users,
        permanent=proc.permanent,
        taints=proc.taints.strip("+-") if taints is None else taints,
        base=proc.address,
        in_sysfs=present,
        in_proc=True,
    )
