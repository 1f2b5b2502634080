# SPDX-License-Identifier: MIT
"""What has to be known of a kernel to assemble modules for it: one of its modules, its types, its CRCs.

Types are its own BTF, fetched once from a guest. What it exports is taken from what its own modules import.
All is kept in the cache.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lkm.errors import LabError
from lkm.formats.btf import Btf
from lkm.formats.module import ModuleFile, parse_module
from lkm.lab.cache import Progress, cache_dir, intact, locked, publish, silent, write_manifest
from lkm.lab.guest import Guest
from lkm.lab.kernels import Kernel
from lkm.lab.process import run_tool

__all__ = ["Target", "get_target"]

BTF = "/sys/kernel/btf/vmlinux"
FLAGS = "__kflagstab"
FILES = ("vmlinux.btf", "sibling.ko", "symbols.json")


class Target(NamedTuple):
    """A kernel to assemble for.

    `symbols` is what its modules import, with the CRC, 0 on a kernel without MODVERSIONS. `flagged` is whether its
    exports have flags instead of tables of their own for GPL-only symbols (`__kflagstab`, 7.x).
    """

    release: str
    sibling: ModuleFile
    btf: Btf
    symbols: Mapping[str, int]
    flagged: bool = False

    def has(self, symbol: str) -> bool:
        """Whether the kernel exports it."""
        return symbol in self.symbols

    def first(self, *names: str) -> str:
        """The first of these symbols that the kernel exports: names change between releases."""
        for name in names:
            if name in self.symbols:
                return name
        raise LabError(f"no module of {self.release} imports {' or '.join(names)}")


def get_target(kernel: Kernel, *, progress: Progress = silent) -> Target:
    """The target of a kernel, from the cache if it is there; else made, which starts a guest.

    Raises LabError where the kernel has no BTF or no module that will do as a sibling.
    """
    home = os.path.join(cache_dir("targets"), f"{kernel.release}-{kernel.version}")
    with locked(f"targets-{kernel.release}"):
        if not intact(home):
            progress(f"reading types and symbols of {kernel.release}")
            with publish(home) as scratch:
                _collect(kernel, scratch, progress)
                write_manifest(scratch, {"release": kernel.release}, names=FILES)
    btf, sibling, symbols = (_read(os.path.join(home, name)) for name in FILES)
    found = json.loads(symbols)
    return Target(
        release=kernel.release,
        sibling=parse_module(sibling, name=f"sibling of {kernel.release}"),
        btf=Btf(btf, name=f"BTF of {kernel.release}"),
        symbols=found["symbols"],
        flagged=found["flagged"],
    )


def _collect(kernel: Kernel, destination: str, progress: Progress) -> None:
    with Guest.clone(kernel.release, progress=progress) as guest:
        _write(os.path.join(destination, FILES[0]), guest.get(BTF))
    symbols: dict[str, int] = {}
    flagged = False
    sibling: ModuleFile | None = None
    with tempfile.TemporaryDirectory(prefix="modules-") as tree:
        run_tool(["debugfs", "-R", f"rdump / {tree}", kernel.file("modules.img")])
        for path in _module_paths(tree):
            module = parse_module(_read(path), name=os.path.basename(path))
            symbols.update(dict.fromkeys(module.imports, 0))
            symbols.update({version.name: version.crc for version in module.versions or ()})
            flagged = flagged or module.elf.section(FLAGS) is not None
            if _is_sibling(module, kernel.release) and (not sibling or _size(module) < _size(sibling)):
                sibling = module
    if sibling is None:
        raise LabError(f"no module of {kernel.release} has both an init and an exit function")
    _write(os.path.join(destination, FILES[1]), bytes(sibling.elf.data))
    facts = json.dumps({"symbols": dict(sorted(symbols.items())), "flagged": flagged})
    _write(os.path.join(destination, FILES[2]), facts.encode())


def _is_sibling(module: ModuleFile, release: str) -> bool:
    layout = module.this_module
    return module.release == release and None not in (layout.init_offset, layout.exit_offset)


def _size(module: ModuleFile) -> int:
    return len(module.elf.data)


def _module_paths(tree: str) -> Iterator[str]:
    for directory, subdirectories, names in os.walk(tree):
        subdirectories.sort()
        for name in sorted(names):
            if ".ko" in name:
                yield os.path.join(directory, name)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
