# SPDX-License-Identifier: MIT
"""modprobe's configuration as a whole: which files count, in which order, and what they say together."""

from __future__ import annotations

import os

from lkm.formats.command_line import parse_command_line
from lkm.formats.modprobe_conf import parse_modprobe_conf, split_softdep, split_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lkm.formats.modprobe_conf import Directive

__all__ = ["CONFIG_DIRECTORIES", "Config", "read_config", "read_file", "read_files_of"]

CONFIG_DIRECTORIES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
"""Where configuration is looked for. A file hides those of the same name in later directories."""

_OF_THE_TREE = ("modules.softdep", "modules.weakdep")
"""What depmod writes; read with the configuration, sorted into it by name."""


class Config:
    """What all files and the kernel's command line say, each kind in order: never changed once it is made.

    aliases, options, install, remove, softdeps, weakdeps
               directives with a value
    blacklist, forbid
               directives with a name only
    problems   messages about what could not be read, in kmod's words
    """

    def __init__(self, directives: Iterable[Directive] = (), problems: Iterable[str] = ()) -> None:
        by_command: dict[str, list[Directive]] = {}
        found = list(problems)
        for directive in directives:
            if directive.problem:
                found.append(directive.problem)
            else:
                by_command.setdefault(directive.command, []).append(directive)
        self.aliases = tuple(by_command.get("alias", ()))
        self.blacklist = tuple(by_command.get("blacklist", ()))
        self.forbid = tuple(by_command.get("forbid", ()))
        self.options = tuple(by_command.get("options", ()))
        self.install = tuple(by_command.get("install", ()))
        self.remove = tuple(by_command.get("remove", ()))
        self.softdeps = tuple(by_command.get("softdep", ()))
        self.weakdeps = tuple(by_command.get("weakdep", ()))
        self.problems = tuple(found)

    def softdep_rows(self) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """(pattern of a module's name, before, after) of each softdep."""
        return [(row.name, *split_softdep(row.value)) for row in self.softdeps]

    def weakdep_rows(self) -> list[tuple[str, tuple[str, ...]]]:
        """(pattern of a module's name, its weakdeps) of each weakdep."""
        return [(row.name, tuple(split_words(row.value))) for row in self.weakdeps]


def read_config(directory: str, paths: Sequence[str], command_line: str = "") -> Config:
    """Read the configuration.

    directory     the module tree, for what depmod has written there
    paths         directories, whose `*.conf` count, and single files; the first of a name hides the others
    command_line  a file such as /proc/cmdline; "": none

    What is not there is passed over; what is there and cannot be read is in the result's `problems`.
    """
    files, problems = _find_files(directory, paths)
    directives: list[Directive] = []
    for name in sorted(files, key=_by_bytes):
        data = read_file(files[name], problems)
        if data is not None:
            directives += parse_modprobe_conf(data, file=files[name])
    if command_line:
        data = read_file(command_line, problems)
        if data is not None:
            directives += parse_command_line(data, file=command_line)
    return Config(directives, problems)


def _find_files(directory: str, paths: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    files = {name: f"{directory}/{name}" for name in _OF_THE_TREE}
    problems: list[str] = []
    for path in paths:
        for name, found in read_files_of(path, problems):
            files.setdefault(name, found)
    return files, problems


def read_files_of(path: str, problems: list[str]) -> list[tuple[str, str]]:
    """(base name, path) of the configuration files that `path` stands for: itself, or what is in it."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return []
    if mode & 0o170000 != 0o040000:
        return [(path.rpartition("/")[2], path)]
    try:
        names = os.listdir(path)
    except OSError as error:
        problems.append(f"opendir({path}): {error.strerror}")
        return []
    found = []
    for name in names:
        if name.startswith(".") or not name.endswith(".conf"):
            continue
        inside = f"{path}/{name}"
        try:
            if os.stat(inside).st_mode & 0o170000 == 0o040000:
                problems.append(f"Directories inside directories are not supported: {inside}")
                continue
        except OSError:
            problems.append(f"Cannot stat directory entry: {inside}")
            continue
        found.append((name, inside))
    return found


def read_file(path: str, problems: list[str] | None = None) -> bytes | None:
    """All of a file; None if it cannot be opened or read. That it is not there, or is not ours, is no problem."""
    try:
        with open(path, "rb", 0) as stream:
            return stream.readall()
    except OSError as error:
        if problems is not None and not isinstance(error, (FileNotFoundError, PermissionError)):
            problems.append(f"{path}: {error.strerror}")
        return None


def _by_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
