# SPDX-License-Identifier: MIT
"""The sibling: a module file that belongs to the running kernel, from which a helper can be made.

It tells the size of this kernel's struct module, where `init` and `exit` stand in it, the vermagic and the
CRC of `module_layout`. It must be in-tree, of this release and, where a loaded module of its name tells its
build-id (`/sys/module/X/notes/.note.gnu.build-id`, CONFIG_KALLSYMS), of this very build: a package that was
upgraded without a reboot leaves files of another build behind the same release.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError, ParseError
from lkm.formats.module import ModuleFile, parse_module
from lkm.names import module_name_from_path
from lkm.root import Root
from lkm.system.files import read_bytes
from lkm.system.module_files import module_paths
from lkm.system.snapshot import LoadedModule, ModuleState, Sibling

__all__ = ["SiblingReading", "find_sibling"]

_TRIES = 24
"""Files that are opened at most in each round: one good one is enough."""


class SiblingReading(NamedTuple):
    """A sibling, or why there is none and what to do."""

    sibling: Optional[Sibling]
    error: str = ""


def find_sibling(root: Root, modules: Iterable[LoadedModule]) -> SiblingReading:
    """A sibling for this kernel: a file of a loaded, healthy module of the same build, else any in-tree one.

    If files of loaded modules can be compared and none is of the running build, there is none.
    """
    if not os.path.isdir(root.modules_dir):
        return SiblingReading(None, f"/lib/modules/{root.release} does not exist; {_install(root)}")
    healthy = {m.name: m for m in modules if m.state is ModuleState.LIVE and "O" not in m.taints}
    paths = list(module_paths(root))
    named = (path for path in paths if module_name_from_path(path) in healthy)
    loaded = sorted(named, key=_size) if healthy else []
    others = (path for path in paths if module_name_from_path(path) not in healthy)
    problems: list[str] = []
    foreign: list[str] = []
    spare: Optional[Sibling] = None
    for sibling in _usable(root, loaded[:_TRIES], problems):
        running = healthy[sibling.name].build_id
        if running and sibling.build_id:
            if running == sibling.build_id:
                return SiblingReading(sibling._replace(build_matches=True))
            foreign.append(sibling.name)
        spare = spare or sibling
    if foreign:
        return SiblingReading(
            None,
            f"the files below /lib/modules/{root.release} are of another build than the running kernel"
            f" (build-id of {', '.join(foreign[:3])} differs); {_install(root, again=True)},"
            " or reboot into the kernel that they belong to",
        )
    spare = spare or next(_usable(root, _first(others), problems), None)
    if spare:
        return SiblingReading(spare)
    why = f" ({problems[0]})" if problems else ""
    return SiblingReading(
        None, f"no usable in-tree module below /lib/modules/{root.release}{why}; {_install(root)}"
    )


def _install(root: Root, *, again: bool = False) -> str:
    verb = "reinstall" if again else "install"
    return f"{verb} the package of the running kernel, such as linux-image-{root.release}"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _first(paths: Iterator[str]) -> Iterator[str]:
    return (path for path, _ in zip(paths, range(_TRIES)))


def _usable(root: Root, paths: Iterable[str], problems: list[str]) -> Iterator[Sibling]:
    """Those of the files that can be a sibling; `problems` gathers why the others cannot."""
    for path in paths:
        data = read_bytes(path)
        if data is None:
            problems.append(f"{path} cannot be read")
            continue
        try:
            module = parse_module(data, name=path)
        except (LkmError, ParseError) as error:
            problems.append(str(error))
            continue
        found = _sibling(path, module)
        if found is None:
            problems.append(f"{path} has no init or no exit function")
        elif not found.intree:
            problems.append(f"{path} is out-of-tree")
        elif module.release != root.release:
            problems.append(f"{path} is for {module.release or 'an unknown kernel'}")
        else:
            yield found


def _sibling(path: str, module: ModuleFile) -> Optional[Sibling]:
    """The file as a `Sibling` that nothing has been compared with; None without init and exit functions."""
    this = module.this_module
    if this.init_offset is None or this.exit_offset is None:
        return None
    versions = {version.name: version.crc for version in module.versions or ()}
    return Sibling(
        path=path,
        name=module.name,
        vermagic=module.vermagic,
        intree=module.intree,
        build_id=(module.build_id or b"").hex(),
        build_matches=None,
        size=this.size,
        init=this.init_offset,
        exit=this.exit_offset,
        crc=versions.get("module_layout"),
        retpoline=module.modinfo.get("retpoline") == "Y",
        cfi=_has_types(module),
    )


def _has_types(module: ModuleFile) -> bool:
    """Whether its functions carry types (kCFI): x86_64 has a section of the traps, both have such symbols."""
    marks = ("__cfi_", "__kcfi_typeid_")
    return module.elf.section(".kcfi_traps") is not None or any(
        symbol.name.startswith(marks) for symbol in module.elf.symbols
    )
