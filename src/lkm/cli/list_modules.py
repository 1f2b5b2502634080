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
from lkm.errors import LkmError, NoLoadableModules, UsageError
from lkm.names import quarantine_number
from lkm.root import Root
from lkm.system.module_list import ModuleRow, ModuleRows, read_module_rows

__all__ = ["configure", "is_suspect", "run"]

SCHEMA = "lkm.list/1"
HEADER = ("Module", "Size", "Refcnt", "State", "Taints", "Used by", "")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm list`."""
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")
    parser.add_argument("--builtin", action="store_true", help="also what is built into the kernel")
    for option, metavar, text in (
        ("--kernel", "RELEASE", "what is built into another kernel: its release, or how that begins (6.12)"),
        ("--image", "FILE", "what is built in by this kernel image: vmlinuz, Image[.gz], vmlinux"),
    ):
        parser.add_argument(option, metavar=metavar, default="", help=f"with --builtin: {text}")
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="read proc/, sys/, boot/ and lib/modules/ below DIR"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list. NoLoadableModules where this kernel has none, and what is built in was not asked for."""
    if arguments.builtin:
        return _run_with_builtin(arguments)
    for name in ("kernel", "image"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} goes with --builtin: only the running kernel has modules loaded")
    _print(_loaded(arguments.root), {}, [], as_json=arguments.json)
    return 0


def _loaded(root: str) -> ModuleRows:
    """What is loaded. LkmError where that cannot be told."""
    found = read_module_rows(Root(root))
    if found.loadable is None:
        raise LkmError(f"no {Root(root).join('/proc')} to tell what is loaded", remedy="mount it")
    if not found.loadable:
        raise NoLoadableModules
    if found.proc_error:
        print(f"lkm: {found.proc_error}; this is what /sys/module says alone", file=sys.stderr)
    return found


def _run_with_builtin(arguments: argparse.Namespace) -> int:
    """What is built in needs nothing live: without loadable modules, or of another kernel, it is shown alone."""
    from lkm.boot.source import is_running
    from lkm.cli.boot_source import place_of
    from lkm.cli.list_builtin import builtin_as_json, read_builtin_rows, render_builtin

    root, known = place_of(arguments)
    rows, note = read_builtin_rows(root, known)
    if note:
        print(f"lkm: {note}", file=sys.stderr)
    found: ModuleRows | None = None
    if is_running(root):
        try:
            found = _loaded(root.path)
        except LkmError as error:
            print(f"lkm: {error}; what is built in is shown alone", file=sys.stderr)
    added = {"release": root.release, "builtin": builtin_as_json(rows)}
    _print(found, added, render_builtin(rows), as_json=arguments.json)
    return 0


def _print(found: ModuleRows | None, added: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    """What is loaded (None: that is not shown), and what is built in: for JSON, and as lines."""
    if as_json:
        import json

        print(json.dumps({**_as_json(found or ModuleRows((), "", None)), **added}, indent=1))
        return
    text = _as_text(found, colour=wants_colour(sys.stdout)) if found else []
    print("\n".join([*text, *[""][: bool(text and lines)], *lines]))


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
