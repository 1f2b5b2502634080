# SPDX-License-Identifier: MIT
"""kmod's binary indexes: modules.dep.bin, .alias.bin, .symbols.bin, .builtin.bin, .builtin.alias.bin.

A file is a header of three big-endian words (magic, version, offset of the root) and a trie. A node's offset has
flags in its four high bits: whether the node begins with a prefix (the letters that all its keys go on with, ending
in NUL), has children (the first and the last letter, then an offset for each letter between, 0 for none) and has
values (how many, then each: a word with its priority, and a string ending in NUL). Source: kmod 30 and 34,
libkmod/libkmod-index.c, whose version of the format is 2.

Nothing is read before it is asked for, so that a look-up touches a handful of pages of a mapped file.
"""

from __future__ import annotations

from lkm.errors import ParseError
from lkm.formats.glob import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Buffer(Protocol):
        """What bytes and a mapped file have in common."""

        def __len__(self) -> int: ...
        def __getitem__(self, where: slice, /) -> bytes: ...
        def find(self, what: bytes, start: int, /) -> int: ...


__all__ = ["MAGIC", "VERSION", "Index", "ModuleIndexError"]

MAGIC = 0xB007F457
VERSION = 0x00020001
"""Major in the high half: another major is another format. Minors are compatible."""

PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000
OFFSET = 0x0FFFFFFF
LETTERS = 128
"""A key is made of letters below this one; NUL ends it."""

_HEADER = 12
_WILD = (0x2A, 0x3F, 0x5B)  # * ? [
_NO_NODE = (b"", LETTERS, 0, 0, 0, 0)


class ModuleIndexError(ParseError):
    """A binary index that is truncated or corrupt, or of another version; the message has the offset."""


class Index:
    """One index, over the bytes of its file or a mapping of them. Values of a key are in kmod's order.

    Every method raises ModuleIndexError where it comes upon what is corrupt. None loops or recurses on a trie
    that leads back to itself.
    """

    def __init__(self, data: Buffer, *, name: str = "<bytes>") -> None:
        self._data = data
        self._name = name
        if len(data) < _HEADER:
            raise ModuleIndexError(f"{name}: {len(data)} bytes are too few for an index", remedy=_REMEDY)
        magic, version, self._root = (self._word(at) for at in (0, 4, 8))
        if magic != MAGIC:
            raise ModuleIndexError(
                f"{name}: at 0: expected the magic {MAGIC:#x}, found {magic:#x}", remedy=_REMEDY
            )
        if version >> 16 != VERSION >> 16:
            raise ModuleIndexError(
                f"{name}: at 4: expected version {VERSION >> 16}, found {version >> 16}", remedy=_REMEDY
            )

    def search(self, key: str) -> str | None:
        """The first value of exactly this key, or None."""
        wanted = key.encode("utf-8", "surrogateescape")
        at = 0
        offset = self._root
        while offset & OFFSET:
            prefix, first, last, children, count, values = self._node(offset)
            if wanted[at : at + len(prefix)] != prefix:
                return None
            at += len(prefix)
            if at == len(wanted):
                return self._values(values, count)[0][1] if count else None
            letter = wanted[at]
            if not first <= letter <= last:
                return None
            offset = self._word(children + 4 * (letter - first))
            at += 1
        return None

    def search_wild(self, key: str) -> list[str]:
        """The values of all keys that match `key`, the keys being patterns as fnmatch(3) has them.

        Sorted by priority; of two with the same, the one found later is first, as in kmod.
        """
        found: list[tuple[int, str]] = []
        self._descend(key.encode("utf-8", "surrogateescape"), found)
        found.reverse()
        found.sort(key=_priority)
        return [value for _, value in found]

    def items(self) -> Iterator[tuple[str, int, str]]:
        """Every (key, priority, value), in the order in which kmod prints an index: keys by their bytes."""
        yield from self._below(self._root, b"")

    def _descend(self, wanted: bytes, found: list[tuple[int, str]]) -> None:
        """Walk down as far as the key goes without a wildcard, and look below each one on the way."""
        at = 0
        offset = self._root
        while offset & OFFSET:
            prefix, first, last, children, count, values = self._node(offset)
            for place, letter in enumerate(prefix):
                if letter in _WILD:
                    self._match_below(offset, place, b"", wanted[at + place :], found)
                    return
                if wanted[at + place : at + place + 1] != prefix[place : place + 1]:
                    return
            at += len(prefix)
            for letter in _WILD:
                if first <= letter <= last:
                    child = self._word(children + 4 * (letter - first))
                    self._match_below(child, 0, bytes((letter,)), wanted[at:], found)
            if at == len(wanted):
                found += self._values(values, count)
                return
            if not first <= wanted[at] <= last:
                return
            offset = self._word(children + 4 * (wanted[at] - first))
            at += 1

    def _match_below(
        self, offset: int, skip: int, begin: bytes, rest: bytes, found: list[tuple[int, str]]
    ) -> None:
        """Add the values of all keys at or below a node whose pattern, from `begin` on, matches `rest`.

        The first `skip` letters of the node's own prefix are no part of that pattern. Children come before
        their parent, as in kmod.
        """
        text = rest.decode("latin-1")
        stack = [(offset, skip, begin, False)]
        visited: set[int] = set()
        while stack:
            offset, skip, begin, seen = stack.pop()
            if not offset & OFFSET:
                continue
            prefix, first, last, children, count, values = self._node(offset)
            whole = begin + prefix[skip:]
            if not seen:
                self._visit(visited, offset)
                if not _may_begin(whole, text):
                    continue
                stack.append((offset, skip, begin, True))
                for letter in range(last, first - 1, -1):
                    child = self._word(children + 4 * (letter - first))
                    stack.append((child, 0, whole + bytes((letter,)), False))
            elif count and matches(whole.decode("latin-1"), text):
                found += self._values(values, count)

    def _below(self, offset: int, begin: bytes) -> Iterator[tuple[str, int, str]]:
        stack = [(offset, begin)]
        visited: set[int] = set()
        while stack:
            offset, begin = stack.pop()
            if not offset & OFFSET:
                continue
            self._visit(visited, offset)
            prefix, first, last, children, count, values = self._node(offset)
            whole = begin + prefix
            if count:
                key = whole.decode("utf-8", "surrogateescape")
                for priority, value in self._values(values, count):
                    yield key, priority, value
            for letter in range(last, first - 1, -1):
                child = self._word(children + 4 * (letter - first))
                if child:
                    stack.append((child, whole + bytes((letter,))))

    def _visit(self, visited: set[int], offset: int) -> None:
        if offset & OFFSET in visited:
            raise ModuleIndexError(
                f"{self._name}: at {offset & OFFSET:#x}: the trie leads to this node twice", remedy=_REMEDY
            )
        visited.add(offset & OFFSET)

    def _node(self, offset: int) -> tuple[bytes, int, int, int, int, int]:
        """Prefix, first and last letter, where the children are, number of values, where they are."""
        at = offset & OFFSET
        if at == offset:  # the root of an index without keys; there may be no byte of it
            return _NO_NODE
        prefix, first, last, children, count, _ = _NO_NODE
        if not _HEADER <= at < len(self._data):
            raise ModuleIndexError(f"{self._name}: a node at {at:#x}, outside of the file", remedy=_REMEDY)
        if offset & PREFIX:
            prefix, at = self._string(at)
        if offset & CHILDREN:
            letters = self._data[at : at + 2]
            if len(letters) < 2 or not letters[0] <= letters[1] < LETTERS:
                raise ModuleIndexError(
                    f"{self._name}: at {at:#x}: letters of children {bytes(letters)!r}", remedy=_REMEDY
                )
            first, last = letters
            children = at + 2
            at = children + 4 * (last - first + 1)
        if offset & VALUES:
            count = self._word(at)
            at += 4
            if count > (len(self._data) - at) // 5:
                raise ModuleIndexError(
                    f"{self._name}: at {at - 4:#x}: {count} values, more than there is room for",
                    remedy=_REMEDY,
                )
        return prefix, first, last, children, count, at

    def _values(self, at: int, count: int) -> list[tuple[int, str]]:
        found = []
        for _ in range(count):
            priority = self._word(at)
            value, at = self._string(at + 4)
            found.append((priority, value.decode("utf-8", "surrogateescape")))
        return found

    def _word(self, at: int) -> int:
        data = self._data[at : at + 4]
        if len(data) < 4:
            raise ModuleIndexError(f"{self._name}: at {at:#x}: the file ends early", remedy=_REMEDY)
        return int.from_bytes(data, "big")

    def _string(self, at: int) -> tuple[bytes, int]:
        end = self._data.find(b"\0", at)
        if end < 0:
            raise ModuleIndexError(f"{self._name}: at {at:#x}: a string without an end", remedy=_REMEDY)
        return self._data[at:end], end + 1


_REMEDY = "run depmod"


def _may_begin(pattern: bytes, text: str) -> bool:
    """False if no pattern that begins like this one can match: most of a wildcard's subtree need not be read."""
    begin = pattern.rfind(b"[")
    if begin >= 0 and (b"[:" in pattern or pattern.find(b"]", begin + 3) < 0):  # perhaps cut off in a bracket
        return True
    if pattern.endswith(b"\\"):
        return True
    return matches(pattern.decode("latin-1") + "*", text)


def _priority(row: tuple[int, str]) -> int:
    return row[0]
