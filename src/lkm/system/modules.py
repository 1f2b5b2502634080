# SPDX-License-Identifier: MIT
"""The loaded modules as values of a Snapshot: the list, and what else sysfs has of each."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lkm.errors import ParseError
from lkm.formats.notes import find_build_id, parse_notes
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.files import list_directory, read_bytes, read_number
from lkm.system.module_list import PROC_SECONDS, ModuleRow, read_module_rows
from lkm.system.snapshot import LoadedModule, MemoryRange, ModuleState

__all__ = ["read_modules"]

_STATES = {state.value: state for state in ModuleState}


def read_modules(root: Root, *, seconds: float = PROC_SECONDS) -> tuple[tuple[LoadedModule, ...], str]:
    """All modules, and why /proc/modules could not be read ("" when it was), which takes `seconds` at most.

    `memory` is at most the one range that /proc/modules shows to root; kernel memory gives all of them.
    """
    rows = read_module_rows(root, seconds=seconds)
    patches = _read_live_patches(root)
    return tuple(_loaded(root, row, patches) for row in rows.rows), rows.proc_error


def _read_live_patches(root: Root) -> dict[str, frozenset[str]]:
    """What each live patch that is not disabled has changes for: `vmlinux` and modules, loaded or not
    (klp_init_object, 5.10 to 7.3, makes a directory each). Its other entries are files."""
    base = root.join("/sys/kernel/livepatch")
    return {
        patch: frozenset(
            entry for entry in list_directory(f"{base}/{patch}") if os.path.isdir(f"{base}/{patch}/{entry}")
        )
        for patch in list_directory(base)
    }


def _loaded(root: Root, row: ModuleRow, patches: Mapping[str, frozenset[str]]) -> LoadedModule:
    base = root.join(f"/sys/module/{row.name}")
    return LoadedModule(
        name=row.name,
        state=_STATES.get(row.state, ModuleState.UNFORMED),
        refcnt=row.refcnt,
        size=row.size,
        holders=row.holders,
        permanent=row.permanent,
        taints=row.taints,
        address=read_number(f"{base}/sections/.gnu.linkonce.this_module") or 0,
        in_sysfs=row.in_sysfs,
        in_proc=row.in_proc,
        memory=(MemoryRange(row.base, row.size, "core"),) if row.base else (),
        drivers=tuple(list_directory(f"{base}/drivers")),
        build_id=_build_id(f"{base}/notes/.note.gnu.build-id"),
        live_patches=tuple(
            ModuleName(patch)
            for patch, objects in sorted(patches.items())
            if row.name == patch or row.name in objects
        ),
    )


def _build_id(path: str) -> str:
    """In hexadecimal, or "" for a module built without one."""
    data = read_bytes(path, limit=4096)
    if not data:
        return ""
    try:
        found = find_build_id(parse_notes(data, name=path))
    except ParseError:
        return ""
    return found.hex() if found else ""
