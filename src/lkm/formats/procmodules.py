# SPDX-License-Identifier: MIT
"""`/proc/modules`: one line a loaded module.

    NAME SIZE REFCNT USERS STATE ADDRESS [(TAINTS)]

Source: `m_show` in the kernel's `kernel/module/procfs.c` and `print_unload_info` in `kernel/module/main.c`
(6.1).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.names import ModuleName, module_name

__all__ = ["ProcModule", "ProcModulesError", "ProcState", "parse_proc_modules"]

PERMANENT = "[permanent]"


class ProcModulesError(ParseError):
    """A line that is not one of `/proc/modules`."""


class ProcState(enum.Enum):
    """The state as `/proc/modules` writes it; UNFORMED modules are not listed."""

    LIVE = "Live"
    COMING = "Loading"
    GOING = "Unloading"


class ProcModule(NamedTuple):
    """One line. `refcnt` is None (written `-`) where the kernel cannot unload; -1 is a module in removal.

    `size` is in bytes. `users` are the modules that need this one. `permanent` is one with an init but no
    exit function. `address` is 0 where kptr_restrict hides it. `taints` is a string such as `OE`, with `+` or
    `-` for one that is coming or going.
    """

    name: ModuleName
    size: int
    refcnt: int | None
    users: tuple[ModuleName, ...]
    permanent: bool
    state: ProcState
    address: int
    taints: str


def parse_proc_modules(text: str) -> tuple[ProcModule, ...]:
    """The modules in the kernel's order, the latest load first. Raises `ProcModulesError`."""
    return tuple(_parse_line(line) for line in text.splitlines() if line.strip())


def _parse_line(line: str) -> ProcModule:
    fields = line.split()
    if len(fields) not in {6, 7}:
        raise ProcModulesError(f"/proc/modules: expected 6 or 7 fields, found {len(fields)}: {line!r}")
    name, size, refcnt, users, state, address = fields[:6]
    names = [] if users == "-" else [user for user in users.split(",") if user]
    try:
        return ProcModule(
            name=module_name(name),
            size=int(size),
            refcnt=None if refcnt == "-" else int(refcnt),
            users=tuple(module_name(user) for user in names if user != PERMANENT),
            permanent=PERMANENT in names,
            state=ProcState(state),
            address=int(address, 16),
            taints=fields[6].strip("()") if len(fields) == 7 else "",
        )
    except ValueError as error:
        raise ProcModulesError(f"/proc/modules: {error}: {line!r}") from error
