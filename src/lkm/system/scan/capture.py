# SPDX-License-Identifier: MIT
"""A snapshot with a search of kernel memory for some of its modules."""

from __future__ import annotations

from collections.abc import Iterable

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.memory import read_memory
from lkm.system.scan.engine import Progress, silent
from lkm.system.scan.run import scan_modules
from lkm.system.scanned import Scan
from lkm.system.snapshot import Snapshot

__all__ = ["with_scans"]


def with_scans(
    root: Root, snapshot: Snapshot, names: Iterable[ModuleName], *, progress: Progress = silent
) -> Snapshot:
    """`snapshot`, taken just now, with a scan for each of these modules that it has.

    RAM is read once for all of them. Never raises: why there is no scan is in its `error`.
    """
    modules = [module for name in dict.fromkeys(names) if (module := snapshot.module(name))]
    if not modules:
        return snapshot
    memory, error = read_memory(root, known_symbols=True)  # those of the snapshot
    if memory is None:
        return snapshot._replace(scans=tuple(Scan(module.name, error=error) for module in modules))
    try:
        scans = scan_modules(
            root, memory, snapshot.modules, modules, registrations=snapshot.registrations, progress=progress
        )
    except LkmError as failure:
        scans = tuple(Scan(module.name, error=str(failure)) for module in modules)
    return snapshot._replace(scans=scans)
