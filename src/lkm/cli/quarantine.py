# SPDX-License-Identifier: MIT
"""Release the name of a module that cannot go: its sysfs entry and its exports with it. Its memory stays.

For an exit that blocks, and for pointers that would crash the machine. A fixed build of the same name can be loaded
then. What had the name is called NAME.dead1, goes on where it was, and may be rescued later.
"""

from __future__ import annotations

import argparse
import json
import sys

from lkm.cli.arguments import add_plan_options, named_module
from lkm.cli.render import wants_colour
from lkm.cli.rescue import exit_code, read_plan, render_result, result_as_object
from lkm.cli.signing import add_signing_options, read_signer
from lkm.rescue.record import default_record_path
from lkm.rescue.request import Request
from lkm.rescue.rescue import plan_only, rescue
from lkm.rescue.result import Options
from lkm.root import Root

__all__ = ["configure", "run"]

SCHEMA = "lkm.quarantine/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm quarantine`."""
    parser.add_argument("name", metavar="NAME", help="the module whose name is wanted")
    add_plan_options(parser)
    parser.add_argument("--plan", metavar="FILE", help="do what --dry-run --json printed, if it still fits")
    parser.add_argument(
        "--force", action="store_true", help="also where nothing is wrong with it but that it is in use"
    )
    add_signing_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Quarantine, or plan; 0: the name is free, 1: it failed, 3: refused, 4: root would help."""
    name = named_module(arguments.name)
    options = Options(
        request=Request(quarantine=True),
        force=arguments.force,
        recorded=read_plan(arguments.plan, name, quarantine=True) if arguments.plan else None,
        record=arguments.record or default_record_path(name, what="quarantine"),
        signer=read_signer(arguments, Root.live()),
    )
    result = (plan_only if arguments.dry_run else rescue)(Root.live(), name, options)
    if arguments.json:
        print(json.dumps(result_as_object(result, schema=SCHEMA), indent=1))
    else:
        print("\n".join(render_result(result, colour=wants_colour(sys.stdout))))
    return exit_code(result)
