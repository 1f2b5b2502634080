# SPDX-License-Identifier: MIT
"""What a run read, for the next one: exact on files that were added, changed, deleted or replaced.

A file is taken for the one that was read if its path, size, inode, mtime and ctime are the same, and if its ctime
was old enough when it was read: a change within the resolution of the clock leaves it as it is (as with git's
index). Such a file is read again. A cache that is damaged, of another directory or somebody else's is no cache.

It is two files. The base has what modules said at some time; the head has which files there are, where each one's
words are, and the words of the few that are not in the base. So a run after a small change writes the head alone.
"""

from __future__ import annotations

import errno
import os
from array import array
from binascii import crc32
from collections.abc import Sequence
from itertools import chain

from lkm import __version__
from lkm.tree.depmod.search import Found, Identity, stat_identity
from lkm.tree.depmod.sections import Sections, is_ours, time_of_ours, write_sections
from lkm.tree.depmod.store import (
    Outcome,
    StoreError,
    Texts,
    pack_outcomes,
    pack_texts,
    unpack_outcomes,
)

__all__ = [
    "MAX_IN_HEAD",
    "Cache",
    "Knowledge",
    "default_cache",
    "distrust",
    "identities_of",
    "is_racy",
    "state_of",
]

_PLACE, _STATE, _PATHS, _IDENTITIES, _ORDER, _BASE, _WHERE, _OUTCOMES, _UNMET = range(9)
_SECTIONS = 9
_BASE_SECTIONS = 2  # outcomes, unmet
MAX_IN_HEAD = 64  # modules whose words are not in the base; for more it is made anew
_KEPT = 64  # files in the same directory: two for each tree

_COARSE = 2_100_000_000  # ns: a file system that counts whole seconds may count every other (FAT)
_FINE = 100_000_000  # ns: more than a tick of any kernel's clock
_RACY = -1  # in place of a size


class Knowledge:
    """What modules said, in no order: `where` has for each file of the search, and `order` in kmod's, a place in it.

    order     files in kmod's order, as numbers of the search
    outcomes  what modules say; their imports are those that a module exports
    in_base   how many of them are in the base
    """

    def __init__(self, outcomes: list[Outcome], where: list[int], order: list[int], in_base: int) -> None:
        self.outcomes, self.where, self.order, self.in_base = outcomes, where, order, in_base


def default_cache() -> str:
    """The directory of this user's caches. Root's is root's alone, whatever a user's environment says."""
    if os.geteuid() == 0:
        return "/var/cache/lkm/depmod"
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (given if given.startswith("/") else os.path.expanduser("~/.cache")) + "/lkm/depmod"


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
        self._name = b"%08x-%08x" % (crc32(top), crc32(output))
        self._path = os.path.join(self._directory, self._name)
        self._sections = Sections(self._path, _SECTIONS)
        self._base = Sections(self._path + b".base", _BASE_SECTIONS)
        self._unmet: tuple[Texts, ...] | None = None  # until it is asked for
        if self._sections.read(_PLACE) != self._place or self._sections.read(_BASE) != self._base.mark:
            self.close()

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

    def changed(self, paths: bytes, identities: array[int]) -> list[int] | None:
        """Which files are not as it knows them; None if they are not the same ones at the same places."""
        sections, now = self._sections, identities.tobytes()
        before = sections.read(_IDENTITIES) if sections.read(_PATHS) == paths else None
        if before is None or len(before) != len(now):
            return None
        return [at // 32 for at in range(0, len(now), 32) if now[at : at + 32] != before[at : at + 32]]

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
        base, own = self._base.read(0), self._sections.read(_OUTCOMES)
        where, order = self._sections.read(_WHERE), self._sections.read(_ORDER)
        if base is None or own is None or where is None or order is None:
            return None
        if len(where) != 4 * count or len(order) != 4 * count:
            return None
        try:
            outcomes = unpack_outcomes(base)
            in_base = len(outcomes)
            outcomes += unpack_outcomes(own)
        except StoreError:
            return None
        return Knowledge(outcomes, array("I", where).tolist(), array("I", order).tolist(), in_base)

    def read_unmet(self, place: int) -> bytes:
        """Of an outcome the imports that no module exports, as `used_by_and_split` has them.

        IndexError if there is none, as where the file is damaged.
        """
        if self._unmet is None:
            base, own = self._base.read(1), self._sections.read(_UNMET)
            try:
                self._unmet = () if base is None or own is None else (Texts(base), Texts(own))
            except StoreError:
                self._unmet = ()
        for texts in self._unmet:
            if place < len(texts):
                return texts[place]
            place -= len(texts)
        raise IndexError(place)

    def save(
        self,
        paths: bytes,
        identities: array[int],
        started: int,
        state: bytes,
        *,
        knowledge: Knowledge,
        unmet: dict[int, bytes],
    ) -> None:
        """Put all that in place of what was there. OSError as may be.

        started  when the search began, ns
        unmet    of the outcomes that are not in the base
        """
        _mark_racy(identities, started)
        contents = [b""] * _SECTIONS
        contents[_PLACE], contents[_STATE], contents[_PATHS] = self._place, state, paths
        contents[_IDENTITIES] = identities.tobytes()
        contents[_ORDER] = array("I", knowledge.order).tobytes()
        contents[_WHERE] = array("I", knowledge.where).tobytes()
        own = knowledge.outcomes[knowledge.in_base :]
        own_unmet = [unmet[number] for number in range(knowledge.in_base, len(knowledge.outcomes))]
        directory = _open_directory(self._directory)
        try:
            if not knowledge.in_base:
                self._base.close()
                write_sections(self._name + b".base", directory, [pack_outcomes(own), pack_texts(own_unmet)])
                self._base = Sections(self._path + b".base", _BASE_SECTIONS)
                own, own_unmet = [], []
            contents[_BASE] = self._base.mark
            contents[_OUTCOMES], contents[_UNMET] = pack_outcomes(own), pack_texts(own_unmet)
            write_sections(self._name, directory, contents)
            self.close()
            _drop_oldest(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Nothing is read after this."""
        self._sections.close()
        self._base.close()


def _drop_oldest(directory: int) -> None:
    """Unlink the oldest files that are caches by name and by content: whoever says where may have others there."""
    names = [name for name in map(os.fsencode, os.listdir(directory)) if _is_named_so(name)]
    if len(names) <= _KEPT:
        return
    timed = [(time, name) for name in names for time in [time_of_ours(name, directory)] if time is not None]
    for _, name in sorted(timed)[:-_KEPT]:
        os.unlink(name, dir_fd=directory)


def _is_named_so(name: bytes) -> bool:
    """Whether a file is named as a cache is, or as one that a run was killed over."""
    head, *ends = name.split(b".")
    if ends[:1] == [b"base"]:
        del ends[0]
    first, dash, second = head.partition(b"-")
    return (
        bool(dash)
        and [len(part) for part in (first, second, *ends)] in ([8, 8], [8, 8, 16])
        and not (b"".join([first, second, *ends]).strip(b"0123456789abcdef"))
    )


def _open_directory(path: bytes) -> int:
    """A descriptor of it; it is made, and the one that it is in.

    OSError where that is not in anything (a root without /var/cache keeps none), and where it is a link or others
    may write to it: what is done there is done by names.
    """
    above = os.path.dirname(path)
    for directory in (above, path):
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    if not is_ours(os.fstat(file)):
        os.close(file)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
    return file


def is_racy(identity: Sequence[int], now: int) -> bool:
    """Whether a file that is so at a time (ns) could be changed after it and still be so.

    An image's file system (squashfs) has one time for both, in whole seconds, and perhaps the same one for all
    files: another image in its place would look alike.
    """
    latest = max(identity[2], identity[3])
    if identity[2] == identity[3] and not latest % 1_000_000_000:
        return True
    return latest + _FINE > now or (not latest % 1_000_000_000 and latest + _COARSE > now)


def _mark_racy(identities: array[int], started: int) -> None:
    """Files that could have been changed since without a trace get a size that no file has."""
    limit = started - _COARSE
    for at, latest in enumerate(map(max, identities[2::4], identities[3::4])):
        if (latest > limit or not latest % 1_000_000_000) and is_racy(
            identities[4 * at : 4 * at + 4], started
        ):
            identities[4 * at] = _RACY


def distrust(identities: array[int], number: int) -> None:
    """Have the next run read this file again, whether it changes or not."""
    identities[4 * number] = _RACY
