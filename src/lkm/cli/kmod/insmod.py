# SPDX-License-Identifier: MIT
"""insmod: loads one module file, without its dependencies.

The kernel is called from this very process and without a deadline, as by the original: an init may take minutes,
and scripts count on the module being there when insmod ends.
"""

from __future__ import annotations

import errno
import os

from lkm.cli.kmod import log
from lkm.cli.kmod.common import COMMON_HELP, COMMON_LONG, COMMON_SHORT, read_options
from lkm.cli.kmod.params import join_params
from lkm.cli.kmod.reasons import Reasons
from lkm.system.insert import insert_file

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "load_error", "run"]

SCHEMA = "lkm.insmod/1"
SHORT = "f" + COMMON_SHORT
LONG = {"force": "f", **COMMON_LONG}
OWN = {"force-modversion": "modversion", "force-vermagic": "vermagic", "json": "json"}
HELP = f"""\
Usage:
	%s [options] FILE [PARAM=VALUE...]
Options:
	-f, --force       load in spite of versions (both below): what does not fit can
	                  take the kernel and its data with it
{COMMON_HELP}	    --force-modversion  load in spite of other symbol versions
	    --force-vermagic    load in spite of another version magic
	    --json        one JSON object, schema {SCHEMA}
"""

_ERRORS = {
    errno.ENOEXEC: "Invalid module format",
    errno.ENOENT: "Unknown symbol in module",
    errno.ESRCH: "Module has wrong symbol version",
    errno.EINVAL: "Invalid parameters",
}


def run(argv: list[str]) -> int:
    """Load the file. 1: the kernel did not take it, or there is no such file."""
    line = read_options(argv, SHORT, LONG, OWN, usage=HELP)
    if line is None:
        return 0
    log.open_log(level=log.ERROR + line.verbose, syslog=line.syslog)
    if not line.operands:
        log.error("missing filename.")
        return 1
    path, *params = line.operands
    if path == "-":
        log.error("this tool does not support loading from stdin!")
        return 1
    force = line.has("f")
    error, why, reasons = _load(
        path,
        join_params(params),
        force_modversion=force or line.has("modversion"),
        force_vermagic=force or line.has("vermagic"),
    )
    if error:
        log.error(error)
        for reason in reasons:
            log.note(reason)
    if line.has("json"):
        import json

        done = {"schema": SCHEMA, "file": path, "loaded": not error, "errno": why, "reasons": reasons}
        log.write(json.dumps(done, indent=1) + "\n")
    return int(bool(error))


def _load(
    path: str, params: str, *, force_modversion: bool, force_vermagic: bool
) -> tuple[str, int, list[str]]:
    """What went wrong, in the original's words ("": nothing), the errno, and lines that say why."""
    try:
        os.stat(path)
        if path.endswith("/"):  # it names no module
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", errno.EINVAL)
        return f"could not load module {path}: {os.strerror(number)}", number, []
    reasons = Reasons()
    try:
        number, why = insert_file(
            path, params, force_modversion=force_modversion, force_vermagic=force_vermagic
        )
        if not number:
            return "", 0, []
        text = f"could not insert module {path}: {load_error(number)}"
        return text, number, [why] if why else reasons.of_load(number)
    finally:
        reasons.close()


def load_error(number: int) -> str:
    """The errno of a load in kmod's words: four have another meaning there than strerror(3) gives them."""
    return _ERRORS.get(number) or os.strerror(number)
