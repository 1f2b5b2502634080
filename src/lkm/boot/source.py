# SPDX-License-Identifier: MIT
"""Where a kernel's initcalls are read: /proc/kallsyms of the running one, or an image in /boot."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from lkm.boot.builtin import read_builtins
from lkm.boot.image import initcalls_of_image
from lkm.boot.initcall import Initcall, Level
from lkm.boot.modules_of import with_modules
from lkm.boot.symbols import BootSymbol, initcalls_of_symbols
from lkm.errors import LkmError, NeedsRoot
from lkm.formats.kernel_image import parse_kernel_image
from lkm.root import Root
from lkm.system.files import read_bytes, read_text
from lkm.system.image_paths import image_paths

__all__ = ["InitcallTable", "find_initcalls", "is_running", "read_image_initcalls", "read_initcalls"]

IMAGE_LIMIT = 1 << 28
_BANNER = re.compile(rb"Linux version (\d\S*) \(")
"""`linux_banner` (init/version.c): the release."""


class InitcallTable(NamedTuple):
    """A kernel's initcalls. `source` is the file that they come from, `note` what is missing, or ""."""

    release: str
    source: str
    initcalls: tuple[Initcall, ...]
    note: str = ""


def is_running(root: Root) -> bool:
    """Whether `root.release` is the kernel that /proc and /sys below `root` are of; true where there is no /proc."""
    return read_text(root.join("/proc/sys/kernel/osrelease")) in (None, root.release)


def read_initcalls(root: Root, *, running: bool = True) -> InitcallTable:
    """The initcalls of the kernel `root.release`, by /proc/kallsyms if it is the one that is `running`.

    /proc/kallsyms needs no root for them: it hides addresses and keeps their order. A kernel without
    CONFIG_KALLSYMS_ALL has none in it; then its image says them. LkmError where neither does.
    """
    if running:
        data = read_bytes(root.join("/proc/kallsyms"))
        calls = initcalls_of_symbols(_symbols(data or b""))
        if any(call.level is Level.EARLY for call in calls):
            note = "" if any(call.entry for call in calls) else "addresses are hidden: root would see them"
            return _complete(root, "/proc/kallsyms", calls, note)
    for path in image_paths(root):
        if os.path.exists(path):
            return read_image_initcalls(root, path)
    why = "has no variables (CONFIG_KALLSYMS_ALL)" if running else "is of another kernel"
    raise LkmError(
        f"no initcalls of {root.release}: /proc/kallsyms {why}, and there is no image {image_paths(root)[0]}",
        remedy="--image FILE names one",
    )


def find_initcalls(
    root: Root, table: InitcallTable | None, *, running: bool
) -> tuple[tuple[Initcall, ...], str]:
    """Those of `table` if there is one, else what `read_initcalls` finds; and why there are none, or ""."""
    try:
        return (table or read_initcalls(root, running=running)).initcalls, ""
    except LkmError as error:
        return (), str(error)


def read_image_initcalls(root: Root, path: str) -> InitcallTable:
    """The initcalls of the image `path`; modules that it does not name, by the tree of its release."""
    data = read_bytes(path, IMAGE_LIMIT)
    if data is None:
        kind = NeedsRoot if os.path.exists(path) and not os.access(path, os.R_OK) else LkmError
        raise kind(f"{path} cannot be read", remedy="run it as root" if kind is NeedsRoot else "")
    image = parse_kernel_image(data, name=path)
    calls = initcalls_of_image(image)
    banner = _BANNER.search(image.data)
    if banner:
        root = root._replace(release=banner[1].decode("ascii", "replace"))
    note = ""
    if any(call.sync is None for call in calls):
        note = "its symbols are functions only: which initcalls are synchronous, and security modules, are not told"
    return _complete(root, path, calls, note)


def _complete(root: Root, source: str, calls: list[Initcall], note: str) -> InitcallTable:
    if any(not call.module for call in calls):
        names = [builtin.name for builtin in read_builtins(root).values() if builtin.path]
        calls = with_modules(calls, names)
    return InitcallTable(root.release, source, tuple(calls), note)


def _symbols(data: bytes) -> list[BootSymbol]:
    """What /proc/kallsyms has of initcalls: their variables, security modules, and the functions by their names.

    Lines of modules, which end in their name, do not match. Two passes of the regular expressions' engine and
    not a loop over 200,000 lines: on a slow machine that is the difference between one second and ten.
    """
    found = [_symbol(*row) for row in _VARIABLE.findall(data)]
    if any(symbol.address for symbol in found):
        names = {name for symbol in found for name in _function_names(symbol.name)}
        rows = (row for row in _FUNCTION.findall(data) if row[2] in names)
        found += [_symbol(*row) for row in rows]
    return found


_VARIABLE = re.compile(rb"^([0-9a-f]+) ([dDrR]) (__(?:initcall|lsm|early_lsm)_[^\s]+)$", re.MULTILINE)
_FUNCTION = re.compile(rb"^([0-9a-f]+) ([tTwW]) ([^\s]+)$", re.MULTILINE)


def _symbol(address: bytes, kind: bytes, name: bytes) -> BootSymbol:
    return BootSymbol(int(address, 16), kind.decode("ascii"), name.decode("utf-8", "replace"))


def _function_names(variable: str) -> tuple[bytes, ...]:
    """The functions that a variable's name may end with."""
    return tuple(call.function.encode() for call in initcalls_of_symbols([BootSymbol(0, "d", variable)]))
