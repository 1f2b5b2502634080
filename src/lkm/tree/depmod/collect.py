# SPDX-License-Identifier: MIT
"""All modules and what they say: from the cache what is known, the rest from the files."""

from __future__ import annotations

from lkm.tree.depmod.cache import Cache, Knowledge, identities_of
from lkm.tree.depmod.helper import processors
from lkm.tree.depmod.read import read_modules
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.resolve import used_by, used_by_and_split
from lkm.tree.depmod.search import Found
from lkm.tree.depmod.store import Outcome

__all__ = ["Collection"]

_MAX_NEW_NAMES = 32  # more new exports than that: what everybody needs is read anew


class Collection:
    """What the search has found, and the cache knows of it.

    paths, outcomes   of each file, in the order of the search
    fresh             numbers of the files that were read now
    known             what the cache knew before: names and outcomes in kmod's order then; empty without one
    """

    def __init__(self, request: DepmodRequest, found: Found, started: int) -> None:
        self.request, self.found, self.started = request, found, started
        self.paths = [path for path, _ in found.values()]
        self.outcomes: list[Outcome] = []
        self.fresh: list[int] = []
        self.known: list[tuple[bytes, Outcome]] = []
        self._unmet: list[bytes] = []
        self._joined = b"\0".join(self.paths)
        self._identities = identities_of(found)
        self.cache: Cache | None = None
        if request.cache and not request.files and not request.prefix:
            self.cache = Cache(request.cache, request.top, request.output)

    @property
    def is_known(self) -> bool:
        """Whether the cache knows just these files, as they are."""
        return self.cache is not None and self.cache.is_of(self._joined, self._identities)

    def read(self) -> None:
        """Fill `outcomes`, `fresh` and `known`."""
        self.outcomes = [((b"", b"", b"", b"", b""), 0)] * len(self.paths)
        self._unmet = [b""] * len(self.paths)
        if not self._reuse():
            self.known, self.fresh = [], list(range(len(self.paths)))
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
        files = self.cache.read_files() if self.cache else {}
        knowledge = self.cache.read_knowledge(len(files)) if self.cache and files else None
        if knowledge is None:
            return False
        nothing = (-1, ())
        for number, (path, identity) in enumerate(self.found.values()):
            old, old_identity = files.get(path, nothing)
            if old_identity == identity:
                self.outcomes[number] = knowledge.outcomes[old]
                self._unmet[number] = knowledge.unmet[old]
            else:
                self.fresh.append(number)
        self._read(self.fresh)
        needing = self._needing(
            _new_exports(knowledge.outcomes, [self.outcomes[number] for number in self.fresh])
        )
        if needing is None:
            return False
        self._read(needing)
        self.fresh += needing
        names = list(files)
        self.known = [(names[number], knowledge.outcomes[number]) for number in knowledge.order]
        return True

    def _needing(self, names: list[bytes]) -> list[int] | None:
        """The files whose unmet needs one of these names meets; None if asking is too much."""
        if len(names) > _MAX_NEW_NAMES:
            return None
        fresh, needing = set(self.fresh), []
        patterns = [b"\0" + dot + name + b"\0" for name in names for dot in (b"", b".")]
        for number, unmet in enumerate(self._unmet) if patterns else ():
            if number not in fresh and any(pattern in unmet for pattern in patterns):
                needing.append(number)
        return needing

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
        if self.cache is None:
            return
        knowledge = Knowledge(self.outcomes, order, self._unmet)
        try:
            self.cache.save(self._joined, self._identities, self.started, state, knowledge)
        except OSError:
            return


def _new_exports(before: list[Outcome], now: list[Outcome]) -> list[bytes]:
    """Names that nobody exported before."""
    known = b"\0" + b"".join([facts[0] for facts, _ in before])
    names = {name for facts, _ in now for name in facts[0].split(b"\0") if name}
    return [name for name in names if b"\0" + name + b"\0" not in known]
