# SPDX-License-Identifier: MIT
"""lsmod: the loaded modules, a line each.

A module that goes while it is read is told of as /proc/modules had it, where the original prints -2.
"""

from __future__ import annotations

from lkm.cli.kmod import log
from lkm.cli.kmod.common import COMMON_HELP, COMMON_LONG, COMMON_SHORT, read_options
from lkm.system.loaded import LoadedModule, read_loaded

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run"]

SCHEMA = "lkm.lsmod/1"
SHORT = COMMON_SHORT
LONG = COMMON_LONG
OWN = {"state": "state", "taints": "taints", "root=": "root", "json": "json"}
HELP = f"""\
Usage:
	%s [options]
Options:
{COMMON_HELP}	    --state       a column with the state: live, coming or going
	    --taints      a column with the taints, such as OE
	    --root=DIR    read proc/ and sys/ below DIR
	    --json        one JSON object, schema {SCHEMA}
"""


def run(argv: list[str]) -> int:
    """Print the list. 1: there is none, or the command line is wrong."""
    line = read_options(argv, SHORT, LONG, OWN, usage=HELP)
    if line is None:
        return 0
    log.open_log(level=log.ERROR + line.verbose, syslog=line.syslog)
    if line.operands:
        log.error("too many arguments provided.")
        return 1
    try:
        root = line.value("root").rstrip("/")
        modules = read_loaded(f"{root}/proc", f"{root}/sys", full=bool(line.options))
    except OSError as error:
        log.error(f"could not get list of modules: {error.strerror}")
        return 1
    if line.has("json"):
        import json

        log.write(json.dumps({"schema": SCHEMA, "modules": list(map(_as_object, modules))}, indent=1) + "\n")
    else:
        log.write(_table(modules, state=line.has("state"), taints=line.has("taints")))
    return 0


def _table(modules: list[LoadedModule], *, state: bool, taints: bool) -> str:
    """The original's columns, and those that were asked for before the last one."""
    head = "Module                  Size" + "  State " * state + "  Taints" * taints
    lines = [f"{head}  Used by"]
    for module in modules:
        middle = f"  {module.state:<6}" * state + f"  {module.taints or '-':<6}" * taints
        count = -2 if module.refcnt is None else module.refcnt  # -ENOENT, as the original prints it
        used = f" {','.join(module.holders)}" if module.holders else ""
        lines.append(f"{module.name:<19} {module.size:>8}{middle}  {count}{used}")
    return "\n".join([*lines, ""])


def _as_object(module: LoadedModule) -> dict[str, object]:
    return {name: getattr(module, name) for name in ("name", "size", "refcnt", "holders", "state", "taints")}
