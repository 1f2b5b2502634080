# SPDX-License-Identifier: MIT
"""`ModuleName`: a module's name in the one form that the kernel uses."""

from __future__ import annotations

import os
from typing import NewType

__all__ = ["MAX_NAME", "NAME_OFFSET", "NAME_SIZE", "ModuleName", "module_name", "module_name_from_path"]

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
