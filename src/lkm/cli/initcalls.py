# SPDX-License-Identifier: MIT
"""What is built into the kernel and called at boot, in its order: level, function, module.

Read from /proc/kallsyms, or from a kernel's image in /boot where that has no such symbols or the kernel does
not run. `--timeline` tells when each ran, from a boot with initcall_debug on the kernel's command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from lkm.boot.initcall import Initcall, Level, parse_level
from lkm.boot.source import InitcallTable
from lkm.cli import timeline
from lkm.cli.boot_source import add_source_options, source_of
from lkm.cli.render import table

__all__ = ["configure", "run"]

SCHEMA = "lkm.initcalls/1"
HEADER = ("Level", "Order", "Function", "Module", "Address")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm initcalls`."""
    parser.add_argument("--module", metavar="NAME", help="only those of one module")
    parser.add_argument("--level", metavar="LEVEL", type=_level, help="only one level: fs, 5, fs_sync, 5s, …")
    parser.add_argument("--function", metavar="TEXT", help="only functions that have TEXT in their name")
    add_source_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")
    timeline.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or the timeline of a boot."""
    if timeline.is_wanted(arguments):
        return timeline.run(arguments)
    found = source_of(arguments)
    wanted = [call for call in found.initcalls if _is_wanted(call, arguments)]
    if arguments.json:
        import json

        print(json.dumps(as_json(found, wanted), indent=1))
    else:
        print("\n".join(_as_text(found, wanted)))
    return 0 if wanted else 1


def _level(text: str) -> tuple[Level, bool | None]:
    try:
        return parse_level(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _is_wanted(call: Initcall, arguments: argparse.Namespace) -> bool:
    level, sync = arguments.level or (None, None)
    return (
        (not arguments.module or call.module == arguments.module.replace("-", "_"))
        and (level is None or (call.level is level and sync in (None, call.sync)))
        and (not arguments.function or arguments.function in call.function)
    )


def as_json(found: InitcallTable, calls: Iterable[Initcall]) -> dict[str, Any]:
    """The table as the JSON contract has it."""
    from lkm.values import encode

    return {
        "schema": SCHEMA,
        "release": found.release,
        "source": found.source,
        "note": found.note,
        "initcalls": [encode(call) for call in calls],
    }


def _as_text(found: InitcallTable, calls: Sequence[Initcall]) -> list[str]:
    rows = [
        (
            call.level_text,
            str(call.order),
            call.function or "-",
            f"{call.module}?" if call.module_from == "name" else call.module or "-",
            "-" if call.address is None else f"{call.address:#x}",
        )
        for call in calls
    ]
    lines = table(rows, header=HEADER, right=(1,))
    of = f" of {len(found.initcalls)}" if len(calls) != len(found.initcalls) else ""
    lines.append(f"{len(calls)}{of} initcalls of {found.release or 'a kernel'}, by {found.source}")
    if any(call.module_from == "name" for call in calls):
        lines.append("NAME?: concluded from the names of function and module; the symbols do not say it")
    if found.note:
        lines.append(f"note: {found.note}")
    return lines
