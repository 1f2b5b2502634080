# SPDX-License-Identifier: MIT
"""What a run read, for the next one: exact on files that were added, changed, deleted or replaced.

A file is taken for the one that was read if its path, size, inode, mtime and ctime are the same, and if its ctime
was old enough when it was read: a change within the resolution of the clock leaves it as it is (as with git's
index). Such a file is read again. A cache that is damaged, of another directory or somebody else's is no cache.
"""

from __future__ import annotations

import os
from array import array
from binascii import crc32
from collections.abc import Sequence
from itertools import chain

from lkm import __version__
from lkm.tree.depmod.search import Found, Identity, stat_identity
from lkm.tree.depmod.sections import Sections, write_sections
from lkm.tree.depmod.store import (
    Outcome,
    StoreError,
    pack_outcomes,
    pack_texts,
    unpack_outcomes,
    unpack_texts,
)

__all__ = ["Cache", "Knowledge", "default_cache", "identities_of", "is_racy", "state_of"]

_PLACE, _STATE, _PATHS, _IDENTITIES, _ORDER, _OUTCOMES, _UNMET = range(7)
_SECTIONS = 7
_KEPT = 32  # caches of other trees in the same directory

_COARSE = 2_100_000_000  # ns: a file system that counts whole seconds may count every other (FAT)
_FINE = 100_000_000  # ns: more than a tick of any kernel's clock
_RACY = -1  # in place of a size


class Knowledge:
    """All that a run found out, in the order of the search but for `order`.

    order   names in kmod's order, as numbers of the search
    unmet   imports that nobody exports: they are not in the outcomes
    """

    def __init__(self, outcomes: list[Outcome], order: list[int], unmet: list[bytes]) -> None:
        self.outcomes, self.order, self.unmet = outcomes, order, unmet


def default_cache() -> str:
    """The directory of this user's caches."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given.startswith("/"):
        return f"{given}/lkm/depmod"
    return "/var/cache/lkm/depmod" if os.geteuid() == 0 else os.path.expanduser("~/.cache/lkm/depmod")


def identities_of(found: Found) -> array[int]:
    """Of each file four numbers, in the order of the search."""
    return array("q", chain.from_iterable(identity for _, identity in found.values()))


def state_of(paths: list[bytes]) -> list[Identity | None]:
    """What these files are now; None: not there."""
    return [_identity(path) for path in paths]


def _identity(path: bytes) -> Identity | None:
    try:
        return stat_identity(os.stat(path))
    except OSError:
        return None


class Cache:
    """The cache of one module directory and one place for the files."""

    def __init__(self, directory: str, top: bytes, output: bytes) -> None:
        status = os.stat(top)
        where = b"%d %d\0%s\0%s" % (status.st_dev, status.st_ino, top, output)
        self._place = __version__.encode() + b"\0" + where
        self._directory = os.fsencode(directory)
        self._path = os.path.join(self._directory, b"%08x-%08x" % (crc32(top), crc32(output)))
        self._sections = Sections(self._path, _SECTIONS)
        if self._sections.read(_PLACE) != self._place:
            self._sections.close()

    @property
    def found(self) -> bool:
        """Whether there is a cache of this place."""
        return self._sections.found

    def is_of(self, paths: bytes, identities: array[int]) -> bool:
        """Whether it knows just these files, as they are."""
        sections = self._sections
        return sections.read(_PATHS) == paths and sections.read(_IDENTITIES) == identities.tobytes()

    def read_state(self) -> bytes:
        """What was said of the state of everything else."""
        return self._sections.read(_STATE) or b""

    def read_files(self) -> dict[bytes, tuple[int, tuple[int, ...]]]:
        """Path → number in the search, and identity."""
        paths, blob = self._sections.read(_PATHS), self._sections.read(_IDENTITIES)
        if not paths or not blob or len(blob) % 32:
            return {}
        numbers = array("q", blob).tolist()
        names = paths.split(b"\0")
        if len(names) * 4 != len(numbers):
            return {}
        quads = zip(*[iter(numbers)] * 4)
        return {path: (number, quad) for number, (path, quad) in enumerate(zip(names, quads))}

    def read_knowledge(self, count: int) -> Knowledge | None:
        """What is known of the `count` files; None if it is damaged."""
        blocks = [self._sections.read(number) for number in (_OUTCOMES, _ORDER, _UNMET)]
        outcomes, order, unmet = blocks
        if outcomes is None or order is None or unmet is None or len(order) != 4 * count:
            return None
        try:
            found = Knowledge(unpack_outcomes(outcomes), array("I", order).tolist(), unpack_texts(unmet))
        except StoreError:
            return None
        return found if len(found.outcomes) == len(found.unmet) == count else None

    def save(
        self, paths: bytes, identities: array[int], started: int, state: bytes, knowledge: Knowledge
    ) -> None:
        """Put all that in place of what was there. `started`: when the search began, ns. OSError as may be."""
        self._sections.close()
        _mark_racy(identities, started)
        _make_directory(self._directory)
        contents = [b""] * _SECTIONS
        contents[_PLACE], contents[_STATE], contents[_PATHS] = self._place, state, paths
        contents[_IDENTITIES] = identities.tobytes()
        contents[_ORDER] = array("I", knowledge.order).tobytes()
        contents[_OUTCOMES] = pack_outcomes(knowledge.outcomes)
        contents[_UNMET] = pack_texts(knowledge.unmet)
        write_sections(self._path, contents)
        self._drop_oldest()

    def close(self) -> None:
        """Nothing is read after this."""
        self._sections.close()

    def _drop_oldest(self) -> None:
        names = os.listdir(self._directory)
        if len(names) > _KEPT:
            paths = [os.path.join(self._directory, name) for name in names]
            paths.sort(key=os.path.getmtime)
            for path in paths[:-_KEPT]:
                os.unlink(path)


def _make_directory(path: bytes) -> None:
    """Make it, and the one that it is in.

    OSError where that is not in anything: a root without /var/cache keeps none.
    """
    above = os.path.dirname(path)
    for directory in (above, path):
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)


def is_racy(identity: Sequence[int], now: int) -> bool:
    """Whether a file that is so at a time (ns) could be changed after it and still be so."""
    latest = max(identity[2], identity[3])
    return latest + _FINE > now or (not latest % 1_000_000_000 and latest + _COARSE > now)


def _mark_racy(identities: array[int], started: int) -> None:
    """Files that could have been changed since without a trace get a size that no file has."""
    limit = started - _COARSE
    for at, latest in enumerate(map(max, identities[2::4], identities[3::4])):
        if latest > limit and is_racy(identities[4 * at : 4 * at + 4], started):
            identities[4 * at] = _RACY
