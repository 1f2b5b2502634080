# SPDX-License-Identifier: MIT
"""Types of command-line arguments."""

from __future__ import annotations

import argparse

from lkm.cli.files import is_path
from lkm.errors import UsageError
from lkm.names import ModuleName, module_name, module_name_from_path

__all__ = ["add_plan_options", "named_module", "quoted_parameter", "seconds"]

LONGEST = 7 * 24 * 3600.0


def seconds(text: str) -> float:
    """A time to wait, in seconds: from 0 to a week."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LONGEST:.0f}")
    return value


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What every command has that makes a plan and may execute it."""
    parser.add_argument(
        "--dry-run", action="store_true", help="stop at the plan: it is exactly what would be done"
    )
    parser.add_argument(
        "--record", metavar="FILE", help="where the record goes (default: below /var/lib/lkm)"
    )


def named_module(text: str) -> ModuleName:
    """The module of that name. UsageError for what is none: a path, or nothing."""
    if is_path(text):
        name = module_name_from_path(text)
        raise UsageError(
            f"{text} is a file, and no name of a module", remedy=f"name the module: {name or 'NAME'}"
        )
    if text in ("", ".", ".."):
        raise UsageError(f"{text!r} is no name of a module", remedy="lkm list has those that are loaded")
    return module_name(text)


def quoted_parameter(param: str) -> str:
    """As the kernel's next_arg (lib/cmdline.c) reads it: a value with spaces in double quotes."""
    name, equals, value = param.partition("=")
    return (
        f'{name}{equals}"{value}"'
        if equals and any(c.isspace() for c in value) and '"' not in value
        else param
    )
