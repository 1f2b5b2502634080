# SPDX-License-Identifier: MIT
"""`ModuleName`: a module's name in the one form that the kernel uses."""

from __future__ import annotations

import os
from typing import NewType

__all__ = ["MAX_NAME", "ModuleName", "module_name", "module_name_from_path"]

ModuleName = NewType("ModuleName", str)

MAX_NAME = 55
"""Longest name on 64-bit kernels: MODULE_NAME_LEN (64 - sizeof(unsigned long)) less the NUL."""


def module_name(text: str) -> ModuleName:
    """The name with every `-` as `_`, as modpost and kmod write it."""
    return ModuleName(text.replace("-", "_"))


def module_name_from_path(path: str) -> ModuleName:
    """The name that a file `…/NAME.ko[.gz|.xz|.zst]` stands for; only its own `.modinfo` is decisive."""
    return module_name(os.path.basename(path).split(".ko", 1)[0])
