# SPDX-License-Identifier: MIT
"""Dispatch: a table of commands, each a module of this package that is imported only when it is asked for.

A command module has `configure(parser)` and `run(arguments) -> exit code`. Errors end here, in one line.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from lkm.cli.kmod.main import TOOLS
from lkm.cli.kmod.main import run as run_tool
from lkm.errors import LkmError

__all__ = ["COMMANDS", "Command", "prepare_output", "run"]


class Command(NamedTuple):
    """Where a command lives, and its line in `lkm --help`."""

    module: str
    summary: str


COMMANDS = {
    "list": Command("lkm.cli.list_modules", "what is loaded, stuck modules marked"),
    "info": Command("lkm.cli.info", "one module file in full: versions, needs, signature, sections"),
    "check": Command("lkm.cli.check", "would a module load, here or on another kernel; if not, why"),
    "symvers": Command("lkm.cli.symvers", "compare what two kernels export, and which modules that hits"),
    "modpost": Command("lkm.cli.modpost", "make a loadable module of an object file, without kbuild"),
    "load": Command("lkm.cli.load", "load a module file; the kernel's own words with the result"),
    "unload": Command("lkm.cli.unload", "remove a module, after a look at it"),
    "why": Command("lkm.cli.why", "why a module cannot be unloaded: blockers, evidence, remedy, verdict"),
    "rescue": Command("lkm.cli.rescue", "get a stuck module out without a reboot: plan, gate, edits, proof"),
    "heal": Command("lkm.cli.heal", "repair what a load that died left in the kernel's table of loads"),
    "quarantine": Command("lkm.cli.quarantine", "release a stuck module's name and keep its memory"),
    "snapshot": Command("lkm.cli.snapshot", "record what a diagnosis needs, to be read elsewhere"),
    "life": Command("lkm.cli.life", "the life of a module, step by step, with its own values"),
    "initcalls": Command("lkm.cli.initcalls", "what is built in and called at boot; when each ran"),
    "links": Command("lkm.cli.links", "make the classic tools available under their own names"),
    "where": Command("lkm.cli.where", "what a name is: loaded, on disk, built in, alias, blacklisted"),
    "lab": Command("lkm.cli.lab", "disposable virtual machines with real kernels"),
}

EXIT_CODES = """\
exit codes:
  0  done (why: plain removal works)
  1  it failed (why: something is in the way)
  2  wrong usage
  3  refused by policy or for safety
  4  root would help
"""


def prepare_output() -> None:
    """Have standard output and error take every character, and be there: a caller may have closed them."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            file = os.open(os.devnull, os.O_WRONLY)
            if file != number:
                os.dup2(file, number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code."""
    try:
        return _dispatch(list(argv))
    except LkmError as error:
        print(f"lkm: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader went away (`lkm list | head`): nobody is left to tell, at interpreter exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = error.filename or "standard output, or another open file"
        print(f"lkm: {where}: {error.strerror or error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "lkm").partition(".")[0] == "lkm":
            raise
        print(
            f"lkm: this takes the Python package {error.name}, which is not here; pip install 'lkm[lab]' has it",
            file=sys.stderr,
        )
        return 1
    except MemoryError:
        print("lkm: there is not enough memory for this", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lkm: interrupted", file=sys.stderr)
        return 130


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from lkm import __version__

        print(f"lkm {__version__}")
        return 0
    if argv[0] in TOOLS:
        return run_tool(argv[0], argv[1:])
    command = COMMANDS.get(argv[0])
    if command is None:
        print(f"lkm: no command {argv[0]!r}; lkm --help lists them", file=sys.stderr)
        return 2
    module = import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"lkm {argv[0]}",
        description=module.__doc__,
        epilog=EXIT_CODES,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    try:
        arguments = parser.parse_args(argv[1:])
    except SystemExit as stop:  # argparse has already printed
        return stop.code if isinstance(stop.code, int) else 2
    result: int = module.run(arguments)
    return result


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Asks the terminal for its width itself: the standard one imports shutil for that, and with it every
    compressor, which is a quarter of the time that `lkm list` takes."""

    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):  # no terminal, or no file at all
            width = 80
        super().__init__(prog, width=width - 2)


def _overview() -> str:
    commands = {name: command.summary for name, command in COMMANDS.items()}
    tools = {name: summary for name, (_module, summary) in TOOLS.items()}
    return (
        "usage: lkm COMMAND …   (lkm COMMAND --help says more)\n\n"
        f"commands:\n{_rows(commands)}\nclassic tools, with the exit codes of the original ones (0 and 1):\n"
        f"{_rows(tools)}\n{EXIT_CODES}"
    )


def _rows(summaries: dict[str, str]) -> str:
    width = max(map(len, [*COMMANDS, *TOOLS]))
    return "".join(f"  {name:<{width}}  {summary}\n" for name, summary in summaries.items())
