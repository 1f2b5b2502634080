# SPDX-License-Identifier: MIT
"""-e: symbols that a module needs and nobody exports, or in another version."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lkm.tree.depmod.elf import BadModule
from lkm.tree.depmod.read import with_module
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.resolve import plain_name
from lkm.tree.depmod.search import Report
from lkm.tree.depmod.versions import Import, parse_versions

__all__ = ["check_symbols"]


def check_symbols(
    request: DepmodRequest,
    paths: Sequence[bytes],
    kernel: dict[bytes, int],
    owners: dict[bytes, int],
    report: Report,
) -> None:
    """Tell what is missing.

    kernel  name → CRC of what the kernel exports; versions count with -E alone
    owners  name → module, for all that is exported
    """
    crcs = kernel | dict.fromkeys([name for name, owner in owners.items() if owner], 0)  # a module's count
    imports = []
    for path in paths:
        exported, imported = _read(path)
        for name, crc in exported.items():
            crcs[name[1:] if request.prefix and name[:1] == request.prefix else name] = crc
        imports.append(imported)
    for path, imported in zip(paths, imports):
        for name, crc, weak in imported:
            found = crcs.get(plain_name(name, request.prefix))
            if weak:
                continue
            shown = f"{os.fsdecode(path)} %s {name.decode('utf-8', 'surrogateescape')}"
            if found is None:
                report("WARNING", shown % "needs unknown symbol")
            elif request.symvers and found != crc:
                report("WARNING", shown % "disagrees about version of symbol")


def _read(path: bytes) -> tuple[dict[bytes, int], list[Import]]:
    try:
        return with_module(path, parse_versions)
    except (BadModule, OSError):
        return {}, []
