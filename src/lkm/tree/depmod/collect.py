# SPDX-License-Identifier: MIT
"""All modules and what they say: from the cache what is known, the rest from the files."""

from __future__ import annotations

import os

from lkm.system.forked import processors
from lkm.tree.depmod.cache import MAX_IN_HEAD, Cache, Knowledge, distrust, identities_of
from lkm.tree.depmod.read import read_modules
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.resolve import plain_name, used_by, used_by_and_split
from lkm.tree.depmod.search import Found
from lkm.tree.depmod.store import Outcome

__all__ = ["Collection"]

_MAX_SETTLED = 64  # files that were read now; of more nobody asks what they needed before
_MAX_NEW_NAMES = 32  # more new exports than that: what everybody needs is read anew


class Collection:
    """What the search has found, and the cache knows of it.

    paths, outcomes   of each file, in the order of the search
    fresh             numbers of the files that were read now
    known             what the cache knew before: names and outcomes in kmod's order then; empty without one
    same_files        whether it knew these files, at the same places
    """

    def __init__(self, request: DepmodRequest, found: Found, started: int) -> None:
        self.request, self.found, self.started = request, found, started
        self.paths = [path for path, _ in found.values()]
        self.outcomes: list[Outcome] = []
        self.fresh: list[int] = []
        self.known: list[tuple[bytes, Outcome]] = []
        self._knowledge: Knowledge | None = None
        self.same_files = False
        self._where: list[
            int
        ] = []  # of each file: where in the knowledge its words are; less than 0: they are new
        self._settled: dict[
            int, tuple[bytes, bytes]
        ] = {}  # of files read now: imports that are met, and the others
        self._unmet: dict[int, bytes] = {}  # of each file whose words are new
        self._joined = b"\0".join(self.paths)
        self._identities = identities_of(found)
        self.cache: Cache | None = None
        if request.cache and not request.files and not request.prefix and not _is_read_only(request.top):
            self.cache = Cache(request.cache, request.top, request.output)

    @property
    def is_known(self) -> bool:
        """Whether the cache knows just these files, as they are."""
        return self.cache is not None and self.cache.is_of(self._joined, self._identities)

    def read(self) -> None:
        """Fill `outcomes`, `fresh` and `known`."""
        self.outcomes = [((b"", b"", b"", b"", b""), 0)] * len(self.paths)
        self._where = [-1] * len(self.paths)
        if not self._reuse():
            self.known, self.fresh, self._knowledge = [], list(range(len(self.paths))), None
            self._where = [-1] * len(self.paths)
            self._read(self.fresh)

    def _read(self, numbers: list[int]) -> None:
        sizes = [identity[0] for _, identity in self.found.values()]
        outcomes = read_modules(
            [self.paths[number] for number in numbers],
            [sizes[number] for number in numbers],
            self.request.processes or processors(),
        )
        for number, outcome in zip(numbers, outcomes):
            self.outcomes[number] = outcome

    def _reuse(self) -> bool:
        """Take over what is known and read the rest; False if there is nothing to take over."""
        cache = self.cache
        changed = cache.changed(self._joined, self._identities) if cache else None
        files = cache.read_files() if cache and changed is None else {}
        names = self.paths if changed is not None else list(files)
        knowledge = cache.read_knowledge(len(names)) if cache and names else None
        if knowledge is None:
            return False
        outcomes, where = knowledge.outcomes, knowledge.where
        if changed is not None:
            self._where, self.fresh = list(where), changed
            self.outcomes = [outcomes[place] for place in where]
            for number in changed:
                self._where[number] = -1
        else:
            self._take_over(files, knowledge)
        self._read(self.fresh)
        self.known = [(names[number], outcomes[where[number]]) for number in knowledge.order]
        self._knowledge, self.same_files = knowledge, changed is not None
        return self._read_needing(_new_exports(self.known, [self.outcomes[number] for number in self.fresh]))

    def _take_over(self, files: dict[bytes, tuple[int, tuple[int, ...]]], knowledge: Knowledge) -> None:
        """What is known of those files that are as they were; the others are `fresh`."""
        nothing = (-1, ())
        for number, (path, identity) in enumerate(self.found.values()):
            old, old_identity = files.get(path, nothing)
            if old_identity == identity:
                place = self._where[number] = knowledge.where[old]
                self.outcomes[number] = knowledge.outcomes[place]
            else:
                self.fresh.append(number)

    @property
    def order(self) -> list[int] | None:
        """Where the files are the same ones, kmod's order then: it is the same if modules.order is."""
        return self._knowledge.order if self._knowledge and self.same_files else None

    def _read_needing(self, names: list[bytes]) -> bool:
        """Read the files again that need one of these names, which nobody met; False if asking is too much."""
        if not names or self.cache is None:
            return True
        if len(names) > _MAX_NEW_NAMES:
            return False
        unmet = self.cache.read_unmet
        patterns = [b"\0" + dot + name + b"\0" for name in names for dot in (b"", b".")]
        try:
            needing = [
                number
                for number, place in enumerate(self._where)
                if place >= 0 and any(pattern in unmet(place) for pattern in patterns)
            ]
        except IndexError:
            return False
        for number in needing:
            self._where[number] = -1
        self._read(needing)
        self.fresh += needing
        return True

    def is_settled(self) -> bool:
        """Whether everybody exports and needs what it did, so that all depend on whom they did."""
        old, cache = self._knowledge, self.cache
        if not old or not cache or not self.same_files or len(self.fresh) > _MAX_SETTLED:
            return False
        for number in self.fresh:
            place = old.where[number]
            try:
                needed = _still_needed(self.outcomes[number], old.outcomes[place], cache.read_unmet(place))
            except IndexError:
                return False
            if needed is None:
                return False
            self._settled[number] = needed
        return True

    def settle(self) -> None:
        """What `users` does for the cache, where `is_settled`."""
        for number, (met, unmet) in self._settled.items():
            self._unmet[number] = unmet
            (exports, _, aliases, softdeps, weakdeps), code = self.outcomes[number]
            self.outcomes[number] = ((exports, met, aliases, softdeps, weakdeps), code)

    def users(self, numbers: list[int], owners: dict[bytes, int]) -> list[list[int]]:
        """The modules that each module uses, both in an order whose numbers here are `numbers`.

        After this `outcomes` have the imports that are met alone: for the cache.
        """
        prefix, fresh = self.request.prefix, set(self.fresh) if self.cache else set()
        used = []
        for number in numbers:
            (exports, imports, aliases, softdeps, weakdeps), code = self.outcomes[number]
            if number in fresh:
                users, met, self._unmet[number] = used_by_and_split(imports, owners)
                self.outcomes[number] = ((exports, met, aliases, softdeps, weakdeps), code)
                used.append(users)
            else:
                used.append(used_by(imports, owners, prefix))
        return used

    def save(self, state: bytes, order: list[int]) -> None:
        """Keep all this for the next run, if it can be kept: without a cache it is slower, and right."""
        cache, old = self.cache, self._knowledge
        if cache is None:
            return
        for number, (_, code) in enumerate(self.outcomes):
            if code:  # it may have been this Python, or this moment: no memory, no decompressor
                distrust(self._identities, number)
        in_base = old.in_base if old else 0
        own = [number for number, place in enumerate(self._where) if not 0 <= place < in_base]
        if len(own) > MAX_IN_HEAD or not old:
            in_base, own = 0, list(range(len(self._where)))
        outcomes = old.outcomes[:in_base] if old else []
        where, own_unmet = list(self._where), {}
        try:
            for number in own:
                place = self._where[number]
                own_unmet[len(outcomes)] = self._unmet[number] if place < 0 else cache.read_unmet(place)
                where[number] = len(outcomes)
                outcomes.append(self.outcomes[number])
            knowledge = Knowledge(outcomes, where, order, in_base)
            cache.save(
                self._joined, self._identities, self.started, state, knowledge=knowledge, unmet=own_unmet
            )
        except (OSError, IndexError):  # an unreadable part of the old cache: the next run reads the modules
            return


def _still_needed(now: Outcome, before: Outcome, unmet: bytes) -> tuple[bytes, bytes] | None:
    """Of a module that exports and needs what it did, its imports that are met, and the others; else None.

    before, unmet  its words as they are kept, and the imports that nobody met
    """
    (exports, imports, *_), code = now
    (old_exports, old_met, *_), old_code = before
    if (exports, code) != (old_exports, old_code):
        return None
    owners = dict.fromkeys((plain_name(name, b"") for name in old_met[:-1].split(b"\0") if name), 1)
    _, met, others = used_by_and_split(imports, owners)
    known = set(unmet.split(b"\0"))
    return (met, others) if met == old_met and known.issuperset(others.split(b"\0")) else None


def _is_read_only(path: bytes) -> bool:
    """Whether it is on an image, as which another one could come with the same numbers and times."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)  # as preloaded libraries have it
    except OSError:
        return True
    try:
        return bool(os.statvfs(file).f_flag & os.ST_RDONLY)
    finally:
        os.close(file)


def _new_exports(before: list[tuple[bytes, Outcome]], now: list[Outcome]) -> list[bytes]:
    """Names that nobody exported before."""
    known = b"\0" + b"".join([facts[0] for _, (facts, _) in before])
    names = {name for facts, _ in now for name in facts[0].split(b"\0") if name}
    return [name for name in names if b"\0" + name + b"\0" not in known]
