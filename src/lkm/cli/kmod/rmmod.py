# SPDX-License-Identifier: MIT
"""rmmod: removes modules, and says which cannot be removed.

delete_module(2) is asked not to wait, as the original does; where something is in the way, `lkm why` knows more.
"""

from __future__ import annotations

import errno
import os

from lkm.cli.kmod import log
from lkm.cli.kmod.common import COMMON_HELP, COMMON_LONG, COMMON_SHORT, read_options
from lkm.system.direct_calls import delete_module_here
from lkm.system.module_state import LIVE, read_holders, read_refcnt, read_state

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run"]

SCHEMA = "lkm.rmmod/1"
SHORT = "f" + COMMON_SHORT
LONG = {"force": "f", **COMMON_LONG}
OWN = {"json": "json"}
HELP = f"""\
Usage:
	%s [options] NAME...
Options:
	-f, --force       remove in spite of users: they then call freed code, and the
	                  kernel goes down with them (lkm rescue looks first)
{COMMON_HELP}	    --json        one JSON object, schema {SCHEMA}
"""


class _Result:
    """How the removal of one module ended. `error` is in the original's words, "" for success."""

    def __init__(self, name: str, error: str = "", note: str = "", holders: tuple[str, ...] = ()) -> None:
        self.name, self.error, self.note, self.holders = name, error, note, holders


def run(argv: list[str]) -> int:
    """Remove the modules, one after the other. 1: one could not be removed; the others were tried all the same."""
    line = read_options(argv, SHORT, LONG, OWN, usage=HELP)
    if line is None:
        return 0
    log.open_log(level=log.ERROR + line.verbose, syslog=line.syslog)
    if not line.operands:
        log.error("missing module name.")
        return 1
    results = []
    for operand in line.operands:
        result = _remove(operand, force=line.has("f"))
        if result.error:
            log.error(result.error)
        if result.note:
            log.note(result.note)
        results.append(result)
    failed = [result for result in results if result.error or result.note]
    if line.has("json"):
        import json

        rows = [
            {
                "name": result.name,
                "removed": result not in failed,
                "error": result.error or result.note,
                "holders": result.holders,
            }
            for result in results
        ]
        log.write(json.dumps({"schema": SCHEMA, "modules": rows}, indent=1) + "\n")
    return int(bool(failed))


def _remove(operand: str, *, force: bool) -> _Result:
    name = _name_of(operand)
    if not name:
        return _Result(operand, f"could not use module {operand}: {os.strerror(errno.ENOENT)}")
    if not force:
        blocked = _look(name)
        if blocked is not None:
            return blocked
    flags = os.O_NONBLOCK | (os.O_TRUNC if force else 0)
    number = delete_module_here(name, flags)
    if not number:
        return _Result(name)
    return _Result(name, f"could not remove module {operand}: {os.strerror(number)}", _hint(name))


def _name_of(operand: str) -> str:
    """Of a file, the name that it stands for; of anything else, all before a dot, as the original has it."""
    if os.path.exists(operand):
        operand = operand.rpartition("/")[2]
    return operand.partition(".")[0].replace("-", "_")


def _look(name: str) -> _Result | None:
    """What is in the way, None for nothing."""
    state = read_state(name)
    if (not state or not os.path.exists(f"/sys/module/{name}/initstate")) and _is_builtin(name):
        return _Result(name, f"Module {name} is builtin.")
    if not state:
        return _Result(name, f"Module {name} is not currently loaded")
    holders = tuple(read_holders(name))
    if holders:
        note = f"remove {', '.join(holders)} first, or all with modprobe -r --remove-holders {name}"
        return _Result(name, f"Module {name} is in use by: {' '.join(holders)}", note, holders)
    if not os.path.isdir(f"/sys/module/{name}/holders"):
        log.error(f"could not open '/sys/module/{name}/holders': No such file or directory")
    count = read_refcnt(name)
    if count is None:
        return _Result(name, "Module unloading is not supported")
    if count > 0:
        return _Result(name, f"Module {name} is in use", _hint(name))
    if count < 0:  # in its removal, or corrupt: the original says nothing, and fails
        return _Result(name, "", f"Module {name} has the reference count {count}; {_hint(name)}")
    return None


def _hint(name: str) -> str:
    """What to do next where something is in the way that this tool does not see."""
    state = read_state(name)
    if not state:
        return ""
    stuck = f"{name} is {state}, not live; " if state != LIVE else ""
    return f"{stuck}lkm why {name} says what is in the way"


def _is_builtin(name: str) -> bool:
    from lkm.tree.tree import Tree

    return Tree.is_name(name) and Tree(config_paths=()).is_builtin(name)
