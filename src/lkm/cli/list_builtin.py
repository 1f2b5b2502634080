# SPDX-License-Identifier: MIT
"""`lkm list --builtin`: what is built into the kernel, beside what is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from lkm.boot.builtin import Builtin, read_builtins
from lkm.boot.initcall import Initcall
from lkm.boot.source import InitcallTable, find_initcalls, is_running
from lkm.cli.render import table
from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.tree.tree import Tree

__all__ = ["BuiltinRow", "builtin_as_json", "read_builtin_rows", "render_builtin"]

NAMESAKE = "(other code than the loadable module of this name)"
HEADER = ("Built in", "Initcalls", "Parameters", "Licence", "Description")


class BuiltinRow(NamedTuple):
    """One part of the kernel: what its tree says of it, None if nothing, and its initcalls.

    `namesake`: a module on the disk has the name, and this is other code (arch/x86/kernel/kvm.c beside kvm.ko).
    """

    name: str
    builtin: Optional[Builtin]
    initcalls: tuple[Initcall, ...]
    namesake: bool = False


def read_builtin_rows(root: Root, known: Optional[InitcallTable] = None) -> tuple[list[BuiltinRow], str]:
    """All that is built in, by name, and why initcalls could not be read, or "".

    `known` are the initcalls of an image that was named. LkmError where nothing says what is built in.
    """
    builtins = read_builtins(root)
    calls, note = find_initcalls(root, known, running=is_running(root))
    if not builtins and not calls:
        raise LkmError(f"{root.modules_dir} does not say what is built in, and there are {note}")
    grouped: dict[str, list[Initcall]] = {name: [] for name in builtins}
    for call in calls:
        if call.module:
            grouped.setdefault(call.module, []).append(call)
    loadable = set(Tree(root).names())
    rows = []
    for name, group in sorted(grouped.items()):
        builtin = builtins.get(ModuleName(name))
        namesake = name in loadable and not (builtin and builtin.path)
        rows.append(BuiltinRow(name, builtin, tuple(group), namesake))
    return rows, note


def builtin_as_json(rows: Sequence[BuiltinRow]) -> list[dict[str, Any]]:
    """The key `builtin` of `lkm.list/1`."""
    from lkm.values import encode

    return [
        {
            "name": row.name,
            "namesake": row.namesake,
            "path": row.builtin.path if row.builtin else "",
            "license": _first(row.builtin, "license"),
            "description": _first(row.builtin, "description"),
            "parameters": [encode(each) for each in row.builtin.parameters] if row.builtin else [],
            "initcalls": [encode(call) for call in row.initcalls],
        }
        for row in rows
    ]


def render_builtin(rows: Sequence[BuiltinRow]) -> list[str]:
    """The table's lines, the header first."""
    cells = [
        (
            row.name,
            _short(row.initcalls),
            str(len(row.builtin.parameters)) if row.builtin else "0",
            _first(row.builtin, "license") or "-",
            NAMESAKE if row.namesake else _first(row.builtin, "description"),
        )
        for row in rows
    ]
    return table(cells, header=HEADER, right=(2,))


def _short(calls: Sequence[Initcall]) -> str:
    """The first of them, and how many more there are."""
    if not calls:
        return "-"
    more = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    return f"{calls[0].function or '?'} ({calls[0].level_text}){more}"


def _first(builtin: Optional[Builtin], key: str) -> str:
    values = builtin.values(key) if builtin else ()
    return values[0] if values else ""
