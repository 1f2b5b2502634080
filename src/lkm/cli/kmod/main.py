# SPDX-License-Identifier: MIT
"""The classic tools by name: a table, and how one is run.

A tool's module has `run(argv) -> exit code` and `HELP`; it is imported only when it is asked for. Exit codes are
0 and 1, as the original tools have them.
"""

from __future__ import annotations

import sys

from lkm.cli.kmod import log
from lkm.cli.kmod.options import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOOLS", "run", "tool_of"]

# The name: its module, and its line in `lkm --help`. A plain tuple: typing alone costs 3 ms at start.
TOOLS = {
    "lsmod": ("lkm.cli.kmod.lsmod", "what is loaded, as lsmod prints it"),
    "insmod": ("lkm.cli.kmod.insmod", "load one module file"),
    "rmmod": ("lkm.cli.kmod.rmmod", "remove modules"),
    "modinfo": ("lkm.cli.kmod.modinfo", "what a module says of itself"),
    "depmod": ("lkm.cli.kmod.depmod", "make modules.dep and its like"),
    "modprobe": ("lkm.cli.kmod.modprobe", "load or remove a module with all that it needs"),
    "static-nodes": ("lkm.cli.kmod.static_nodes", "device nodes of modules that are loaded on demand"),
    "kmod": ("lkm.cli.kmod.kmod", "kmod list, static-nodes, help"),
}


def tool_of(path: str) -> str:
    """The tool that a program of this path is, "" for none: `lsmod` for `/sbin/lsmod`."""
    name = path.rpartition("/")[2]
    return name if name in TOOLS else ""


def run(name: str, argv: Sequence[str], *, called: str = "") -> int:
    """Run the tool `name` with its arguments; `called` is argv[0]. Returns the exit code."""
    log.set_program(name, called or name)
    try:
        try:
            code = _run_tool(name, list(argv))
        finally:
            log.flush()
    except BrokenPipeError:
        return _die_of("SIGPIPE")
    except KeyboardInterrupt:
        return _die_of("SIGINT")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        log.error(f"{where}{error.strerror}")
        if error.filename == log.OUTPUT:
            _forget_output()
        return 1
    return code


def _run_tool(name: str, argv: list[str]) -> int:
    try:
        module = TOOLS[name][0]
        __import__(module)  # importlib would cost a millisecond
        code: int = sys.modules[module].run(argv)
    except OptionError as error:
        log.write_error(f"{log.argv0()}: {error}\n")
        return 1
    except Exception as error:
        from lkm.errors import LkmError

        if isinstance(error, LkmError):
            log.error(str(error))
            return 1
        if isinstance(error, OSError) or log.wants_debug():
            raise
        log.fatal(f"internal error: {type(error).__name__}: {error}; KMOD_LOG=debug shows where")
        return 1
    return code


def _die_of(name: str) -> int:
    """End as a C program does, by the signal, which Python ignores or has made an exception of."""
    import os
    import signal

    _forget_output()
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + int(number)


def _forget_output() -> None:
    """Nothing more is written at the interpreter's exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
