# SPDX-License-Identifier: MIT
"""What a name is: loaded, on disk, built into the kernel, an alias, blacklisted or forbidden, or unknown.

It answers why something is not in the list of loaded modules.
"""

from __future__ import annotations

import argparse
from typing import Any

from lkm.boot.where import Presence, Where, read_where
from lkm.cli.boot_source import add_source_options, place_of
from lkm.cli.render import plain

__all__ = ["configure", "run"]

SCHEMA = "lkm.where/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm where`."""
    parser.add_argument("name", metavar="NAME", help="a module, an alias, or a module's file")
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Print what the name is; 1: nothing that this kernel knows."""
    root, table = place_of(arguments)
    found = read_where(root, arguments.name, table)
    if arguments.json:
        import json

        print(json.dumps(as_json(found), indent=1))
    else:
        print("\n".join(plain(line) for line in render_where(found)))
    return 0 if found.known else 1


def as_json(found: Where) -> dict[str, Any]:
    """The answer as the JSON contract has it."""
    from lkm.values import encode

    modules = [
        {**encode(presence), "answer": answer_of(presence, found.release)} for presence in found.presences
    ]
    return {
        "schema": SCHEMA,
        "name": found.name,
        "release": found.release,
        "known": found.known,
        "modules": modules,
        "nearest": list(found.nearest),
        "note": found.note,
    }


def render_where(found: Where) -> list[str]:
    """The answer in text: for each module the answer in a line, and below what it rests on."""
    lines = []
    for presence in found.presences:
        lines.append(f"{presence.module}: {answer_of(presence, found.release)}")
        lines += [f"  {line}" for line in _grounds(found.name, presence)]
    if not found.known and found.nearest:
        lines.append(f"  names like it: {', '.join(found.nearest)}")
    if found.note:
        lines.append(f"  note: initcalls were not looked at: {found.note}")
    return lines


def answer_of(presence: Presence, release: str) -> str:
    """In one line, what it is, and with that why it is in lsmod or not."""
    if presence.state:
        return f"loaded, {presence.state}" + (
            "" if presence.refcnt is None else f", refcnt {presence.refcnt}"
        )
    if presence.builtin_by:
        off = ", and switched off by initcall_blacklist=" if presence.initcall_blacklist else ""
        return f"built into the kernel{off}: there is nothing to load, and lsmod has no row for it"
    if presence.missing:
        return f"not loaded; modules.dep of {release} has a file that is not there"
    if presence.path:
        forbidden = presence.kernel_blacklist or presence.forbidden
        return "on disk, not loaded" + (", and its load is forbidden" if forbidden else "")
    if presence.install:
        return "no module: a command of the configuration"
    if presence.other_releases:
        return f"not of {release}: of {', '.join(presence.other_releases)}"
    return f"unknown to {release}: not loaded, not on disk, not built in, no alias"


def _grounds(name: str, presence: Presence) -> list[str]:
    lines = []
    if presence.source:
        by = f" {presence.alias}" if presence.alias and presence.alias != name else ""
        lines.append(f"{name} is it by: {presence.source}{by}")
    if presence.path:
        lines.append(f"file: {presence.path}{' (missing: run depmod)' if presence.missing else ''}")
    if presence.builtin_by:
        lines.append(f"built in by: {', '.join(presence.builtin_by)}")
    of = "initcall" if presence.builtin_by else "initcall of other built-in code of this name"
    for call in presence.initcalls:
        sure = "" if call.module_from == "symbol" else " (concluded from its name)"
        off = "; not called, for /proc/cmdline: initcall_blacklist= names it"
        left_out = off if call.function in presence.initcall_blacklist else ""
        lines.append(
            f"{of}: {call.function or '?'}, level {call.level_text}, order {call.order}{sure}{left_out}"
        )
    if presence.path and presence.aliases:
        more = f" and {len(presence.aliases) - 1} more" if len(presence.aliases) > 1 else ""
        lines.append(f"loaded by itself for: {presence.aliases[0]}{more}")
    if presence.blacklisted:
        lines.append(
            f"blacklisted: {presence.blacklisted.place}: {presence.blacklisted.text}"
            " (not loaded for an alias; by name it is)"
        )
    if presence.forbidden:
        lines.append(
            f"forbidden, itself or what it needs: {presence.forbidden.place}: {presence.forbidden.text}"
        )
    if presence.kernel_blacklist:
        lines.append(
            "forbidden: /proc/cmdline: module_blacklist= names it, and the kernel refuses it (EPERM)"
        )
    if presence.install:
        lines.append(f"instead of a load: {presence.install.place}: {presence.install.text}")
    return lines
