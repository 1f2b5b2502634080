# SPDX-License-Identifier: MIT
"""kmod: the command that the others are names of; `list`, `static-nodes` and `help` are its own."""

from __future__ import annotations

from importlib import import_module

from lkm.cli.kmod import log
from lkm.cli.kmod.common import print_version
from lkm.cli.kmod.options import Arguments

__all__ = ["HELP", "LONG", "OWN", "SHORT", "run"]

SHORT = "+hV"
LONG = {"help": "h", "version": "V"}
OWN: dict[str, str] = {}
HELP = """\
Usage:
	%s [options] COMMAND [options of the command]
Commands:
	help          print this help
	list          what is loaded
	static-nodes  device nodes of modules that are loaded on demand
Options:
	-V, --version     print the version
	-h, --help        print this help
Called lsmod, insmod, rmmod, modinfo, modprobe or depmod, it is that tool (`lkm links`).
"""

_COMMANDS = {"list": "lkm.cli.kmod.lsmod", "static-nodes": "lkm.cli.kmod.static_nodes"}


def run(argv: list[str]) -> int:
    """Run one of its commands. 1: there is no such command, or it failed."""
    arguments = Arguments(argv, SHORT, LONG)
    for key, _ in arguments:
        if key == "h":
            log.write(HELP % log.program())
        else:
            print_version()
        return 0
    command, *rest = arguments.operands or [""]
    if command == "help":
        log.write(HELP % log.program())
        return 0
    if command not in _COMMANDS:
        log.write_error(f"invalid command '{command}'\n" if command else "missing command\n")
        log.write(HELP % log.program())
        return 1
    log.set_program(log.program(), command)
    code: int = import_module(_COMMANDS[command]).run(rest)
    return code
