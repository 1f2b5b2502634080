# SPDX-License-Identifier: MIT
"""Gathers what is known of a kernel: the running one, another one that is installed, or a tree on disk."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Optional

from lkm.errors import LkmError, ParseError, UsageError
from lkm.formats.command_line import parse_module_blacklist
from lkm.formats.module import ModuleFile, parse_module
from lkm.formats.pkcs7 import signer_of
from lkm.preflight.certificates import verifier
from lkm.preflight.kernel import Loaded, Machine, Providers, StructModule, Target
from lkm.preflight.sources import (
    KernelTable,
    TreeExports,
    read_banner,
    read_image_table,
    read_memory_table,
    read_symvers_table,
    refuses_missing_versions,
)
from lkm.root import Root
from lkm.system.config import read_config
from lkm.system.files import list_directory, read_bytes, read_text
from lkm.system.module_files import module_paths
from lkm.tree.tree import Tree

if TYPE_CHECKING:
    from lkm.system.snapshot import LoadedModule

__all__ = ["find_releases", "read_sibling", "read_target"]

_MACHINES = {"x86_64": 62, "aarch64": 183}
_TRIES = 24
"""Files that are opened at most: one good one is enough."""


def find_releases(root: Root) -> list[str]:
    """The kernels that have a module tree below `root`."""
    base = root.join("/lib/modules")
    return [name for name in list_directory(base) if os.path.isdir(os.path.join(base, name, "kernel"))]


def read_target(
    root: Root, *, live: bool, providers: Providers, symvers: str = "", certificates: tuple[bytes, ...] = ()
) -> Target:
    """What can be told of the kernel `root.release`; `live`: it is the one that runs.

    `symvers` names a Module.symvers to go by, `certificates` (DER) are trusted beside those in the kernel's image.
    UsageError for a release that has no tree.
    """
    if not os.path.isdir(root.modules_dir) and not live:
        known = ", ".join(find_releases(root))
        raise UsageError(
            f"{root.modules_dir} does not exist",
            remedy=f"there are {known}" if known else "install that kernel",
        )
    loaded = _read_loaded(root) if live else ()
    sibling = _read_sibling(root, loaded) if live else _first_module(root)
    config = read_config(root)
    modversions = config.get("CONFIG_MODVERSIONS") == "y" if config else _has_versions(sibling)
    table = _kernel_table(root, live=live, symvers=symvers, modversions=modversions)
    exports = TreeExports(table, Tree(root), modversions=modversions) if table else None
    trusted = (*(table.certificates if table else ()), *certificates)
    names = {module.name for module in loaded}
    banner = read_banner(root) if live else table.banner if table else ""
    return Target(
        release=root.release,
        machine=sibling.machine if sibling else _MACHINES.get(os.uname().machine, 0),
        vermagic=sibling.vermagic if sibling else None,
        struct_module=_struct_module(sibling),
        config=config,
        exports=exports,
        sources=(table.source, f"the modules below {root.modules_dir}") if table else (),
        loaded={module.name: _loaded(module) for module in loaded},
        sysfs_names=frozenset(list_directory(root.join("/sys/module"))) - names if live else frozenset(),
        signers=_signers(sibling),
        verify=verifier(trusted) if trusted else None,
        strict_versions=refuses_missing_versions(banner),
        policy=_machine(root) if live else Machine(),
        providers=providers,
    )


def read_sibling(root: Root, *, live: bool) -> ModuleFile:
    """A module of the kernel `root.release` to go by; LkmError, with what to do, where there is none."""
    from lkm.system.siblings import find_sibling

    found = find_sibling(root, _read_loaded(root) if live else ())
    if found.sibling is None:
        raise LkmError(f"no module of {root.release} to go by: {found.error}")
    return parse_module(read_bytes(found.sibling.path) or b"", name=found.sibling.path)


def _kernel_table(root: Root, *, live: bool, symvers: str, modversions: bool) -> Optional[KernelTable]:
    """The first source that is there: a file that was named, the image, the memory, Module.symvers."""
    if symvers:
        found = read_symvers_table(root, symvers, modversions=modversions)
        if found is None:
            raise UsageError(f"{symvers} is no Module.symvers that can be read")
        return found
    found = read_image_table(root, banner=read_banner(root) if live else "")
    if found is None and live:
        found = read_memory_table(root)
    return found or read_symvers_table(root, modversions=modversions)


def _read_loaded(root: Root) -> tuple[LoadedModule, ...]:
    from lkm.system.modules import read_modules

    return read_modules(root)[0]


def _read_sibling(root: Root, loaded: tuple[LoadedModule, ...]) -> Optional[ModuleFile]:
    """A module file of the running kernel, to go by."""
    from lkm.system.siblings import find_sibling

    found = find_sibling(root, loaded).sibling
    return _parse(found.path) if found else None


def _first_module(root: Root) -> Optional[ModuleFile]:
    """As `_read_sibling`, of a kernel that does not run: there is nothing to compare with."""
    for path in islice(module_paths(root), _TRIES):
        module = _parse(path)
        if module and module.intree and module.release == root.release and _has_both(module):
            return module
    return None


def _has_both(module: ModuleFile) -> bool:
    """Whether it tells where init and exit stand."""
    this = module.this_module
    return this.init_offset is not None and this.exit_offset is not None


def _parse(path: str) -> Optional[ModuleFile]:
    try:
        return parse_module(read_bytes(path) or b"", name=path)
    except ParseError:
        return None


def _has_versions(sibling: Optional[ModuleFile]) -> bool:
    return sibling is not None and sibling.versions is not None


def _struct_module(sibling: Optional[ModuleFile]) -> Optional[StructModule]:
    if sibling is None:
        return None
    this = sibling.this_module
    return StructModule(this.size, this.init_offset, this.exit_offset)


def _signers(sibling: Optional[ModuleFile]) -> frozenset[bytes]:
    signer = signer_of(sibling.signature.signature) if sibling and sibling.signature else None
    return frozenset({signer}) if signer else frozenset()


def _loaded(module: LoadedModule) -> Loaded:
    return Loaded(module.state.value, "P" in module.taints)


def _machine(root: Root) -> Machine:
    from lkm.system.policy import read_policy

    policy = read_policy(root)
    return Machine(
        cap_sys_module=policy.cap_sys_module,
        modules_disabled=policy.modules_disabled,
        lockdown=policy.lockdown,
        sig_enforce=policy.sig_enforce,
        blacklist=_blacklist(root),
    )


def _blacklist(root: Root) -> Optional[tuple[str, ...]]:
    """module_blacklist= of the command line: the last one counts; None if it cannot be read."""
    text = read_text(root.join("/proc/cmdline"))
    if text is None:
        return None
    return parse_module_blacklist(text)
