# SPDX-License-Identifier: MIT
"""What is loaded, with the modules that are stuck marked.

A module that stays in the state `coming` or `going`, or that has a negative count, may be stuck; `permanent`
is one that has no exit function; `quarantined` one that has given its name away (lkm quarantine). `lkm why NAME`
says more.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lkm.cli.render import styled, table, wants_colour
from lkm.errors import LkmError, NoLoadableModules
from lkm.names import quarantine_number
from lkm.root import Root
from lkm.system.module_list import ModuleRow, ModuleRows, read_module_rows

__all__ = ["configure", "is_suspect", "run"]

SCHEMA = "lkm.list/1"
HEADER = ("Module", "Size", "Refcnt", "State", "Taints", "Used by", "")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm list`."""
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")
    parser.add_argument("--root", metavar="DIR", default="/", help="read proc/ and sys/ below DIR")
    parser.add_argument("--builtin", action="store_true", help="also what is built into the kernel")


def run(arguments: argparse.Namespace) -> int:
    """Print the list. NoLoadableModules where this kernel has none."""
    found = read_module_rows(Root(arguments.root))
    if found.loadable is None:
        raise LkmError("no /proc here to tell what is loaded", remedy="mount it")
    if not found.loadable:
        raise NoLoadableModules
    if found.proc_error:
        print(f"lkm: {found.proc_error}; this is what /sys/module says alone", file=sys.stderr)
    made = _as_json(found)
    lines: list[str] = []
    if arguments.builtin:
        made["builtin"], lines = _builtin(arguments.root)
    if arguments.json:
        import json

        print(json.dumps(made, indent=1))
    else:
        print("\n".join([*_as_text(found, colour=wants_colour(sys.stdout)), *lines]))
    return 0


def _builtin(root: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What is built in, for JSON and as lines."""
    from lkm.cli.boot_source import release_of
    from lkm.cli.list_builtin import builtin_as_json, read_builtin_rows, render_builtin

    rows, note = read_builtin_rows(Root(root, release_of(root)))
    if note:
        print(f"lkm: {note}", file=sys.stderr)
    return builtin_as_json(rows), ["", *render_builtin(rows)]


def is_suspect(row: ModuleRow) -> bool:
    """Whether this is no state for a module to stay in: a sound one leaves it within moments."""
    return row.state != "live" or not row.in_sysfs or (row.refcnt is not None and row.refcnt < 0)


def _as_json(found: ModuleRows) -> dict[str, Any]:
    keys = ("name", "size", "refcnt", "holders", "state", "permanent", "taints", "in_sysfs", "in_proc")
    modules = [
        {
            **{key: getattr(row, key) for key in keys},
            "suspect": is_suspect(row),
            "quarantined": bool(quarantine_number(row.name)),
        }
        for row in found.rows
    ]
    return {"schema": SCHEMA, "modules": modules, "proc_modules_error": found.proc_error}


def _as_text(found: ModuleRows, *, colour: bool) -> list[str]:
    rows = [
        (
            row.name,
            str(row.size),
            "-" if row.refcnt is None else str(row.refcnt),
            row.state,
            row.taints or "-",
            ",".join(row.holders) or "-",
            _mark(row),
        )
        for row in found.rows
    ]
    head, *lines = table(rows, header=HEADER, right=(1, 2))
    marked = [
        styled(line, _colour(row), colour=colour and bool(_mark(row))) for row, line in zip(found.rows, lines)
    ]
    return [styled(head, "bold", colour=colour), *marked]


def _colour(row: ModuleRow) -> str:
    return "red" if is_suspect(row) and not quarantine_number(row.name) else "yellow"


def _mark(row: ModuleRow) -> str:
    if quarantine_number(row.name):
        return f"quarantined: lkm why {row.name}"
    if is_suspect(row):
        return f"stuck? lkm why {row.name}"
    return "permanent" if row.permanent else ""
