# SPDX-License-Identifier: MIT
"""Run lkm's classic tools in forked copies of one process: an interpreter's start costs more than a tool's work.

Reads one JSON object a line (`argv`, `environment`, `directory`, `output`), answers with the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import traceback
from typing import Any, NoReturn

import lkm.cli.kmod
import lkm.formats
import lkm.system
import lkm.tree
from lkm.cli.kmod.main import TOOLS


def run_forked(request: dict[str, Any]) -> int:
    """The exit code of the tool, run in a child; minus the signal that killed it."""
    child = os.fork()
    if not child:
        run_tool(request)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def run_tool(request: dict[str, Any]) -> NoReturn:
    """Become the tool."""
    code = 70
    try:
        for number, name in (
            (0, os.devnull),
            (1, f"{request['output']}.out"),
            (2, f"{request['output']}.err"),
        ):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv = request["argv"]
        if request["user"] is not None:
            os.setuid(request["user"])
        from lkm.__main__ import main

        answer = main()
        code = answer if isinstance(answer, int) else 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a test looks for the traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    for module, _ in TOOLS.values():
        importlib.import_module(module)
    for package in (
        lkm.cli.kmod,
        lkm.formats,
        lkm.system,
        lkm.tree,
    ):  # also for a copy that may not read them
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    for name in ("ctypes", "json", "lzma", "mmap", "zlib"):
        importlib.import_module(name)
    for line in sys.stdin:
        print(run_forked(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
