# SPDX-License-Identifier: MIT
"""What a classic tool says: `tool: LEVEL: text` on standard error, or to syslog with -s.

One tool runs in one process, so there is one state: who it is, how much it says, and to whom. `KMOD_LOG`
(`err`, `info`, `debug` or a number as in syslog(3)) asks for more than the tool says by itself.
"""

from __future__ import annotations

import os
import sys

__all__ = [
    "DEBUG",
    "EMERG",
    "ERROR",
    "FATAL",
    "INFO",
    "NOTICE",
    "OUTPUT",
    "WARNING",
    "argv0",
    "debug",
    "error",
    "fatal",
    "flush",
    "info",
    "note",
    "open_log",
    "program",
    "set_program",
    "wants_debug",
    "warning",
    "write",
    "write_bytes",
    "write_error",
]

OUTPUT = "standard output"
"""The `filename` of an OSError that came of writing there."""

EMERG, FATAL, ERROR, WARNING, NOTICE, INFO, DEBUG = 0, 2, 3, 4, 5, 6, 7
"""Priorities of syslog(3): LOG_EMERG (says nothing at all), LOG_CRIT, LOG_ERR, … LOG_DEBUG."""

_NAMES = {FATAL: "FATAL", ERROR: "ERROR", WARNING: "WARNING", NOTICE: "NOTICE", INFO: "INFO", DEBUG: "DEBUG"}
_KMOD_LOG = {"err": ERROR, "info": INFO, "debug": DEBUG}


class _State:
    """Who speaks, how much and where to."""

    program = "lkm"
    argv0 = "lkm"
    level = WARNING
    syslog = False


def set_program(name: str, called: str) -> None:
    """Who speaks: the tool's `name` in messages, and argv[0] as it was `called`, which getopt's messages have.

    Everything else is as at the start of a process.
    """
    _State.program, _State.argv0 = name, called
    _State.level, _State.syslog = WARNING, False


def program() -> str:
    """The name in messages and help texts."""
    return _State.program


def argv0() -> str:
    """argv[0] as it was typed: of a script the kernel tells the full path, also where PATH has led to it."""
    folder, slash, name = _State.argv0.rpartition("/")
    return name if slash and folder in os.environ.get("PATH", "").split(":") else _State.argv0


def open_log(*, level: int, syslog: bool = False) -> None:
    """Say what is at least as urgent as `level`, on standard error or to syslog."""
    _State.level = max(level, _wanted_by_environment()) if level != EMERG else EMERG
    _State.syslog = syslog
    if syslog:
        import syslog as system_log

        system_log.openlog(_State.program, system_log.LOG_CONS, system_log.LOG_DAEMON)


def _wanted_by_environment() -> int:
    text = os.environ.get("KMOD_LOG", "")
    return int(text) if text.isdecimal() else _KMOD_LOG.get(text, EMERG)


def wants_debug() -> bool:
    """Whether the environment asks for all that there is to know."""
    return _wanted_by_environment() >= DEBUG


def fatal(text: str) -> int:
    """What ends the tool. Returns its exit code, 1."""
    _say(FATAL, text)
    return 1


def error(text: str) -> None:
    """What failed."""
    _say(ERROR, text)


def warning(text: str) -> None:
    """What looks wrong."""
    _say(WARNING, text)


def info(text: str) -> None:
    """With -v."""
    _say(INFO, text)


def debug(text: str) -> None:
    """With -vv."""
    _say(DEBUG, text)


def note(text: str) -> None:
    """A line that the original tools do not have, after one that they do: why, or what to do next.

    It is said wherever an error is.
    """
    if _State.level >= ERROR:
        _emit(NOTICE, text)


def _say(priority: int, text: str) -> None:
    if priority <= _State.level:
        _emit(priority, text)


def _emit(priority: int, text: str) -> None:
    if _State.syslog:
        import syslog as system_log

        system_log.syslog(priority, f"{_NAMES[priority]}: {text}".encode(errors="replace").decode())
    else:
        write_error(f"{_State.program}: {_NAMES[priority]}: {text}\n")


def write_error(text: str) -> None:
    """Text as it is on standard error; bytes of names that are not UTF-8 come out as they went in."""
    _put(sys.stderr, text.encode("utf-8", "surrogateescape"))
    try:
        sys.stderr.flush()
    except (OSError, AttributeError):  # closed: nobody is left to tell
        pass


def write(text: str) -> None:
    """Text as it is on standard output. OSError if it cannot be written."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def write_bytes(data: bytes) -> None:
    """The same of bytes."""
    _put(sys.stdout, data)


def _put(stream: object, data: bytes) -> None:
    if stream is None:  # closed before the process began
        return
    raw = getattr(stream, "buffer", None)
    try:
        if raw is None:  # io.StringIO in its place
            stream.write(data.decode("utf-8", "backslashreplace"))  # type: ignore[attr-defined]
        else:
            raw.write(data)
    except OSError as error:
        error.filename = OUTPUT
        raise


def flush() -> None:
    """Write out what has been said on standard output. OSError if that cannot be."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        error.filename = OUTPUT
        raise
