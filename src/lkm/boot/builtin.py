# SPDX-License-Identifier: MIT
"""What is built into a kernel, as its module tree says it: modules.builtin and modules.builtin.modinfo."""

from __future__ import annotations

import os
from typing import NamedTuple

from lkm.formats.builtin_modinfo import parse_builtin_modinfo
from lkm.names import ModuleName, module_name_from_path
from lkm.root import Root
from lkm.system.files import read_bytes

__all__ = ["Builtin", "Parameter", "read_builtins"]


class Parameter(NamedTuple):
    """A parameter of built-in code: on the kernel's command line it is `MODULE.NAME=`."""

    name: str
    type: str
    description: str


class Builtin(NamedTuple):
    """One built-in module. `path` as in modules.builtin, "" for code that no Kconfig offers as a module; `info`
    all that its modinfo says, in file order."""

    name: ModuleName
    path: str
    parameters: tuple[Parameter, ...]
    info: tuple[tuple[str, str], ...]

    def values(self, key: str) -> tuple[str, ...]:
        """The values of one key of its modinfo: `license`, `description`, `author`, `alias`."""
        return tuple(value for name, value in self.info if name == key)


def read_builtins(root: Root) -> dict[ModuleName, Builtin]:
    """Everything built in by its name: those of modules.builtin in its order, which is that of the link."""
    names = read_bytes(os.path.join(root.modules_dir, "modules.builtin")) or b""
    infos = parse_builtin_modinfo(
        read_bytes(os.path.join(root.modules_dir, "modules.builtin.modinfo")) or b""
    )
    paths = {module_name_from_path(line): line for line in os.fsdecode(names).split()}
    found: dict[ModuleName, Builtin] = {}
    for name in (*paths, *(ModuleName(each) for each in infos if each not in paths)):
        info = infos.get(name, ())
        found[name] = Builtin(name, paths.get(name, ""), _parameters(info), info)
    return found


def _parameters(info: tuple[tuple[str, str], ...]) -> tuple[Parameter, ...]:
    """`parmtype=name:type` has them all, `parm=name:description` those that are described."""
    types = dict(value.split(":", 1) for key, value in info if key == "parmtype" and ":" in value)
    texts = dict(value.split(":", 1) for key, value in info if key == "parm" and ":" in value)
    return tuple(Parameter(name, types.get(name, ""), texts.get(name, "")) for name in {**types, **texts})
