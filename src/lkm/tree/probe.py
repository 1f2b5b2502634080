# SPDX-License-Identifier: MIT
"""What a load of a name consists of: which modules, in which order, with which options or commands.

The order is kmod 34's (libkmod/libkmod-module.c, kmod_module_get_probe_list), duplicates included: the
dependencies of the module, each between the softdeps that it has, then the module itself in the same way. Softdeps
bring their own dependencies. A module that was named twice in different ways is two candidates, as in kmod.
"""

from __future__ import annotations

import os

from lkm.formats.modprobe_conf import module_name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.formats.modprobe_conf import Directive
    from lkm.tree.match import Match
    from lkm.tree.tree import Tree

__all__ = ["Candidate", "Prober", "Refusal"]


class Candidate:
    """One module of a load; made and filled in by a Prober.

    name      the module's
    alias     what led to it, "" if that was its name
    asked     the names that it was looked up by, which the pattern of an alias need not show
    path      its file; None if there is none: it is built in, or only a command knows it
    builtin   whether it is a part of the kernel
    required  False for what only softdeps want: its failure is no failure
    command   what to run in place of the load; None if there is nothing, or if it must be ignored
    """

    __slots__ = (
        "alias", "asked", "builtin", "deps", "ignore_command", "install", "name", "path", "remove", "required",
        "visited",
    )  # fmt: skip

    def __init__(self, name: str, alias: str, path: str | None, *, builtin: bool) -> None:
        self.name, self.alias, self.path, self.builtin = name, alias, path, builtin
        self.install: Directive | None = None
        self.remove: Directive | None = None
        self.deps: list[Candidate] | None = None
        self.asked: set[str] = set()
        self.visited = self.required = self.ignore_command = False

    @property
    def command(self) -> str | None:
        """The install command that is to run."""
        return self.install.value if self.install and not self.ignore_command else None

    def __repr__(self) -> str:
        return f"Candidate({self.name!r}, alias={self.alias!r})"


class Refusal:
    """A module that must not be loaded, and where that stands. `wanted_by` is what asked for it, "" the user.

    required  whether the whole load is refused with it; False: a softdep, which is left out
    """

    __slots__ = ("name", "required", "wanted_by", "where")

    def __init__(self, name: str, where: str, wanted_by: str, *, required: bool) -> None:
        self.name, self.where, self.wanted_by, self.required = name, where, wanted_by, required

    def __str__(self) -> str:
        asked = f", wanted by {self.wanted_by}," if self.wanted_by else ""
        return f"Module {self.name}{asked} is forbidden by {self.where}"


class Prober:
    """Plans of loads from one tree. Use one for what one command line asks for.

    every_softdep  honour all softdeps of a module, where kmod takes the first alone
    problems       what was found wrong on the way, as messages
    """

    def __init__(self, tree: Tree, *, every_softdep: bool = False) -> None:
        self.tree = tree
        self.problems: list[str] = []
        self._every_softdep = every_softdep
        self._known: dict[tuple[str, str], Candidate] = {}

    def lookup(self, name: str) -> list[Candidate]:
        """What `name` stands for. BadName as `Tree.lookup`."""
        found = [self._of_match(match) for match in self.tree.lookup(name)]
        for candidate in found:
            candidate.asked.add(name)
        return found

    def from_path(self, path: str) -> Candidate:
        """The module of a file, which need not be in the tree. OSError if it is not there."""
        name = module_name_of(path.rpartition("/")[2])
        if not name:
            raise FileNotFoundError(2, os.strerror(2), path)
        os.stat(path)
        candidate = self._known.get((name, ""))
        if candidate is None:
            candidate = self._known[name, ""] = Candidate(name, "", path, builtin=False)
            self._add_commands(candidate)
        elif candidate.path != path:
            raise FileExistsError(17, f"{name} is also {candidate.path}", path)
        return candidate

    def _of_match(self, match: Match) -> Candidate:
        candidate = self._candidate(match.name, match.alias)
        candidate.builtin = candidate.builtin or match.builtin
        if match.command is not None:
            if match.command.command == "install":
                candidate.install = match.command
            else:
                candidate.remove = match.command
        return candidate

    def _candidate(self, name: str, alias: str = "") -> Candidate:
        candidate = self._known.get((name, alias))
        if candidate is None:
            path = self.tree.path(name)
            candidate = Candidate(name, alias, path, builtin=self.tree.is_builtin(name))
            self._known[name, alias] = candidate
            self._add_commands(candidate)
        return candidate

    def _add_commands(self, candidate: Candidate) -> None:
        candidate.install = self.tree.install_command(candidate.name)
        candidate.remove = self.tree.remove_command(candidate.name)

    def candidate(self, name: str) -> Candidate:
        """The module of exactly this name, whether the tree has it or not."""
        return self._candidate(module_name_of(name))

    def dependencies(self, candidate: Candidate) -> list[Candidate]:
        """Its dependencies, as they have to be loaded. None at all if the file of one is not there, as in kmod."""
        if candidate.deps is None:
            candidate.deps = []
            try:
                found = [self.from_path(path) for path in self.tree.dependency_paths(candidate.name)]
            except OSError as error:
                reason = error.strerror or ""
                self.problems.append(f"dependency of {candidate.name}: path={error.filename} error={reason}")
            else:
                candidate.deps = found
        return candidate.deps

    def softdeps(self, candidate: Candidate) -> tuple[list[Candidate], list[Candidate]]:
        """What to load before and after it; names that nothing knows are left out."""
        before, after = self.tree.softdeps(candidate.name, every=self._every_softdep)
        return self._lookup_all(before), self._lookup_all(after)

    def _lookup_all(self, names: tuple[str, ...]) -> list[Candidate]:
        found = []
        for name in names:
            if self.tree.is_name(name):
                found += self.lookup(name)
            else:
                self.problems.append(f"failed to lookup dependency '{name}', continuing anyway.")
        return found

    def options(self, candidate: Candidate) -> str:
        """The options that the configuration has for it."""
        return self.tree.options(candidate.name, candidate.alias)

    def refusal(self, candidate: Candidate, wanted_by: str = "", *, required: bool = True) -> Refusal | None:
        """Why it must not be loaded: itself, or the alias that led to it, is forbidden. Not what is built in."""
        if candidate.builtin or not self.tree.config.forbid:
            return None
        for name in (candidate.name, candidate.alias, *sorted(candidate.asked), _name_inside(candidate)):
            found = self.tree.forbidden(name) if name else None
            if found is not None:
                return Refusal(candidate.name, found.where, wanted_by, required=required)
        return None

    def plan(
        self, target: Candidate, *, ignore_commands: bool = False
    ) -> tuple[list[Candidate], list[Refusal]]:
        """All that is to be loaded for `target`, in order, and what must not be.

        A required module that is forbidden is in both, for it may be loaded already; a softdep that is forbidden,
        or needs what is, is left out of the plan with all that only it would bring.
        """
        for candidate in self._known.values():
            candidate.visited = candidate.required = candidate.ignore_command = False
        planning = _Planning(self)
        planning.run(target, ignore_commands=ignore_commands)
        return planning.order, planning.refusals


def _name_inside(candidate: Candidate) -> str:
    """The name that the module has for the kernel, whatever its file is called; "" where that cannot be read."""
    from lkm.tree.modinfo import ModinfoError, ModinfoReader

    if not candidate.path:
        return ""
    try:
        entries, _ = ModinfoReader().read(candidate.path)
    except ModinfoError:
        return ""
    return next((os.fsdecode(entry[5:]) for entry in entries if entry.startswith(b"name=")), "")


class _Planning:
    """One walk. Its stack holds what is still to be done, the next thing last, so that long chains of softdeps
    need no recursion."""

    def __init__(self, prober: Prober) -> None:
        self.order: list[Candidate] = []
        self.refusals: list[Refusal] = []
        self._prober = prober
        self._todo: list[tuple[str, Candidate, object]] = []

    def run(self, target: Candidate, *, ignore_commands: bool) -> None:
        target.required = True
        self._check(target, "", required=True)
        for each in self._prober.dependencies(target):
            each.required = True
            self._check(each, target.name, required=True)
        self._probe(target, ignore_commands=ignore_commands)
        while self._todo:
            what, candidate, detail = self._todo.pop()
            if what == "append":
                candidate.ignore_command = bool(detail)
                self.order.append(candidate)
            elif what == "fill":
                self._fill(candidate)
            elif not candidate.visited and self._softdep_allowed(candidate, str(detail)):
                self._probe(candidate, ignore_commands=False)

    def _probe(self, candidate: Candidate, *, ignore_commands: bool) -> None:
        candidate.visited = True
        last = ("append", candidate, True) if ignore_commands else ("fill", candidate, None)
        todo = [("fill", each, None) for each in self._prober.dependencies(candidate)]
        self._todo += reversed([*todo, last])

    def _fill(self, candidate: Candidate) -> None:
        before, after = self._prober.softdeps(candidate)
        self._todo += reversed(
            [
                *(("probe", each, candidate.name) for each in before),
                ("append", candidate, before or after),
                *(("probe", each, candidate.name) for each in after),
            ]
        )

    def _softdep_allowed(self, candidate: Candidate, wanted_by: str) -> bool:
        if candidate.required:
            return True
        if self._check(candidate, wanted_by, required=False):
            return False
        needed = self._prober.dependencies(candidate)
        return not any(self._check(each, candidate.name, required=False) for each in needed)

    def _check(self, candidate: Candidate, wanted_by: str, *, required: bool) -> bool:
        refusal = self._prober.refusal(candidate, wanted_by, required=required)
        if refusal is not None:
            self.refusals.append(refusal)
        return refusal is not None
