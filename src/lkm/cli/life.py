# SPDX-License-Identifier: MIT
"""The life of a module as the kernel leads it, step by step, with this module's own values.

From the file through load_module to its removal; for built-in code, its initcalls and when they ran.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lkm.boot.life import Life
from lkm.boot.life_here import read_life
from lkm.cli.boot_source import add_source_options, place_of
from lkm.cli.files import check_named_file, is_path
from lkm.cli.render import plain, styled, table, wants_colour

__all__ = ["configure", "run"]

SCHEMA = "lkm.life/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm life`."""
    parser.add_argument("name", metavar="NAME|FILE", help="a module, an alias, or a module's file")
    parser.add_argument("--sections", action="store_true", help="also every section and what becomes of it")
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Print the life."""
    if is_path(arguments.name):
        check_named_file(arguments.name, remedy="name a module, or a module's file (.ko)")
    root, table = place_of(arguments)
    found = read_life(root, arguments.name, table)
    if arguments.json:
        import json

        print(json.dumps(as_json(found), indent=1))
    else:
        print("\n".join(_as_text(found, sections=arguments.sections, colour=wants_colour(sys.stdout))))
    return 0


def as_json(found: Life) -> dict[str, Any]:
    """The life as the JSON contract has it."""
    from lkm.values import encode

    return {"schema": SCHEMA, **encode(found)}


def _as_text(found: Life, *, sections: bool, colour: bool) -> list[str]:
    head = f"{found.name}: {found.kind}, for {found.release or 'an unknown kernel'}"
    lines = [styled(plain(head), "bold", colour=colour)]
    if found.path:
        lines.append(plain(f"file: {found.path}"))
    for number, step in enumerate(found.steps, 1):
        by = f"   ({step.function})" if step.function else ""
        lines.append(
            styled(f"{number}. {step.title}", "bold", colour=colour) + styled(by, "dim", colour=colour)
        )
        lines += [plain(f"     {line}") for line in step.lines]
    lines += _state(found)
    if sections:
        rows = [
            (each.name, str(each.size), each.memory or "-", each.fate or "copied") for each in found.sections
        ]
        lines += ["", *table(rows, header=("Section", "Bytes", "Memory", "What becomes of it"), right=(1,))]
    return lines


def _state(found: Life) -> list[str]:
    if found.kind == "built-in":
        return []
    now = found.now
    if not now.running:
        return ["now: that kernel does not run: it has no state"]
    lines = [f"now: {now.state or 'not loaded'}" + ("" if now.refcnt is None else f", refcnt {now.refcnt}")]
    for each in found.transitions:
        against = f"; not now: {each.obstacle}" if each.obstacle else ""
        lines.append(plain(f"  next: {each.state}, by {each.by}{against}"))
    return lines
