# SPDX-License-Identifier: MIT
"""`ModuleName`: a module's name in the one form that the kernel uses."""

from __future__ import annotations

import os
import re
from typing import NewType

__all__ = [
    "MAX_NAME",
    "NAME_OFFSET",
    "NAME_SIZE",
    "ModuleName",
    "module_name",
    "module_name_from_path",
    "quarantine_name",
    "quarantine_number",
]

ModuleName = NewType("ModuleName", str)

NAME_SIZE = 56
"""Bytes of a name with its NUL on 64-bit kernels: MODULE_NAME_LEN, 64 - sizeof(unsigned long)."""

MAX_NAME = NAME_SIZE - 1
"""Longest name, in bytes."""

NAME_OFFSET = 24
"""Of `struct module.name` on 64-bit kernels: after `state` (padded to 8) and `list` (16)."""


def module_name(text: str) -> ModuleName:
    """The name with every `-` as `_`, as modpost and kmod write it."""
    return ModuleName(text.replace("-", "_"))


def module_name_from_path(path: str) -> ModuleName:
    """The name that a file `…/NAME.ko[.gz|.xz|.zst]` stands for; only its own `.modinfo` is decisive."""
    return module_name(os.path.basename(path).split(".ko", 1)[0])


_QUARANTINED = re.compile(r".+\.dead([1-9][0-9]*)", re.DOTALL)


def quarantine_name(name: ModuleName, number: int) -> ModuleName:
    """What a module is called once its name is released: `NAME.dead1`; a long name is cut to what fits.

    No build makes such a name: it is a C identifier, which has no dot.
    """
    suffix = f".dead{number}"
    kept = name.encode()[: MAX_NAME - len(suffix)].decode(errors="ignore")
    return ModuleName(kept + suffix)


def quarantine_number(name: str) -> int:
    """The number in such a name; 0: it is none."""
    match = _QUARANTINED.fullmatch(name)
    return int(match.group(1)) if match else 0
