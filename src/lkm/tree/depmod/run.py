# SPDX-License-Identifier: MIT
"""The way from a request to the files. Source: kmod 34, tools/depmod.c (`do_depmod`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from lkm.errors import LkmError
from lkm.formats.depmod_conf import DepmodConf
from lkm.tree.depmod.collect import Collection
from lkm.tree.depmod.config import read_conf
from lkm.tree.depmod.kernel import parse_symvers, parse_system_map
from lkm.tree.depmod.output import FILES, Beside, Modules, Resolved, read_input, render_all, render_texts
from lkm.tree.depmod.read import explain
from lkm.tree.depmod.render import NotAscii
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.resolve import (
    KERNEL,
    find_cycles,
    owners_of,
    plain_name,
    sort_users_first,
    transitive,
)
from lkm.tree.depmod.search import Found, Report, in_order, name_of, search_modules, stat_identity
from lkm.tree.depmod.state import State, is_up_to_date
from lkm.tree.depmod.update import may_update, update_files
from lkm.tree.depmod.write import FileError, Place, leftovers

__all__ = ["DepmodError", "run_depmod"]

Write = Callable[[bytes], None]


class DepmodError(LkmError):
    """The files cannot be made, and the old ones are as they were unless it says so.

    Without a message all has been said.
    """


def run_depmod(request: DepmodRequest, report: Report, write: Write) -> dict[str, object]:
    """Make the files, and say what was done, for JSON. Raises `DepmodError`.

    report  is told what is wrong but does not stop the run
    write   takes what goes to standard output
    """
    if request.quick and request.show:
        return {}
    run = _Run(request, report, write)
    return run.go()


class _Run:
    def __init__(self, request: DepmodRequest, report: Report, write: Write) -> None:
        self.request, self.write, self._report = request, write, report
        self.spoke = False

    def report(self, level: str, text: str) -> None:
        """Tell, and remember that something was told: the next run would have to tell it again."""
        self.spoke = self.spoke or level in ("ERROR", "WARNING")
        self._report(level, text)

    def go(self) -> dict[str, object]:
        """The whole run, with the directory locked from before the search: a later run begins with later files."""
        request = self.request
        kernel = self._read_kernel()
        conf, found = DepmodConf(), _named_files(request)
        if not request.files:
            conf = read_conf(request.configs, request.release.encode(errors="surrogateescape"), self.report)
            if not os.path.isdir(request.top):  # nor is it made, then
                self._search(conf)
        place = None if request.show else self._lock()
        try:
            return self._go(kernel, conf, found, place)
        finally:
            if place:
                place.close()

    def _lock(self) -> Place:
        """The directory for the files."""
        directory = self.request.output
        try:
            os.makedirs(directory, 0o755, exist_ok=True)
            return Place(directory, lambda text: self._report("WARNING", text))
        except OSError as error:
            raise DepmodError(
                f"could not create directory {os.fsdecode(directory)}: {error.strerror}"
            ) from error

    def _go(
        self, kernel: dict[bytes, int] | None, conf: DepmodConf, found: Found, place: Place | None
    ) -> dict[str, object]:
        request, started = self.request, time.time_ns()
        if not request.files:
            found = self._search(conf)
        collection = Collection(request, found, started)
        state = State(request, conf)
        if self._nothing_to_do(collection, state):
            return self._summary(len(found), [], [], [])
        collection.read()
        modules = self._in_order(found, collection, state)
        unreadable = [path for path, (_, code) in zip(modules.paths, modules.outcomes) if code]
        for path, (_, code) in zip(modules.paths, modules.outcomes):
            if code:
                self.report("ERROR", f"failed to load symbols from {os.fsdecode(path)}: {os.strerror(code)}")
                reason = explain(path)
                if reason:
                    self.report("NOTICE", f"{os.path.basename(os.fsdecode(path))}: {reason}")
        update = self._may_update(collection, state, modules)
        written: list[bytes] | None = None
        if update and place and self._is_plain(kernel) and collection.is_settled():
            written = self._make_files(collection, state, modules, None, update=True, place=place)
        if written is None:
            written = self._resolve_and_write(collection, state, modules, kernel, update=update, place=place)
        return self._summary(len(found), collection.fresh, unreadable, written)

    def _may_update(self, collection: Collection, state: State, modules: Modules) -> bool:
        """Whether the files are as the run before left them, without anything to tell, and its modules are known."""
        cache = collection.cache
        if not cache or leftovers(self.request.output) or not state.compare(cache.read_state()):
            return False
        return may_update(collection.known, modules.paths)

    def _is_plain(self, kernel: dict[bytes, int] | None) -> bool:
        """Whether nothing is to be told of what modules need."""
        request = self.request
        return kernel is None and not (request.verbose or request.warn or request.errors or request.prefix)

    def _resolve_and_write(
        self,
        collection: Collection,
        state: State,
        modules: Modules,
        kernel: dict[bytes, int] | None,
        *,
        update: bool,
        place: Place | None,
    ) -> list[bytes]:
        """Find out who needs whom, and make the files; or show them, without a place for them."""
        request = self.request
        owners = owners_of(modules.column(0), request.prefix, dict.fromkeys(kernel or (), KERNEL))
        beside = Beside(request, modules, owners, wanted=not update and not request.show)
        try:
            needs = self._resolve(collection, modules, owners, kernel)
            if not place:
                self._show(modules, owners, needs)
                return []
            resolved = Resolved(owners, needs, beside)
            return self._make_files(collection, state, modules, resolved, update=update, place=place) or []
        finally:
            beside.end()

    def _show(self, modules: Modules, owners: dict[bytes, int], needs: list[list[int]]) -> None:
        for _, content in render_texts(modules, owners, needs, self.report):
            self.write(content)

    def _summary(
        self, modules: int, fresh: list[int], unreadable: list[bytes], written: list[bytes]
    ) -> dict[str, object]:
        return {
            "directory": os.fsdecode(self.request.output),
            "modules": modules,
            "read": len(fresh),
            "unreadable": [os.fsdecode(path) for path in unreadable],
            "written": [name.decode() for name in written],
        }

    def _nothing_to_do(self, collection: Collection, state: State) -> bool:
        request = self.request
        if request.files or request.show or leftovers(request.output):
            return False
        cache = collection.cache
        if cache is None or not cache.found:
            return request.quick and is_up_to_date(request.top, request.output, collection.found)
        if not collection.is_known:
            return False
        was_quiet = state.compare(cache.read_state())
        if was_quiet is None:
            return False
        return request.quick or (was_quiet and not (request.verbose or request.warn or request.errors))

    def _search(self, conf: DepmodConf) -> Found:
        try:
            return search_modules(self.request.top, conf, self.report)
        except OSError as error:
            self.report(
                "ERROR", f"could not open directory {os.fsdecode(self.request.top)}: {error.strerror}"
            )
            raise DepmodError(f"could not search modules: {error.strerror}") from error

    def _in_order(self, found: Found, collection: Collection, state: State) -> Modules:
        top, cache, numbers = self.request.top, collection.cache, collection.order
        if numbers is None or cache is None or not state.compare(cache.read_state()):
            order = read_input(top, b"modules.order", self.report)
            names = in_order(top, {name: path for name, (path, _) in found.items()}, order, self.report)
            places = {name: number for number, name in enumerate(found)}
            numbers = [places[name] for name in names]
        else:  # and the run before had nothing to tell of it
            all_names = list(found)
            names = [all_names[number] for number in numbers]
        paths = [collection.paths[number] for number in numbers]
        return Modules(top, names, paths, [collection.outcomes[number] for number in numbers], numbers)

    def _read_kernel(self) -> dict[bytes, int] | None:
        """What the kernel exports, and each one's CRC; None if that was not said."""
        request = self.request
        name = request.symvers or request.system_map
        if not name:
            if request.errors:
                self.report("WARNING", "-e needs -E or -F")
            return None
        try:
            with open(name, "rb") as file:
                data = file.read()
        except OSError as error:
            raise DepmodError(f"could not load {name}: {error.strerror}") from error
        parse = parse_symvers if request.symvers else parse_system_map
        return parse(data, name, request.prefix, self.report)

    def _resolve(
        self,
        collection: Collection,
        modules: Modules,
        owners: dict[bytes, int],
        kernel: dict[bytes, int] | None,
    ) -> list[list[int]]:
        """Of each module all that it needs."""
        request = self.request
        used = collection.users(modules.numbers, owners)
        if request.verbose:
            self._tell_needs(modules, owners, used)
        if request.errors and kernel is not None:
            from lkm.tree.depmod.check import check_symbols

            check_symbols(request, modules.paths, kernel, owners, self.report)
        ordered = sort_users_first(used)
        if len(ordered) < len(used):
            self._tell_cycles(modules.names, used, ordered)
            raise DepmodError("")
        return transitive(used, ordered)

    def _tell_needs(self, modules: Modules, owners: dict[bytes, int], used: list[list[int]]) -> None:
        for path, names, users in zip(modules.paths, modules.column(1), used):
            told: set[int] = set()
            for name in names[:-1].split(b"\0") if users else ():
                plain = plain_name(name, self.request.prefix)
                owner = owners.get(plain, KERNEL)
                if owner and owner not in told:
                    told.add(owner)
                    self.write(path + b' needs "' + plain + b'": ' + modules.paths[owner - 1] + b"\n")

    def _tell_cycles(self, names: list[bytes], used: list[list[int]], ordered: list[int]) -> None:
        def tell(cycle: list[int]) -> None:
            text = " -> ".join(os.fsdecode(names[number]) for number in cycle)
            self.report("ERROR", f"Cycle detected: {text}")

        count = find_cycles(used, ordered, tell)
        self.report("ERROR", f"Found {count} modules in dependency cycles!")

    def _make_files(
        self,
        collection: Collection,
        state: State,
        modules: Modules,
        resolved: Resolved | None,
        *,
        update: bool,
        place: Place,
    ) -> list[bytes] | None:
        """Those that were written. Without `resolved` everybody needs what it did: None if that is not enough."""
        request, directory = self.request, self.request.output
        try:
            contents = None
            if update:
                contents = update_files(directory, collection.known, modules, resolved, report=self.report)
            if resolved is None:
                if contents is None:
                    return None
                collection.settle()
            elif contents is None:
                contents = render_all(request, modules, resolved, report=self.report)
            place.replace(contents)
            collection.save(state.render(quiet=not self.spoke), modules.numbers)
        except NotAscii as bad:
            text = bad.key.decode("utf-8", "backslashreplace")
            raise DepmodError(f"Module index: only 7-bit ASCII is supported: {text}") from bad
        except FileError as failed:
            mixed = "; some of the other files are new: run depmod again" if failed.mixed else ""
            raise DepmodError(
                f"could not write {os.fsdecode(failed.path)}: {failed.error.strerror}{mixed}"
            ) from failed
        return [name for name in FILES if name in contents]


def _named_files(request: DepmodRequest) -> Found:
    found: Found = {}
    for path in request.files:
        text, name = os.fsdecode(path), name_of(path)
        if not path.startswith(b"/"):
            raise DepmodError(f"{text}: not absolute path.")
        try:
            status = os.stat(path)
        except OSError as error:
            raise DepmodError(f"could not create module {text}: {error.strerror}") from error
        if name in found:
            raise DepmodError(f"could not add module {text}: {os.fsdecode(found[name][0])} has the same name")
        found[name] = (path, stat_identity(status))
    return found
