# SPDX-License-Identifier: MIT
"""`Initcall`: a function that the kernel calls once, at boot; and the levels in their order.

`module_init(f)` of built-in code is `device_initcall(f)` (include/linux/module.h), which puts the address of f
into a section; `do_initcalls` (init/main.c) calls what stands there, one level after the other.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple, Optional

from lkm.values import Address

__all__ = ["FIRST_OF_TABLE", "LEVELS", "Initcall", "Level", "level_of_suffix", "parse_level"]


class Level(enum.Enum):
    """When an initcall runs, in the order in which the kernel does it; named as its macro is.

    EARLY_SECURITY: `early_security_init`; CONSOLE: `console_init`; SECURITY: `security_init` (the order among
    security modules is that of `lsm=`); EARLY: `do_pre_smp_initcalls`; the others: `do_initcalls`. ROOTFS is
    called at the end of FS.
    """

    EARLY_SECURITY = "early-security"
    CONSOLE = "console"
    SECURITY = "security"
    EARLY = "early"
    PURE = "pure"
    CORE = "core"
    POSTCORE = "postcore"
    ARCH = "arch"
    SUBSYS = "subsys"
    FS = "fs"
    ROOTFS = "rootfs"
    DEVICE = "device"
    LATE = "late"


LEVELS = tuple(Level)

_SUFFIXES = {
    "con": Level.CONSOLE,
    "early": Level.EARLY,
    "0": Level.PURE,
    "1": Level.CORE,
    "2": Level.POSTCORE,
    "3": Level.ARCH,
    "4": Level.SUBSYS,
    "5": Level.FS,
    "rootfs": Level.ROOTFS,
    "6": Level.DEVICE,
    "7": Level.LATE,
}
_WITH_SYNC = frozenset(
    {Level.CORE, Level.POSTCORE, Level.ARCH, Level.SUBSYS, Level.FS, Level.DEVICE, Level.LATE}
)
"""That have a `…_initcall_sync` (include/linux/init.h)."""
SUFFIX = re.compile(r"(?P<level>con|early|rootfs|[0-7])(?P<sync>(?<=[0-7])s)?$")

FIRST_OF_TABLE = frozenset({Level.EARLY_SECURITY, Level.CONSOLE, Level.SECURITY})
"""Each a table of its own; the other levels share one."""


class Initcall(NamedTuple):
    """One of them.

    `order` counts from 1 in its table: the two of security modules, that of consoles, and the one of all other
    levels. `sync` is the `s` of `fs_initcall_sync`: at the end of its level; None where only the table is
    known and no name. `module` is "" where nothing tells it; `module_from` says what did: `symbol`, or `name`
    where it was concluded from names and order. `address` is that of the function, None if several have its
    name; `entry` that of its place in the table. `line` of the source, 0 if not known.
    """

    level: Level
    order: int
    function: str
    sync: Optional[bool] = False
    module: str = ""
    module_from: str = ""
    address: Optional[Address] = None
    entry: Optional[Address] = None
    line: int = 0

    @property
    def level_text(self) -> str:
        """The level as a table shows it: `fs`, `fs s`."""
        return f"{self.level.value} s" if self.sync else self.level.value


def level_of_suffix(suffix: str) -> tuple[Level, bool]:
    """The level of the end of a symbol (`6`, `7s`, `early`), and whether it is the synchronous one."""
    return _SUFFIXES[suffix.rstrip("s") if suffix[1:] == "s" else suffix], suffix[1:] == "s"


def parse_level(text: str) -> tuple[Level, Optional[bool]]:
    """What a user calls a level: `fs`, `5`, `fs_sync`, `5s`. Raises ValueError for anything else.

    The second is None where both the plain and the synchronous ones are meant.
    """
    name = text.lower().removesuffix("_initcall").replace("_initcall_sync", "_sync")
    stem = name.removesuffix("_sync")
    found: Optional[tuple[Level, bool]] = None
    if stem in {level.value for level in Level}:
        found = Level(stem), stem != name
    elif SUFFIX.fullmatch(name):
        found = level_of_suffix(name)
    if found and found[1] and found[0] not in _WITH_SYNC:
        raise ValueError(f"{text!r} is no level: {found[0].value} has no synchronous initcalls")
    if found:
        return found[0], found[1] or None
    raise ValueError(
        f"{text!r} is no level: {', '.join(level.value for level in Level)}, or 0 to 7, fs_sync or 5s"
    )
