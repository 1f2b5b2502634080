# SPDX-License-Identifier: MIT
"""depmod: modules.dep and its like, from the modules themselves."""

from __future__ import annotations

import os

from lkm.cli.kmod import log
from lkm.cli.kmod.common import print_version
from lkm.cli.kmod.options import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.tree.depmod.request import DepmodRequest

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run"]

SCHEMA = "lkm.depmod/1"

SHORT = "aAb:m:o:C:E:F:evnP:wVh"
LONG = {
    "all": "a", "quick": "A", "basedir=": "b", "moduledir=": "m", "outdir=": "o", "config=": "C", "symvers=": "E",
    "filesyms=": "F", "errsyms": "e", "verbose": "v", "show": "n", "dry-run": "n", "symbol-prefix=": "P",
    "warn": "w", "version": "V", "help": "h",
}  # fmt: skip
OWN = {"cache=": "cache", "no-cache": "no-cache", "jobs=": "jobs", "json": "json"}

HELP = """\
Usage:
	%s [options] [VERSION] [FILE...]
Makes modules.dep and the other files by which modprobe finds modules: of all in the tree
of VERSION (default: `uname -r`), or of each FILE alone, which is an absolute path.
What:
	-a, --all            all modules; so it is without FILE
	-A, --quick          nothing if nothing has changed since the last time
	-n, --dry-run, --show
	                     write the files to standard output, one after the other
Where:
	-b, --basedir=DIR    the root of the module trees (default: /)
	-m, --moduledir=DIR  where the trees are below it (default: /lib/modules)
	-o, --outdir=DIR     the root below which the files go (default: that of -b)
	-C, --config=PATH    this file or directory in place of depmod.d; may be repeated
Checks:
	-e, --errsyms        tell symbols that nobody exports: needs -E or -F
	-E, --symvers=FILE   what the kernel exports, with versions: its Module.symvers
	-F, --filesyms=FILE  what the kernel exports: its System.map
	-P, --symbol-prefix=CHARACTER
	                     which the architecture puts before each symbol
	-w, --warn           tell aliases that a module has twice
Other:
	-v, --verbose        name each module and what it needs
	-V, --version        print the version
	-h, --help           print this help
Own:
	    --cache=DIR      keep what was read in DIR
	    --no-cache       keep nothing, and use nothing that was kept
	    --jobs=N         read with N processes (default: a processor each)
	    --json           tell what was done, schema lkm.depmod/1
"""


def run(argv: list[str]) -> int:
    """Make the files. 1: they could not be made, or the command line is wrong."""
    request = _read_arguments(argv)
    if isinstance(request, int):
        return request
    import gc

    from lkm.tree.depmod.run import DepmodError, run_depmod

    gc.disable()  # a tenth of the time: there are no cycles to find, and the process ends
    shown: list[bytes] = []
    try:
        done = run_depmod(request, _report, shown.append if request.json else log.write_bytes)
    except DepmodError as error:
        return log.fatal(error.message) if error.message else 1
    if request.json:
        import json

        text = {"text": b"".join(shown).decode("utf-8", "backslashreplace")} if request.show else {}
        log.write(json.dumps({"schema": SCHEMA, **done, **text}, indent=1) + "\n")
    return 0


def _report(level: str, text: str) -> None:
    say = {"ERROR": log.error, "NOTICE": log.note, "WARNING": log.warning, "INFO": log.info}
    say[level](text)


def _read_arguments(argv: list[str]) -> DepmodRequest | int:
    """The request, or the exit code if that is the answer."""
    arguments = Arguments(argv, SHORT, LONG, OWN)
    values: dict[str, str] = {}
    configs, verbose = [], 0
    for key, value in arguments:
        if key == "h":
            log.write(HELP % log.program())
            return 0
        if key == "V":
            print_version()
            return 0
        if key == "P" and len(value) != 1:
            return log.fatal("-P only takes a single char")
        if key == "jobs" and not value.isdecimal():
            return log.fatal(f"--jobs={value}: not a number")
        if key == "C":
            configs.append(value)
        elif key == "v":
            verbose += 1
        values[key] = value
    log.open_log(level=log.WARNING + verbose)
    release, files = os.uname().release, arguments.operands
    if files:
        release = files.pop(0)
        if not _is_version(release):
            log.error(f"Bad version passed {release}")
            return 1
    return _request(values, release, files, configs, verbose=bool(verbose))


def _request(
    values: dict[str, str], release: str, files: list[str], configs: list[str], *, verbose: bool
) -> DepmodRequest:
    from lkm.tree.depmod.request import DepmodRequest

    return DepmodRequest(
        release,
        root=_absolute(values.get("b", "")),
        output=_absolute(values.get("o", "")),
        module_directory=values.get("m", "lib/modules"),
        configs=configs,
        files=() if "a" in values or "A" in values else files,
        quick="A" in values,
        show="n" in values,
        verbose=verbose,
        warn="w" in values,
        errors="e" in values,
        prefix=values.get("P", ""),
        system_map=values.get("F", ""),
        symvers=values.get("E", ""),
        processes=int(values.get("jobs", "0")),
        cache=_cache(values),
        json="json" in values,
    )


def _cache(values: dict[str, str]) -> str:
    """Its directory. An image is mostly made once: nothing is kept of it unless that is asked for."""
    if "no-cache" in values:
        return ""
    if "cache" in values:
        return _absolute(values["cache"])
    from lkm.tree.depmod.cache import default_cache

    return "" if "b" in values or "o" in values else default_cache()


def _absolute(path: str) -> str:
    return os.path.join(os.getcwd(), path) if path else ""


def _is_version(text: str) -> bool:
    """Whether sscanf(3) finds "%u.%u" at the beginning."""
    major, dot, rest = text.partition(".")
    return bool(dot) and major.isdigit() and rest[:1].isdigit()
