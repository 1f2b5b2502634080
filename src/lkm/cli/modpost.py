# SPDX-License-Identifier: MIT
"""Make a loadable module (.ko) of a relocatable object (.o), by adding what the kernel's modpost adds; neither kbuild
nor the kernel's headers are needed. What is wrong with the object is told at once, all of it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from typing import Any

from lkm.cli.chosen_kernel import choose_kernel
from lkm.cli.files import check_named_file
from lkm.errors import UsageError
from lkm.modpost.kernel import Kernel, read_kernel
from lkm.modpost.problems import Problem
from lkm.modpost.run import Outcome, default_output, modpost

__all__ = ["configure", "run"]

SCHEMA = "lkm.modpost/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm modpost`."""
    parser.add_argument(
        "object", metavar="OBJ", help="an object file (.o); of several, make one with ld -r first"
    )
    parser.add_argument(
        "-o", dest="output", metavar="FILE.ko", default="", help="the module's file (default: OBJ, with .ko)"
    )
    parser.add_argument(
        "--kernel", metavar="RELEASE", default="", help="another kernel that is installed here"
    )
    parser.add_argument(
        "--tree", "--root", metavar="DIR", default="", help="look for lib/modules and boot below DIR"
    )
    parser.add_argument(
        "--symvers", metavar="FILE", default="", help="the kernel's exports, from a Module.symvers"
    )
    parser.add_argument(
        "--with", dest="others", metavar="FILE", action="append", default=[],
        help="another module that it stands on (.ko), or a Module.symvers that has it (repeatable)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Make it; 0: the module is there, 1: a problem is fatal, and no file was written."""
    output = arguments.output or default_output(arguments.object)
    for path in (arguments.object, *arguments.others, arguments.symvers):
        if path and (path == output or _is_same(path, output)):
            raise UsageError(
                f"{output} would replace {path}, which it is made of", remedy="name another file with -o"
            )
    check_named_file(arguments.object, remedy="name an object file (.o)")
    for path in arguments.others:
        check_named_file(path, remedy="--with names a module (.ko) or a Module.symvers")
    if arguments.symvers:
        check_named_file(arguments.symvers, remedy="--symvers names a Module.symvers")
    root, live = choose_kernel(arguments.kernel, arguments.tree)
    kernel = read_kernel(root, live=live, symvers=arguments.symvers, others=arguments.others)
    outcome = modpost(arguments.object, kernel, output)
    if arguments.json:
        print(json.dumps(_as_object(arguments.object, output, kernel, outcome), indent=1))
    else:
        print("\n".join(_lines(arguments.object, output, kernel, outcome)))
    return 0 if outcome.image else 1


def _is_same(path: str, output: str) -> bool:
    try:
        return os.path.samefile(path, output)
    except OSError:  # one of them is not there
        return False


def _lines(path: str, output: str, kernel: Kernel, outcome: Outcome) -> Iterable[str]:
    for problem in outcome.problems:
        yield f"{'error' if problem.fatal else 'warning'}: {path}: {problem.words}"
        yield f"  {problem.remedy}"
    if not outcome.image:
        count = sum(problem.fatal for problem in outcome.problems)
        yield f"{path}: no module was made for {kernel.release}: {count} error{'s' if count > 1 else ''}"
        return
    needs = f", needs {', '.join(outcome.depends)}" if outcome.depends else ""
    yield f"{output}: {outcome.name} for {kernel.release}{needs}"


def _as_object(path: str, output: str, kernel: Kernel, outcome: Outcome) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "object": path, "release": kernel.release, "module": outcome.name,
        "file": output if outcome.image else None, "depends": list(outcome.depends), "aliases": list(outcome.aliases),
        "sources": list(kernel.sources), "problems": [_problem(problem) for problem in outcome.problems],
    }  # fmt: skip


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "kind": problem.kind.value, "error": problem.fatal, "summary": problem.words, "remedy": problem.remedy,
        "symbol": problem.symbol,
    }  # fmt: skip
