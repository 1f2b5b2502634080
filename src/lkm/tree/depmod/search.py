# SPDX-License-Identifier: MIT
"""Which file stands for which module: directories are gone through as kmod does, so that ties end the same.

Source: kmod 34, tools/depmod.c (`depmod_modules_search`, `depmod_module_is_higher_priority`,
`depmod_modules_sort`), and shared/hash.c for the order of what modules.order does not name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from lkm.formats.depmod_conf import BUILT_IN, EXTERNAL, DepmodConf

__all__ = [
    "EXTENSIONS",
    "Found",
    "Identity",
    "Report",
    "in_order",
    "name_of",
    "search_modules",
    "stat_identity",
]

Report = Callable[[str, str], None]
"""`report(level, text)`: ERROR, NOTICE (why), WARNING or INFO, and what to say."""

Identity = tuple[int, int, int, int]
"""Of a file: size, inode, mtime and ctime (ns). Whoever changes the content changes the ctime."""

Found = dict[bytes, tuple[bytes, Identity]]
"""Module name → path of its file, and the file's identity."""

EXTENSIONS = (b".ko", b".ko.gz", b".ko.xz", b".ko.zst")

_SKIPPED = {b"build", b"source"}
_BUCKETS = 512  # of kmod's hash table of modules
_U32 = 0xFFFFFFFF


def name_of(path: bytes) -> bytes:
    """The module's name: the file's up to its first dot, with `_` for `-`."""
    return path.rpartition(b"/")[2].partition(b".")[0].replace(b"-", b"_")


def stat_identity(status: os.stat_result) -> Identity:
    """What tells a file from every other and from its own past."""
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def search_modules(top: bytes, conf: DepmodConf, report: Report) -> Found:
    """The modules below `top` and in the external directories. OSError if `top` cannot be read."""
    search = _Search(top, conf, report)
    search.walk(top)
    for directory in conf.externals:
        search.walk_external(directory)
    return search.found


class _Search:
    def __init__(self, top: bytes, conf: DepmodConf, report: Report) -> None:
        self.top, self.conf, self.report = top, conf, report
        self.skipped = _SKIPPED.union(conf.excludes)
        self.found: Found = {}

    def walk_external(self, directory: bytes) -> None:
        """The modules of another directory, if it can be opened."""
        try:
            self.walk(directory)
        except OSError as error:
            self.report("ERROR", f"could not open directory {os.fsdecode(directory)}: {error.strerror}")

    def walk(self, directory: bytes) -> None:
        """All modules in `directory` and below. OSError if it cannot be opened."""
        open_ones = [iter(_entries(directory))]  # neither Python's stack nor a descriptor a level
        while open_ones:
            for entry in open_ones[-1]:
                below = self._take(entry)
                if below is not None:
                    open_ones.append(iter(below))
                    break
            else:
                open_ones.pop()

    def _take(self, entry: os.DirEntry[bytes]) -> list[os.DirEntry[bytes]] | None:
        """Add it if it is a module; if it is a directory, what is in it."""
        name = entry.name
        if name in self.skipped:
            return None
        try:
            if entry.is_dir(follow_symlinks=False):
                return _entries(entry.path)
            if not entry.is_file(follow_symlinks=False):
                return self._other(entry)
            if name.endswith(EXTENSIONS) and name not in EXTENSIONS:
                self._add(name, entry.path, os.stat(entry.path))
        except OSError as error:
            self.report("ERROR", f"could not read {os.fsdecode(entry.path)}: {error.strerror}")
        return None

    def _other(self, entry: os.DirEntry[bytes]) -> list[os.DirEntry[bytes]] | None:
        """A symbolic link, or what no module can be."""
        status = os.stat(entry.path)
        path = os.fsdecode(entry.path)
        if stat.S_ISDIR(status.st_mode):
            if not self._contains_itself(entry.path, status):
                return _entries(entry.path)
            self.report("ERROR", f"{path}: leads to a directory that it is in; skipped")
        elif not stat.S_ISREG(status.st_mode):
            self.report("ERROR", f"unsupported file type {path}: {stat.S_IFMT(status.st_mode):o}")
        elif entry.name.endswith(EXTENSIONS) and entry.name not in EXTENSIONS:
            self._add(entry.name, entry.path, status)
        return None

    @staticmethod
    def _contains_itself(path: bytes, status: os.stat_result) -> bool:
        above = path.rpartition(b"/")[0]
        while above and not os.path.samestat(os.stat(above), status):
            above = above.rpartition(b"/")[0]
        return bool(above)

    def _add(self, name: bytes, path: bytes, status: os.stat_result) -> None:
        module = name.partition(b".")[0].replace(b"-", b"_")
        old = self.found.get(module)
        if old is None or not self._is_higher(old[0], path):
            self.found[module] = (
                path,
                (status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns),
            )

    def _is_higher(self, old: bytes, new: bytes) -> bool:
        """Whether the file found first stays the module's."""
        old, new = _stem(old), _stem(new)
        old_below, new_below = self._below(old), self._below(new)
        for override in self.conf.overrides:
            if override == new_below:
                return False
            if override == old_below:
                return True
        rank, built_in, old_rank, new_rank = 0, -1, -1, -1
        for directory in self.conf.searches:
            if directory == BUILT_IN:
                built_in = rank
            elif directory == EXTERNAL:
                for external in self.conf.externals:
                    new_rank = rank if new.startswith(external + b"/") else new_rank
                    old_rank = rank if old.startswith(external + b"/") else old_rank
                    rank += 1
            elif new_below.startswith(directory + b"/"):
                new_rank = rank  # and the old one is not asked, even if it is there too: so it is in kmod
            elif old_below.startswith(directory + b"/"):
                old_rank = rank
            rank += 1
        return (built_in if new_rank < 0 else new_rank) <= (built_in if old_rank < 0 else old_rank)

    def _below(self, path: bytes) -> bytes:
        return path[len(self.top) + 1 :] if path.startswith(self.top) else b""


def _entries(directory: bytes) -> list[os.DirEntry[bytes]]:
    """What is in it, in its order."""
    with os.scandir(directory) as entries:
        return list(entries)


def _stem(path: bytes) -> bytes:
    """The path up to the first dot of the file's name."""
    directory, slash, name = path.rpartition(b"/")
    return directory + slash + name.partition(b".")[0]


def in_order(top: bytes, paths: dict[bytes, bytes], order: bytes | None, report: Report) -> list[bytes]:
    """The names of modules (`paths`: name → path) as kmod numbers them.

    First as modules.order has them (`order` is its content, None without one), the rest as in kmod's hash table.
    """
    known: dict[bytes, None] = {}
    if order is not None:
        prefix = len(top) + 1
        by_path = {
            path[prefix : path.rindex(b"/") + len(name) + 4]: name
            for name, path in paths.items()
            if path.startswith(top + b"/")
        }
        lines = order.split(b"\n")
        if lines.pop():
            place = f"{os.fsdecode(top)}/modules.order:{len(lines) + 1}"
            report("ERROR", f"{place} corrupted line misses '\\n'")
        else:
            known = dict.fromkeys(by_path[line] for line in lines if line in by_path)
    rest = [name for name in paths if name not in known] if known else list(paths)
    rest.sort(key=lambda name: (_hash(name) % _BUCKETS, name))
    return [*known, *rest]


def _hash(name: bytes) -> int:
    """Paul Hsieh's SuperFastHash of an ASCII name, as libkmod has it."""
    value = length = len(name)
    body = length & ~3
    for at in range(0, body, 4):
        value += name[at] | name[at + 1] << 8
        value = (value << 16) ^ ((name[at + 2] | name[at + 3] << 8) << 11) ^ value
        value &= _U32
        value = (value + (value >> 11)) & _U32
    rest = name[body:]
    if len(rest) == 3:
        value += rest[0] | rest[1] << 8
        value ^= value << 16
        value ^= rest[2] << 18
        value &= _U32
        value += value >> 11
    elif len(rest) == 2:
        value = (value + (rest[0] | rest[1] << 8)) & _U32
        value ^= (value << 11) & _U32
        value += value >> 17
    elif rest:
        value = (value + rest[0]) & _U32
        value ^= (value << 10) & _U32
        value += value >> 1
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value &= _U32
        value ^= (value << left) & _U32
        value += value >> right
    return value & _U32
