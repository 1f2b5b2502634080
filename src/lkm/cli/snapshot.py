# SPDX-License-Identifier: MIT
"""Record what a diagnosis needs, as JSON, to be read on any machine: `lkm why --snapshot FILE NAME`.

It holds the names and command lines of processes that touch modules: look before you publish it.
"""

from __future__ import annotations

import argparse
import os
import sys

from lkm.errors import LkmError, UsageError
from lkm.root import Root
from lkm.system.capture import capture

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm snapshot`."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE, not to standard output")
    parser.add_argument("--root", metavar="DIR", default="/", help="read proc/, sys/ and lib/ below DIR")


def run(arguments: argparse.Namespace) -> int:
    """Write the snapshot; what could not be read is said on standard error. LkmError if FILE fails."""
    if not os.path.isdir(arguments.root):
        raise UsageError(
            f"--root: {arguments.root!r} is no directory", remedy="name the root of a recorded tree"
        )
    if arguments.output is not None and not os.path.basename(arguments.output):
        raise UsageError(f"--output: {arguments.output!r} names no file")
    snapshot = capture(Root.live()._replace(path=arguments.root))
    for note in snapshot.notes:
        print(f"lkm: {note}", file=sys.stderr)
    text = snapshot.to_json() + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    _write(arguments.output, text)
    return 0


def _write(path: str, text: str) -> None:
    """Write a file in one step, readable by its owner alone; a device or a pipe is written to as it is."""
    special = os.path.exists(path) and not os.path.isfile(path)
    target = path if special else f"{path}.{os.getpid()}.partial"
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            if not special:
                os.replace(target, path)
        except BaseException:
            if not special:
                os.unlink(target)
            raise
    except OSError as error:
        raise LkmError(
            f"{path} cannot be written: {error.strerror}", remedy="name another file with -o"
        ) from error
