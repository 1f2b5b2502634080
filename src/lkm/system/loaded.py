# SPDX-License-Identifier: MIT
"""The loaded modules as the classic tools see them: /proc/modules for the names, sysfs for each one's facts.

Cheap to import (typing alone would cost 5 ms), and every file goes through open(2) and getdents(2). `sysfs` and
`proc` are where those are mounted. Reading /proc/modules takes module_mutex (`m_start`,
kernel/module/procfs.c, 6.1) and waits for as long as somebody holds it; sysfs takes no lock.
"""

from __future__ import annotations

import os

from lkm.system.module_state import read_attribute, read_holders, read_refcnt

__all__ = ["LoadedModule", "read_loaded"]


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
    count = read_refcnt(name, sysfs)
    if coresize is None:
        coresize = int(size) if size.isdecimal() else 0
    here = count is not None or os.path.isdir(top)
    if not here:
        count = int(refcnt) if refcnt.lstrip("-").isdecimal() else None
    # A module that nothing uses has no holders: looking for them costs as much as all the rest.
    holders = read_holders(name, sysfs) if here and (count or users != "-") else []
    if not here:
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


def _read(path: str) -> str | None:
    text = read_attribute(path)
    return None if text is None else text.strip()


def _read_number(path: str) -> int | None:
    text = read_attribute(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
