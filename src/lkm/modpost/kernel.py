# SPDX-License-Identifier: MIT
"""What is known of the kernel that a module is made for: one of its own modules, and who exports what."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from lkm.errors import LkmError, UsageError
from lkm.formats.compression import decompress
from lkm.formats.elf import is_elf
from lkm.formats.module import ModuleFile, parse_module
from lkm.formats.symvers import Symvers
from lkm.preflight.kernel import Exports, KernelExport, Providers
from lkm.preflight.read import read_sibling, read_target
from lkm.preflight.rules import Rules, parse_version, rules_for
from lkm.root import Root
from lkm.system.files import read_bytes
from lkm.tree.tree import Tree

__all__ = ["Kernel", "read_kernel"]


class Kernel(NamedTuple):
    """A kernel to make modules for.

    release   `uname -r`
    sibling   one of its own modules, to go by
    exports   who exports what; `owner` is a module's name as its file has it, "" for the kernel itself
    sources   where exports are known from, in words
    config    CONFIG_… → value; empty: unknown
    """

    release: str
    sibling: ModuleFile
    exports: Exports
    sources: tuple[str, ...] = ()
    config: Mapping[str, str] = {}

    @property
    def version(self) -> tuple[int, int]:
        """(6, 1) of 6.1.0-56-amd64."""
        return parse_version(self.release)

    @property
    def rules(self) -> Rules:
        """How this release judges modules."""
        return rules_for(self.release)

    @property
    def modversions(self) -> bool:
        """Whether it compares CRCs (CONFIG_MODVERSIONS), as its own module has it."""
        return self.sibling.versions is not None

    def option(self, name: str) -> bool:
        """Whether a `CONFIG_` option is known to be on."""
        return self.config.get(f"CONFIG_{name}") == "y"


class _Exports:
    """The kernel's own exports, then those of modules that were named, then those of its tree."""

    def __init__(self, known: Exports, named: Mapping[str, KernelExport], tree: Tree) -> None:
        self._known = known
        self._named = named
        self._tree = tree

    def find(self, name: str) -> Optional[KernelExport]:
        """Who exports `name`."""
        found = self._known.find(name)
        if found is not None and not found.owner:
            return found
        if name in self._named:
            return self._named[name]
        return found._replace(owner=self._file_name(found.owner)) if found else None

    def _file_name(self, owner: str) -> str:
        """The module as its file is called: modpost writes `depends` that way."""
        path = self._tree.path(owner)
        return os.path.basename(path).split(".ko", 1)[0] if path else owner


def read_kernel(root: Root, *, live: bool, symvers: str = "", others: Sequence[str] = ()) -> Kernel:
    """What can be told of the kernel `root.release`; `live`: it is the one that runs.

    symvers  a Module.symvers to take the kernel's exports from
    others   further modules (.ko), or a Module.symvers that has them (kbuild's KBUILD_EXTRA_SYMBOLS)

    UsageError for a release or a file that is not there, LkmError where there is no module of it to go by, or its
    exports are unknown.
    """
    target = read_target(root, live=live, providers=Providers.ON_DISK, symvers=symvers)
    sibling = read_sibling(root, live=live)
    if target.exports is None:
        raise LkmError(
            f"what {root.release} exports is not known: neither its image nor a Module.symvers can be read",
            remedy="name one with --symvers, as its headers have it",
        )
    named: dict[str, KernelExport] = {}
    for path in others:
        named.update((export.name, export) for export in _read_exports(path))
    exports = _Exports(target.exports, named, Tree(root))
    return Kernel(root.release, sibling, exports, (*target.sources, *others), target.config)


def _read_exports(path: str) -> Iterable[KernelExport]:
    """The exports in a module file or a Module.symvers, that of the kernel itself left out."""
    data = read_bytes(path)
    if data is None:
        raise UsageError(f"{path} cannot be read", remedy="--with names a module (.ko) or a Module.symvers")
    data = decompress(data, name=path)
    if is_elf(data):
        owner = os.path.basename(path).split(".ko", 1)[0]
        found = parse_module(data, name=path).exports
        return [KernelExport(e.name, e.gpl, e.crc, e.namespace, owner) for e in found]
    rows = [row for row in Symvers(data) if row.module != "vmlinux"]
    if not rows and data.strip():
        raise UsageError(
            f"{path} is neither a module nor a Module.symvers with modules in it",
            remedy="--with names the module that has the symbols, or the Module.symvers of its build",
        )
    return [KernelExport(r.name, r.gpl, r.crc, r.namespace, os.path.basename(r.module)) for r in rows]
