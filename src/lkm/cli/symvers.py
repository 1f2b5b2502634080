# SPDX-License-Identifier: MIT
"""Compare what two kernels export: symbols that came, went, or have another CRC, licence or namespace; and which
modules that hits."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from lkm.cli.chosen_kernel import choose_kernel
from lkm.cli.files import read_named_bytes
from lkm.errors import ParseError, UsageError
from lkm.formats.compression import decompress
from lkm.formats.image_exports import parse_image_exports
from lkm.formats.kernel_image import parse_kernel_image
from lkm.formats.modinfo import is_gpl_compatible
from lkm.formats.module import parse_module
from lkm.formats.symvers import Symvers
from lkm.preflight.compare import Change, ChangeKind, Hit, compare_exports, hits
from lkm.preflight.kernel import KernelExport
from lkm.preflight.sources import read_image_table, read_symvers_table

__all__ = ["configure", "run"]

SCHEMA = "lkm.symvers/1"
_SIGNS = {
    ChangeKind.ADDED: "+", ChangeKind.REMOVED: "-", ChangeKind.CRC: "CRC", ChangeKind.LICENCE: "licence",
    ChangeKind.NAMESPACE: "namespace",
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm symvers`."""
    parser.add_argument("action", choices=["diff"], help="diff: compare two kernels")
    parser.add_argument(
        "before", metavar="A", help="a Module.symvers, a kernel's image, or the release of a kernel"
    )
    parser.add_argument("after", metavar="B", help="the other one")
    parser.add_argument(
        "modules", metavar="MODULE", nargs="*", help="module files: say which of them it hits"
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Compare. 0: nothing differs (or, with modules, none is hit); 1: something does.

    UsageError for what cannot be read too: it must not pass for a difference.
    """
    try:
        return _compare(arguments)
    except ParseError as error:
        raise UsageError(error.message, remedy=error.remedy) from error


def _compare(arguments: argparse.Namespace) -> int:
    before, after = _read(arguments.before), _read(arguments.after)
    changes = compare_exports(before, after)
    table = {change.name: change for change in changes}
    struck = [_hit(path, table) for path in arguments.modules]
    if arguments.json:
        print(json.dumps({
            "schema": SCHEMA, "changes": [_change_as_object(change) for change in changes],
            "modules": [{"module": h.module, "symbols": [c.name for c in h.changes]} for h in struck],
        }, indent=1))  # fmt: skip
    elif arguments.modules:
        for hit in struck:
            print("\n".join(_hit_lines(hit)))
    else:
        for change in changes:
            print(_line(change))
        counts = ", ".join(f"{_count(changes, kind)} {kind.value}" for kind in ChangeKind)
        print(f"{len(before)} and {len(after)} symbols: {counts}")
    if arguments.modules:
        return 1 if any(hit.changes for hit in struck) else 0
    return 1 if changes else 0


def _read(word: str) -> Mapping[str, KernelExport]:
    """The kernel's own exports, whichever of the three `word` names."""
    if "/" not in word and not os.path.exists(word):
        return _read_installed(word)
    data = decompress(_content(word), name=word)
    rows = [entry for entry in Symvers(data) if entry.module == "vmlinux"]
    if rows:
        with_crcs = any(entry.crc for entry in rows)
        return {e.name: KernelExport(e.name, e.gpl, e.crc if with_crcs else None, e.namespace) for e in rows}
    try:
        exports = parse_image_exports(parse_kernel_image(data, name=word))
    except ParseError as error:
        raise UsageError(
            f"{word} is neither a Module.symvers nor a kernel's image", remedy=str(error)
        ) from error
    return {e.name: KernelExport(e.name, e.gpl, e.crc, e.namespace) for e in exports}


def _read_installed(kernel: str) -> Mapping[str, KernelExport]:
    """The exports of a kernel that is installed, by its image or Module.symvers."""
    try:
        root, _ = choose_kernel(kernel, "")
    except UsageError as error:
        raise UsageError(
            f"{kernel or 'an empty name'} is no file, and {error.message}",
            remedy="name a Module.symvers, an image (vmlinuz), or the release of an installed kernel",
        ) from error
    found = read_image_table(root) or read_symvers_table(root)
    if found is None:
        raise UsageError(
            f"no exports of {root.release} can be read: neither from its image in /boot nor from the Module.symvers"
            f" of its headers",
            remedy="install its headers, name a Module.symvers or an image, or run it as root",
        )
    return {name: export for name in found.names() if (export := found.find(name))}


def _content(path: str) -> bytes:
    return read_named_bytes(
        path, remedy="name a Module.symvers or a kernel's image; then modules, as files (.ko)"
    )


def _hit(path: str, changes: Mapping[str, Change]) -> Hit:
    module = parse_module(_content(path), name=path)
    layout = ("module_layout",) if module.versions is not None else ()
    return hits(
        path, (*layout, *module.imports), module.modinfo.get_all("import_ns"), changes,
        proprietary=not is_gpl_compatible(module.modinfo.get("license")),
    )  # fmt: skip


def _count(changes: tuple[Change, ...], kind: ChangeKind) -> int:
    return sum(kind in change.kinds for change in changes)


def _line(change: Change) -> str:
    return f"{', '.join(_SIGNS[kind] for kind in change.kinds):<10} {change.name}{_detail(change)}"


def _detail(change: Change) -> str:
    if change.before is None or change.after is None:
        return ""
    old, new = change.before, change.after
    parts = []
    if ChangeKind.CRC in change.kinds:
        parts.append(f"{old.crc or 0:#010x} → {new.crc or 0:#010x}")
    if ChangeKind.LICENCE in change.kinds:
        parts.append("for GPL-compatible modules only now" if new.gpl else "for all modules now")
    if ChangeKind.NAMESPACE in change.kinds:
        parts.append(f"namespace {old.namespace or 'none'} → {new.namespace or 'none'}")
    return f" ({'; '.join(parts)})"


def _hit_lines(hit: Hit) -> list[str]:
    if not hit.changes:
        return [f"{hit.module}: not hit"]
    return [
        f"{hit.module}: {len(hit.changes)} of its symbols",
        *(f"  {_line(change)}" for change in hit.changes),
    ]


def _change_as_object(change: Change) -> dict[str, Any]:
    def side(export: KernelExport | None) -> dict[str, Any] | None:
        return (
            None if export is None else {"crc": export.crc, "gpl": export.gpl, "namespace": export.namespace}
        )

    return {
        "name": change.name, "kinds": [kind.value for kind in change.kinds],
        "before": side(change.before), "after": side(change.after),
    }  # fmt: skip
