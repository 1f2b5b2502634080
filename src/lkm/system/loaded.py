# SPDX-License-Identifier: MIT
"""The loaded modules as the classic tools see them: /proc/modules for the names, sysfs for each one's facts.

Cheap to import (typing alone would cost 5 ms), and every file goes through open(2) and getdents(2). `sysfs` and
`proc` are where those are mounted. Reading /proc/modules takes module_mutex (`m_start`,
kernel/module/procfs.c, 6.1) and waits for as long as somebody holds it; sysfs takes no lock.
"""

from __future__ import annotations

import errno
import os

__all__ = [
    "LoadedModule",
    "initstate_of",
    "list_holders",
    "read_holders",
    "read_loaded",
    "read_loaded_names",
    "read_refcnt",
]


class LoadedModule:
    """One loaded module.

    size     bytes: `coresize`
    refcnt   None where this kernel cannot unload modules, and counts nothing
    holders  the modules that need it
    state    live, coming or going
    taints   letters, such as OE

    What sysfs does not tell (any more), is as /proc/modules had it.
    """

    __slots__ = ("holders", "name", "refcnt", "size", "state", "taints")

    def __init__(
        self, name: str, *, size: int, refcnt: int | None, holders: list[str], state: str, taints: str
    ) -> None:
        self.name, self.size, self.refcnt = name, size, refcnt
        self.holders, self.state, self.taints = holders, state, taints


def read_loaded(proc: str = "/proc", sysfs: str = "/sys", *, full: bool = True) -> list[LoadedModule]:
    """The loaded modules, the latest first. OSError if there is no /proc/modules.

    A module may vanish while it is read: then its line of /proc/modules is all that is told of it. Without
    `full`, state and taints are from there in any case.
    """
    return [_read_module(fields, sysfs, full=full) for fields in _read_lines(proc)]


def read_loaded_names(proc: str = "/proc") -> list[str]:
    """Their names alone, from /proc/modules. OSError if there is none."""
    return [fields[0] for fields in _read_lines(proc)]


def _read_lines(proc: str) -> list[list[str]]:
    with open(f"{proc}/modules", "rb", buffering=0) as file:
        data = file.readall()
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [fields for fields in map(str.split, lines) if fields]


_STATES = {"Live": "live", "Loading": "coming", "Unloading": "going"}


def _read_module(fields: list[str], sysfs: str, *, full: bool) -> LoadedModule:
    """Completed by what the line says; a line may lack its last fields (2.6 kernels, fakes)."""
    name, size, refcnt, users, state, _address, taints = (*fields, *("",) * 7)[:7]
    top = f"{sysfs}/module/{name}"
    coresize = _read_number(f"{top}/coresize")
    count = _read_number(f"{top}/refcnt")
    if coresize is None:
        coresize = int(size) if size.isdecimal() else 0
    here = count is not None or os.path.isdir(top)
    if not here:
        count = int(refcnt) if refcnt.lstrip("-").isdecimal() else None
    holders = list_holders(name, sysfs) if here else None
    if holders is None:
        holders = [user for user in users.split(",") if user and user not in {"-", "[permanent]"}]
    now = (_read(f"{top}/initstate") if full else None) or _STATES.get(state, state.lower())
    marks = _read(f"{top}/taint") if full else None
    return LoadedModule(
        name,
        size=coresize,
        refcnt=count,
        holders=holders,
        state=now,
        taints=taints.strip("()+-") if marks is None else marks,
    )


def initstate_of(name: str, sysfs: str = "/sys") -> str:
    """`live`, `coming` or `going`; "" for a module that is not loaded.

    A module's folder is there before its `initstate` is (`mod_sysfs_setup`, kernel/module/sysfs.c, 6.1), so a
    folder without one is `coming`. Built-in modules with parameters have such a folder too: who looks at them
    asks modules.builtin first. OSError if a file that is there cannot be read.
    """
    path = f"{sysfs}/module/{name}"
    try:
        with open(f"{path}/initstate", "rb", buffering=0) as file:
            return file.readall().decode("ascii", "replace").strip()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR):
            raise
    return "coming" if os.path.isdir(path) else ""


def read_refcnt(name: str, sysfs: str = "/sys") -> int | None:
    """The reference count, None where there is none: the module is gone, or the kernel cannot unload."""
    return _read_number(f"{sysfs}/module/{name}/refcnt")


def list_holders(name: str, sysfs: str = "/sys") -> list[str] | None:
    """The modules that need this one, in the order of the folder; None if that cannot be listed."""
    try:
        return read_holders(name, sysfs)
    except OSError:
        return None


def read_holders(name: str, sysfs: str = "/sys") -> list[str]:
    """The same; OSError if the folder cannot be listed."""
    return os.listdir(f"{sysfs}/module/{name}/holders")


def _read(path: str) -> str | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8", "surrogateescape").strip()
    except OSError:
        return None


def _read_number(path: str) -> int | None:
    text = _read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
