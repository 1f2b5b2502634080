# SPDX-License-Identifier: MIT
"""See lkm at work: modules that get stuck in a virtual machine with a real kernel, why, and how they get out.

Each module is loaded, rmmod is tried, `lkm why` is asked, `lkm rescue` gets it out or refuses with its reason,
and the module is loaded again. Ends with 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lkm.cli.render import plain, styled, table, wants_colour

if TYPE_CHECKING:
    from lkm.lab.demo import Observation, RescueSeen
    from lkm.lab.demo_rows import Row

__all__ = ["Result", "conclude", "configure", "run"]

Result = tuple["Row", "Observation", list[str]]
"""A row, what was seen, and what was not as expected."""

SCHEMA = "lkm.demo/1"
HEADER = ("Module", "rmmod", "lkm why", "Verdict", "lkm rescue", "Again", "OK")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm lab demo`."""
    parser.add_argument("--kernel", default="6.1", help="a series or an exact uname -r (6.1)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at what is not as expected")
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Show every row; 0: all as expected, 1: something was not."""
    from lkm.lab.build import BuildFailed
    from lkm.lab.demo import Demo, problems
    from lkm.lab.demo_rows import ROWS

    start = time.monotonic()
    results: list[Result] = []
    demo = Demo(ROWS, arguments.kernel, progress=_progress)
    try:
        for row, seen in demo.run():
            results.append((row, seen, problems(row, seen)))
            if not arguments.json:
                print("\n".join(_story(*results[-1], colour=wants_colour(sys.stdout))), flush=True)
            if results[-1][2] and not arguments.keep_going:
                break
    except BuildFailed as error:
        print(error.output, end="", file=sys.stderr)
        raise
    code = conclude(results, len(ROWS), kernel=arguments.kernel, as_json=arguments.json)
    print(f"lab: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return code


def conclude(results: Sequence[Result], count: int, *, kernel: str, as_json: bool) -> int:
    """Print the table, or the JSON object; the exit code. `count`: the rows that there should be."""
    sound = sum(not found for _, _, found in results)
    if as_json:
        rows = [_as_object(*result) for result in results]
        print(json.dumps({"schema": SCHEMA, "kernel": kernel, "ok": sound == count, "rows": rows}, indent=1))
    else:
        _print_table(results)
        print(f"{sound} of {count} as expected" + ("" if len(results) == count else ", the rest was not run"))
    return 0 if sound == count else 1


def _progress(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)


def _story(row: Row, seen: Observation, found: list[str], *, colour: bool) -> list[str]:
    """One row in full."""
    lines = [styled(f"{row.name}: {row.about}", "bold", colour=colour)]
    lines += _seen_lines(row, seen, colour=colour) if not seen.error else _command_lines(seen.loads)
    if found:
        lines += [styled(f"  NOT AS EXPECTED: {plain(problem)}", "red", colour=colour) for problem in found]
    else:
        lines.append(styled(f"  as expected ({seen.seconds:.0f} s)", "green", colour=colour))
    return [*lines, ""]


def _seen_lines(row: Row, seen: Observation, *, colour: bool) -> list[str]:
    lines = _command_lines(seen.loads[: len(row.loads)])
    lines.append(f"  /proc/modules: {plain(seen.line)}")
    lines.append(f"  $ rmmod {row.name}: {plain(seen.rmmod_message)}")
    if seen.left != seen.line:
        lines.append(f"  /proc/modules: {plain(seen.left) or f'{row.name} is gone'}")
    lines += _command_lines(seen.loads[len(row.loads) :])
    codes = ", ".join(seen.codes) or "nothing in the way"
    lines.append(f"  $ lkm why {row.name}: {codes}; verdict {styled(seen.verdict, 'bold', colour=colour)}")
    lines.append(f"      {plain(seen.reason)}")
    for rescue in seen.rescues:
        lines += _rescue_lines(rescue, colour=colour)
    lines += _command_lines([seen.released] if seen.released else [])
    lines.append(f"  gone from /proc/modules and /sys/module: {'yes' if seen.gone else 'NO'}; loaded again:")
    return lines + _command_lines(seen.again)


def _command_lines(commands: list[str]) -> list[str]:
    return [f"  $ {plain(command)}" for command in commands]


def _rescue_lines(rescue: RescueSeen, *, colour: bool) -> list[str]:
    lines = [f"  $ {rescue.command}: {styled(rescue.outcome, 'bold', colour=colour)}, {plain(rescue.reason)}"]
    if rescue.remedy:
        lines.append(f"      way on: {plain(rescue.remedy)}")
    lines += [f"      wrote {plain(edit)}" for edit in rescue.edits]
    if rescue.outcome in ("rescued", "removed"):
        lines.append(f"      removed {', then '.join(rescue.removed)}; proved: {', '.join(rescue.proof)}")
    return lines


def _cells(row: Row, seen: Observation, found: list[str]) -> tuple[str, ...]:
    if seen.error:
        return (row.name, *["-"] * 5, "NO")
    rmmod = {None: "never returns", 0: "done", 137: "killed"}.get(seen.rmmod_code, "refused")
    outcomes = [f"{' '.join(rescue.command.split()[3:])} {rescue.outcome}".strip() for rescue in seen.rescues]
    return (
        row.name,
        rmmod,
        ", ".join(seen.codes) or "-",
        seen.verdict,
        ", ".join(outcomes) + (", then went" if seen.released and seen.gone else ""),
        "yes" if seen.again and not seen.unexpected else "NO",
        "NO" if found else "yes",
    )


def _print_table(results: Sequence[Result]) -> None:
    """With rich on a terminal, plain otherwise."""
    rows = [_cells(*result) for result in results]
    if wants_colour(sys.stdout):
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            grid = Table(*HEADER)
            for column in grid.columns:
                column.overflow = "fold"
            for row in rows:
                grid.add_row(*map(Text, row), style="" if row[-1] == "yes" else "red")
            Console().print(grid)
            return
    print("\n".join(table(rows, header=HEADER)))


def _as_object(row: Row, seen: Observation, found: list[str]) -> dict[str, Any]:
    """One row of schema lkm.demo/1."""
    return {
        "module": row.name,
        "about": row.about,
        "ok": not found,
        "problems": found,
        "seen": asdict(seen),
        "expected": asdict(row),
    }
