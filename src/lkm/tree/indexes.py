# SPDX-License-Identifier: MIT
"""The indexes of a module tree, each opened when it is first asked.

kmod reads the `.bin` files and nothing else. Where one is not there, or turns out to be damaged, the text file from
which it was made answers, and `problems` says so of a damaged one.
"""

from __future__ import annotations

import os

from lkm.formats.index import Index, ModuleIndexError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar, Union

    from lkm.formats.index_text import TextIndex

    AnyIndex = Union[Index, TextIndex, None]
    T = TypeVar("T")

__all__ = ["ALIAS", "BUILTIN", "BUILTIN_ALIAS", "DEP", "SYMBOLS", "Indexes"]

DEP, ALIAS, SYMBOLS, BUILTIN, BUILTIN_ALIAS = (
    "modules.dep",
    "modules.alias",
    "modules.symbols",
    "modules.builtin",
    "modules.builtin.alias",
)


class Indexes:
    """The five indexes of `directory`. A look-up in one that has neither form finds nothing."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._open: dict[str, AnyIndex] = {}
        self.problems: list[str] = []

    def search(self, kind: str, key: str) -> str | None:
        """The first value of exactly this key."""
        return self._ask(kind, lambda index: index.search(key), None)

    def search_wild(self, kind: str, key: str) -> list[str]:
        """The values of all keys that match, the keys being patterns."""
        return self._ask(kind, lambda index: index.search_wild(key), list[str]())

    def items(self, kind: str) -> Iterator[tuple[str, int, str]]:
        """Every (key, priority, value)."""
        return iter(self._ask(kind, lambda index: list(index.items()), list[tuple[str, int, str]]()))

    def has(self, kind: str) -> bool:
        """Whether there is such an index, in either form."""
        return self._index(kind) is not None

    def _ask(self, kind: str, question: Callable[[Index | TextIndex], T], default: T) -> T:
        index = self._index(kind)
        try:
            return default if index is None else question(index)
        except ModuleIndexError as error:
            self._damaged(kind, error)
        index = self._open[kind]
        return default if index is None else question(index)

    def _index(self, kind: str) -> AnyIndex:
        if kind not in self._open:
            self._open[kind] = None
            try:
                self._open[kind] = _open_binary(f"{self._directory}/{kind}.bin")
            except ModuleIndexError as error:
                self._damaged(kind, error)
            except OSError:
                self._open[kind] = _open_text(self._directory, kind)
        return self._open[kind]

    def _damaged(self, kind: str, error: ModuleIndexError) -> None:
        text = _open_text(self._directory, kind)
        self._open[kind] = text
        instead = "nothing is found there" if text is None else "its text form is read instead"
        self.problems.append(f"{error.message}; {instead}; {error.remedy}")


def _open_binary(path: str) -> Index:
    """OSError if there is no such file, ModuleIndexError if it is not an index."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        if not size:  # what a crash leaves, or a tree that was made by hand: nothing worth a message
            raise FileNotFoundError(2, "empty", path)
        from mmap import ACCESS_READ, mmap

        return Index(mmap(handle, size, access=ACCESS_READ), name=path)
    finally:
        os.close(handle)


def _open_text(directory: str, kind: str) -> TextIndex | None:
    from lkm.formats import index_text
    from lkm.tree.config import read_file

    name, parse = {
        DEP: (DEP, index_text.parse_dep_text),
        ALIAS: (ALIAS, index_text.parse_alias_text),
        SYMBOLS: (SYMBOLS, index_text.parse_alias_text),
        BUILTIN: (BUILTIN, index_text.parse_builtin_text),
        BUILTIN_ALIAS: ("modules.builtin.modinfo", index_text.parse_builtin_modinfo),
    }[kind]
    data = read_file(f"{directory}/{name}")
    return None if data is None else index_text.TextIndex(parse(data))
