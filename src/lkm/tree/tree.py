# SPDX-License-Identifier: MIT
"""`Tree`: what a module tree and its configuration know of a name, as modprobe sees it."""

from __future__ import annotations

import os

from lkm.formats.glob import matches
from lkm.formats.modprobe_conf import BadName, conf_name, module_name_of, split_softdep, split_words
from lkm.tree.config import CONFIG_DIRECTORIES, read_config
from lkm.tree.indexes import ALIAS, BUILTIN, BUILTIN_ALIAS, DEP, SYMBOLS, Indexes
from lkm.tree.match import (
    FROM_ALIAS,
    FROM_BUILTIN,
    FROM_BUILTIN_ALIAS,
    FROM_COMMAND,
    FROM_CONFIG,
    FROM_NAME,
    FROM_SYMBOL,
    Match,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkm.formats.modprobe_conf import Directive
    from lkm.root import Root
    from lkm.tree.config import Config

__all__ = ["Tree"]


class Tree:
    """A module tree: `lib/modules/RELEASE` below a root, with the modprobe.d and the command line that count there.

    root          a path, or an `lkm.root.Root`, whose release then counts
    release       of the kernel; "": the running one
    directory     the module tree itself, where it is not below `root`; results have paths below it
    config_paths  directories and files in place of those of modprobe.d(5)

    Files are opened when they are first asked for, and then kept. A name may be written with `-` or `_`. Nothing
    raises because a file is missing: a tree without indexes knows no module. What was there and could not be
    read is in `problems`, as messages. Not for several threads.
    """

    def __init__(
        self,
        root: str | Root = "/",
        release: str = "",
        *,
        directory: str = "",
        config_paths: Sequence[str] | None = None,
    ) -> None:
        self.root = root if isinstance(root, str) else root.path
        self.release = release or ("" if isinstance(root, str) else root.release) or os.uname().release
        self.directory = directory or os.path.join(self.root, "lib/modules", self.release)
        self._config_paths = config_paths
        self._config: Config | None = None
        self._indexes = Indexes(self.directory)

    @property
    def config(self) -> Config:
        """What modprobe.d, modules.softdep, modules.weakdep and the kernel's command line say."""
        if self._config is None:
            paths = self._config_paths
            if paths is None:
                paths = [self._below(path) for path in CONFIG_DIRECTORIES]
            self._config = read_config(self.directory, paths, self._below("/proc/cmdline"))
        return self._config

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read so far."""
        found = self._config.problems if self._config else ()
        return (*found, *self._indexes.problems)

    def _below(self, absolute: str) -> str:
        return os.path.join(self.root, absolute[1:])

    # What a name is

    def lookup(self, name: str) -> tuple[Match, ...]:
        """The modules that `modprobe NAME` would load, in order; empty if there are none.

        A name, an alias (`pci:v…`), a name from the configuration, or `symbol:NAME`. The first source that knows
        it decides, in kmod's order: aliases of the configuration, modules.dep, modules.symbols, install and
        remove commands, modules.alias, modules.builtin, aliases of what is built in. BadName, a ValueError, for a
        bracket without its partner.
        """
        wanted = conf_name(name)
        return (
            self._lookup_config(wanted)
            or self._lookup_name(wanted)
            or self._lookup_symbol(wanted)
            or self._lookup_command(wanted)
            or tuple(Match(found, wanted, FROM_ALIAS) for found in self._indexes.search_wild(ALIAS, wanted))
            or ((Match(module_name_of(wanted), "", FROM_BUILTIN),) if self.is_builtin(wanted) else ())
            or tuple(
                Match(found, wanted, FROM_BUILTIN_ALIAS)
                for found in self._indexes.search_wild(BUILTIN_ALIAS, wanted)
            )
        )

    def _lookup_config(self, wanted: str) -> tuple[Match, ...]:
        rows = self.config.aliases
        return tuple(Match(row.value, row.name, FROM_CONFIG) for row in rows if matches(row.name, wanted))

    def _lookup_name(self, wanted: str) -> tuple[Match, ...]:
        if ":" in wanted or self._line(wanted) is None:
            return ()
        return (Match(module_name_of(wanted), "", FROM_NAME),)

    def _lookup_symbol(self, wanted: str) -> tuple[Match, ...]:
        if not wanted.startswith("symbol:"):
            return ()
        found = self._indexes.search_wild(SYMBOLS, wanted)
        return tuple(Match(name, wanted, FROM_SYMBOL) for name in found)

    def _lookup_command(self, wanted: str) -> tuple[Match, ...]:
        for row in (*self.config.install, *self.config.remove):
            if row.name == wanted:
                return (Match(module_name_of(wanted), "", FROM_COMMAND, command=row),)
        return ()

    # One module

    def path(self, name: str) -> str | None:
        """The module's file, or None if modules.dep does not have it. That the file is there is not asked."""
        line = self._line(module_name_of(name))
        return None if line is None or ":" not in line else self._join(line.partition(":")[0])

    def dependencies(self, name: str) -> tuple[str, ...]:
        """The modules that it needs, all of them, as they have to be loaded: what others need comes first."""
        return tuple(module_name_of(os.path.basename(path)) for path in self.dependency_paths(name))

    def dependency_paths(self, name: str) -> tuple[str, ...]:
        """The files of its dependencies, in the order of `dependencies`."""
        line = self._line(module_name_of(name)) or ""
        words = line.partition(":")[2].replace("\t", " ").split(" ")
        return tuple(self._join(path) for path in reversed(words) if path)

    def is_builtin(self, name: str) -> bool:
        """Whether it is a part of the kernel itself, by modules.builtin."""
        return self._indexes.search(BUILTIN, conf_name(name)) is not None

    def has(self, name: str) -> bool:
        """Whether modules.dep has it: the name as it is, no alias."""
        return self._line(module_name_of(name)) is not None

    def _line(self, name: str) -> str | None:
        return self._indexes.search(DEP, name)

    def _join(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.directory}/{path}"

    # What the configuration says of a module

    def options(self, name: str, alias: str = "") -> str:
        """Its options, those of the alias that led to it included, as the kernel takes them; "": none."""
        wanted = {conf_name(name), alias or conf_name(name)}
        return " ".join(row.value for row in self.config.options if row.value and row.name in wanted)

    def softdeps(self, name: str, *, every: bool = False) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names to load before and after it, by its first softdep alone, as kmod has it, or by `every` one."""
        before: list[str] = []
        after: list[str] = []
        for row in self._matching(self.config.softdeps, name):
            pre, post = split_softdep(row.value)
            before += [each for each in pre if each not in before] if every else pre
            after += [each for each in post if each not in after] if every else post
            if not every:
                break
        return tuple(before), tuple(after)

    def weakdeps(self, name: str, *, every: bool = False) -> tuple[str, ...]:
        """The modules that it may ask for itself: nobody loads them for it, but an initramfs wants them."""
        found: list[str] = []
        for row in self._matching(self.config.weakdeps, name):
            found += [each for each in split_words(row.value) if each not in found]
            if not every:
                break
        return tuple(found)

    def install_command(self, name: str) -> Directive | None:
        """The first install command whose pattern the name matches."""
        return next(self._matching(self.config.install, name), None)

    def remove_command(self, name: str) -> Directive | None:
        """The first remove command whose pattern the name matches."""
        return next(self._matching(self.config.remove, name), None)

    def blacklisted(self, name: str) -> Directive | None:
        """Where it is blacklisted: it is not loaded for an alias of its own, but is by name."""
        wanted = conf_name(name)
        return next((row for row in self.config.blacklist if row.name == wanted), None)

    def forbidden(self, name: str) -> Directive | None:
        """Where it is forbidden: no way of naming it loads it. The directive's name is a pattern."""
        return next(self._matching(self.config.forbid, name), None)

    def _matching(self, rows: Sequence[Directive], name: str) -> Iterator[Directive]:
        wanted = conf_name(name)
        return (row for row in rows if matches(row.name, wanted))

    # All of them

    def is_indexed(self) -> bool:
        """Whether there is a modules.dep at all, in either form."""
        return self._indexes.has(DEP)

    def names(self) -> list[str]:
        """The modules of modules.dep, sorted."""
        return sorted(self.paths())

    def paths(self) -> dict[str, str]:
        """Every module of modules.dep with its file."""
        return {key: self._join(value.partition(":")[0]) for key, _, value in self._indexes.items(DEP)}

    def builtin_names(self) -> list[str]:
        """The modules of modules.builtin, sorted."""
        return sorted({key for key, _, _ in self._indexes.items(BUILTIN)})

    def aliases(self, name: str = "") -> list[tuple[str, str]]:
        """(pattern, module) of each alias that modules bring themselves; of `name` only if it is given."""
        wanted = conf_name(name)
        rows = self._indexes.items(ALIAS)
        return [(key, value) for key, _, value in rows if not name or value == wanted]

    def symbols(self, name: str = "") -> list[tuple[str, str]]:
        """(`symbol:NAME`, module) of each symbol that modules export; of the module `name` only if it is given."""
        wanted = conf_name(name)
        rows = self._indexes.items(SYMBOLS)
        return [(key, value) for key, _, value in rows if not name or value == wanted]

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether it can be looked up at all: its brackets are in pairs."""
        try:
            conf_name(text)
        except BadName:
            return False
        return True
