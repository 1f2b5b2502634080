# SPDX-License-Identifier: MIT
"""One object, from its file to the module's: read, check, assemble, replace."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from lkm.errors import LkmError, UsageError
from lkm.modpost.aliases import find_aliases
from lkm.modpost.assemble import assemble_module
from lkm.modpost.checks import check_object
from lkm.modpost.crcs import read_crcs
from lkm.modpost.kernel import Kernel
from lkm.modpost.objects import read_object
from lkm.modpost.problems import Problem
from lkm.names import module_name
from lkm.system.files import read_bytes

__all__ = ["Outcome", "default_output", "make_module", "modpost"]

_MAX_OBJECT = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]*")


class Outcome(NamedTuple):
    """What became of an object: `image` is the module file, empty where a problem is fatal."""

    name: str
    image: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]
    problems: tuple[Problem, ...]


def default_output(path: str) -> str:
    """NAME.ko for NAME.o, as kbuild has it."""
    return f"{path.removesuffix('.o')}.ko"


def make_module(data: bytes, kernel: Kernel, *, name: str, where: str, crcs: dict[str, int]) -> Outcome:
    """The module `name` of the object in `data`; `where` is its file, for messages.

    Raises ObjectError, ElfError and other LkmErrors for what is no object that a module can be made of.
    """
    found = read_object(data, name=where, machine=kernel.sibling.machine)
    findings = check_object(found, kernel, name=name, crcs=crcs)
    aliases, about_tables = find_aliases(found.elf, kernel.version)
    problems = (*findings.problems, *about_tables)
    image = b""
    if not any(problem.fatal for problem in problems):
        image = assemble_module(found, kernel, findings, name=name, aliases=aliases)
    return Outcome(module_name(name), image, findings.depends, aliases, problems)


def modpost(path: str, kernel: Kernel, output: str) -> Outcome:
    """Make the module file `output` of the object `path`; it is replaced whole, or left alone if a problem is fatal.

    The module is called as its file. UsageError for files that cannot be these two, LkmError as `make_module`.
    """
    stem, suffix = os.path.splitext(os.path.basename(output))
    if suffix != ".ko" or not _NAME.fullmatch(stem):
        raise UsageError(
            f"{output}: a module's file is called NAME.ko, of letters, digits, - and _",
            remedy="name it with -o NAME.ko",
        )
    data = read_bytes(path, limit=_MAX_OBJECT)
    if data is None:
        raise UsageError(f"{path} cannot be read", remedy="name an object file (.o)")
    outcome = make_module(data, kernel, name=stem, where=path, crcs=read_crcs(path))
    if outcome.image:
        _replace(output, outcome.image)
    return outcome


def _replace(path: str, data: bytes) -> None:
    scratch = f"{path}.{os.getpid()}.new"
    try:
        with open(scratch, "xb") as stream:
            try:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(scratch, path)
            except OSError:
                os.unlink(scratch)
                raise
    except OSError as error:
        remedy = f"remove {scratch}" if isinstance(error, FileExistsError) else "name another file with -o"
        raise LkmError(f"{path} cannot be written: {error.strerror}", remedy=remedy) from error
