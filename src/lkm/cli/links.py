# SPDX-License-Identifier: MIT
"""Make the classic tools available under their own names: lsmod, insmod, rmmod, modinfo, modprobe, depmod, kmod.

DIR gets one small program that starts lkm quickly, and a symbolic link of each name to it. Which of several programs
of a name a shell runs, the order of directories in PATH decides; the kernel runs what /proc/sys/kernel/modprobe says.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import lkm
from lkm.errors import LkmError, Refused, UsageError

__all__ = ["LAUNCHER", "NAMES", "configure", "launcher_text", "run"]

SCHEMA = "lkm.links/1"
LAUNCHER = "lkm-classic"
NAMES = ("lsmod", "insmod", "rmmod", "modinfo", "modprobe", "depmod", "kmod")
MARK = "# Made by lkm links."

_LONGEST_SHEBANG = 127
"""Bytes that every kernel reads of a first line: BINPRM_BUF_SIZE was 128 until 5.1, and is 256."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm links`."""
    parser.add_argument("directory", metavar="DIR", help="where the names are to be")
    parser.add_argument("--remove", action="store_true", help="take away what lkm links has made in DIR")
    parser.add_argument(
        "--force", action="store_true", help="replace files of these names that are not lkm's"
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Make or remove the links. LkmError if DIR cannot be written, Refused where another's files are in the way."""
    if not arguments.directory:
        raise UsageError("the name of the directory is empty", remedy="name one: lkm links DIR")
    directory = os.path.abspath(arguments.directory)
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise UsageError(f"{directory} is no directory", remedy="name one: lkm links DIR")
    try:
        done = _remove(directory) if arguments.remove else _make(directory, force=arguments.force)
    except OSError as error:
        raise LkmError(f"{error.filename or directory}: {error.strerror}") from error
    notes = [] if arguments.remove else _notes(directory)
    if arguments.json:
        key = "removed" if arguments.remove else "made"
        print(json.dumps({"schema": SCHEMA, "directory": directory, key: done, "notes": notes}, indent=1))
    else:
        verb = "removed" if arguments.remove else "made"
        print(f"{verb} in {directory}: {' '.join(done) or 'nothing'}")
        print("".join(f"note: {note}\n" for note in notes), end="")
    return 0


def _make(directory: str, *, force: bool) -> list[str]:
    """Write the program and its links; what is lkm's already is made anew. Returns their names."""
    foreign = [name for name in (LAUNCHER, *NAMES) if _is_foreign(directory, name)]
    if foreign and not force:
        raise Refused(
            f"{directory} has {', '.join(foreign)}, which lkm links has not made",
            remedy="choose a directory that comes earlier in PATH, or replace them with --force",
        )
    folders = [name for name in foreign if os.path.isdir(f"{directory}/{name}")]
    if folders:
        raise Refused(f"{directory}/{folders[0]} is a directory", remedy="choose another directory")
    os.makedirs(directory, exist_ok=True)
    scratch = f"{directory}/.{LAUNCHER}.{os.getpid()}"
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)
    with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(launcher_text(sys.executable, sys.path))
        os.fchmod(file.fileno(), 0o755)
    os.replace(scratch, f"{directory}/{LAUNCHER}")
    for name in NAMES:
        os.symlink(LAUNCHER, scratch)
        os.replace(scratch, f"{directory}/{name}")
    return [LAUNCHER, *NAMES]


def _remove(directory: str) -> list[str]:
    """Take away what is lkm's. Returns the names; the links go first, so that none leads nowhere."""
    removed = []
    for name in (*NAMES, LAUNCHER):
        path = f"{directory}/{name}"
        if os.path.lexists(path) and not _is_foreign(directory, name):
            os.unlink(path)
            removed.append(name)
    return removed


def _is_foreign(directory: str, name: str) -> bool:
    """Whether there is something of that name that this command has not made."""
    path = f"{directory}/{name}"
    if not os.path.lexists(path):
        return False
    if name != LAUNCHER:
        return not (os.path.islink(path) and os.readlink(path) == LAUNCHER)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return MARK not in file.read(4096)
    except OSError:
        return True


def launcher_text(python: str, path: list[str]) -> str:
    """The program: Python with neither site nor environment, told where lkm and its libraries are.

    What it leaves out is more than half of the time that lsmod takes (site, .pth files, what pip's own scripts
    import, the interpreter's clean-up at its end), and whoever calls a tool that root runs cannot change what it
    imports by a variable or a file in the current directory.
    """
    if not python:
        raise LkmError("Python does not know where its own program is", remedy="call it by its full path")
    source = os.path.dirname(os.path.dirname(os.path.abspath(lkm.__file__)))
    libraries = [
        entry
        for entry in path
        if os.path.basename(entry) in ("site-packages", "dist-packages") and entry != source
    ]
    first = f"#!{python} -IS"
    if len(os.fsencode(first)) > _LONGEST_SHEBANG or any(letter.isspace() for letter in python):
        # The kernel would cut it: a shell reads the second line, and Python takes it for a string.
        first = f"#!/bin/sh\n'''exec' '{python}' -IS \"$0\" \"$@\"\n' '''"
    return f"""\
{first}
{MARK} A link with the name of a classic tool leads here.
import os
import sys

sys.path.insert(0, {source!r})
sys.path += {libraries!r}
from lkm.__main__ import main

os._exit(main())
"""


def _notes(directory: str) -> list[str]:
    """What decides whether these programs are the ones that run."""
    folders = [os.path.abspath(entry) for entry in os.environ.get("PATH", "").split(":") if entry]
    notes = []
    if directory not in folders:
        notes.append(f"{directory} is not in PATH: put it there, before the directories of kmod's tools")
    else:
        before = folders[: folders.index(directory)]
        for name in NAMES:
            other = next((f"{entry}/{name}" for entry in before if os.path.exists(f"{entry}/{name}")), "")
            if other:
                notes.append(f"{other} is found first: {directory} has to come earlier in PATH")
                break
    current = _kernel_modprobe()
    if current and current != f"{directory}/modprobe":
        notes.append(
            f"the kernel itself runs {current}: to change that, write {directory}/modprobe"
            " to /proc/sys/kernel/modprobe"
        )
    return notes


def _kernel_modprobe() -> str:
    """What the kernel calls when it wants a module; "" if it calls nothing or cannot be asked."""
    try:
        with open("/proc/sys/kernel/modprobe", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""
