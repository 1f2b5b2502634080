# SPDX-License-Identifier: MIT
"""Only the files that a small change changes, made from what they were: the indexes are patched.

The values in the indexes carry the modules' numbers, which change where a module is added or taken away before
others: then they are renumbered first. What is gone gets a number behind all others, and is patched away with it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from lkm.formats.index_patch import patch_index, values_of
from lkm.formats.index_renumber import renumber_index
from lkm.formats.index_writer import pack_values
from lkm.tree.depmod import render
from lkm.tree.depmod.output import Modules, Resolved, sorted_symbols
from lkm.tree.depmod.search import Report, name_of
from lkm.tree.depmod.store import Outcome

__all__ = ["may_update", "update_files"]

_MAX_CHANGED = 64  # modules; for more the indexes are made anew
_EXPORTS, _IMPORTS, _ALIASES, _SOFTDEPS, _WEAKDEPS = range(5)
_NOTHING: Outcome = ((b"", b"", b"", b"", b""), 0)

Before = list[tuple[bytes, Outcome]]
"""Path and outcome of each module, in kmod's order."""


def may_update(before: Before, paths: list[bytes]) -> bool:
    """Whether the modules that are still there are in the order in which they were."""
    if abs(len(before) - len(paths)) > _MAX_CHANGED:
        return False
    now, then = set(paths), {path for path, _ in before}
    return bool(then) and [path for path, _ in before if path in now] == [
        path for path in paths if path in then
    ]


def update_files(
    directory: bytes,
    before: Before,
    modules: Modules,
    resolved: Resolved | None,
    *,
    report: Report,
) -> dict[bytes, bytes] | None:
    """The content of each file that is not what it was; None if they have to be made anew.

    directory  where the files are, just as the run before left them
    before     what the modules were then
    resolved   who needs whom; None if they are the same modules, and nobody needs or exports anything else
    """
    update = _Update(directory, before, modules)
    if len(update.changed) > _MAX_CHANGED:
        return None
    try:
        contents: dict[bytes, bytes | None] = {**update.dependencies(resolved)}
        if resolved and (update.shifted or update.differs(_EXPORTS)):
            contents.update(update.symbols(resolved.owners))
        if update.shifted or update.differs(_ALIASES):
            contents.update(update.aliases(report))
        for column, word, heading in ((_SOFTDEPS, b"softdep", b"Soft"), (_WEAKDEPS, b"weakdep", b"Weak")):
            if update.differs(column):
                contents[b"modules." + word] = render.word_text(
                    word, heading, modules.names, modules.column(column)
                )
    except OSError:  # a file that was there a moment ago
        return None
    except (
        RecursionError,
        ValueError,
        LookupError,
        struct.error,
    ):  # an index that nests too deep, or is not sound
        return None
    made = {name: content for name, content in contents.items() if content is not None}
    return made if len(made) == len(contents) else None


class _Update:
    """Modules by their numbers now, and behind them those that are gone.

    names, old, now   of each its name, and what it said and says: `_NOTHING` where it is new or gone
    numbers           of each module before: its number here
    shifted           whether any module that was there has another number
    changed           the numbers of those that do not say what they said
    """

    def __init__(self, directory: bytes, before: Before, modules: Modules) -> None:
        self.directory, self.before, self.modules = directory, before, modules
        places = {path: number for number, path in enumerate(modules.paths)}
        gone = [path for path, _ in before if path not in places]
        places.update({path: number for number, path in enumerate(gone, len(modules.paths))})
        self.numbers = [places[path] for path, _ in before]
        self.shifted = self.numbers != list(range(len(before)))
        self.names = [*modules.names, *map(name_of, gone)]
        self.now = [*modules.outcomes, *[_NOTHING] * len(gone)]
        self.old = [_NOTHING] * len(self.now)
        for number, (_, outcome) in zip(self.numbers, before):
            self.old[number] = outcome
        self.changed = [number for number, pair in enumerate(zip(self.old, self.now)) if pair[0] != pair[1]]

    def differs(self, column: int) -> bool:
        """Whether any module says something else than before, of one kind."""
        return any(self.now[number][0][column] != self.old[number][0][column] for number in self.changed)

    def _content(self, name: bytes) -> bytes:
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def _index(self, name: bytes, texts: list[bytes], most: int) -> bytes:
        """An index with today's numbers. ValueError if it has to be made anew.

        texts  what it says of each module before
        most   values that a key has
        """
        data = self._content(name)
        if not self.shifted:
            return data
        made = renumber_index(data, list(zip(range(len(texts)), self.numbers, texts)), most=most)
        if made is None:
            raise ValueError(name)
        return made

    def _names_before(self) -> list[bytes]:
        return [self.names[number] for number in self.numbers]

    def dependencies(self, resolved: Resolved | None) -> dict[bytes, bytes | None]:
        """modules.dep always: its time tells that it is newer than every module. The index if it is not the same."""
        before = self._content(b"modules.dep")
        if not resolved:
            return {b"modules.dep": before}
        lines = render.dependency_lines(self.modules.shown, resolved.needs)
        texts = before.split(b"\n")[:-1]
        old = dict(zip(self.numbers, texts))
        contents: dict[bytes, bytes | None] = {b"modules.dep": b"".join([line + b"\n" for line in lines])}
        changes = {
            self.names[number]: pack_values([(number, line)])
            for number, line in enumerate(lines)
            if line != old.get(number)
        }
        changes.update({name: b"" for name in self.names[len(lines) :] if name not in changes})
        if changes or self.shifted:
            index = self._index(b"modules.dep.bin", texts, 1)
            contents[b"modules.dep.bin"] = _patched(index, changes)
        return contents

    def symbols(self, owners: dict[bytes, int]) -> dict[bytes, bytes | None]:
        """modules.symbols and its index."""
        changes = {}
        for number in self.changed:
            both = self.now[number][0][_EXPORTS] + self.old[number][0][_EXPORTS]
            for symbol in both[:-1].split(b"\0") if both else ():
                owner = owners.get(symbol, 0) - 1
                changes[b"symbol:" + symbol] = (
                    pack_values([(owner, self.names[owner])]) if owner >= 0 else b""
                )
        changes.pop(b"symbol:", None)
        index = self._index(b"modules.symbols.bin", self._names_before(), 1)
        text = render.symbol_text(self.modules.names, sorted_symbols(owners))
        return {b"modules.symbols": text, b"modules.symbols.bin": _patched(index, changes)}

    def aliases(self, report: Report) -> dict[bytes, bytes | None]:
        """modules.alias and its index, and modules.devname."""
        most = _most_values(outcome[0][_ALIASES] for _, outcome in self.before) if self.shifted else 0
        data = self._index(b"modules.alias.bin", self._names_before(), most)
        changes: dict[bytes, list[tuple[int, bytes]]] = {}
        for number in self.changed:
            now = render.normal_aliases(self.now[number][0][_ALIASES], report)
            was = render.normal_aliases(self.old[number][0][_ALIASES], _silent)
            for alias in {*now, *was}:
                if now.count(alias) == was.count(alias):
                    continue
                rows = changes.get(alias)
                rows = values_of(data, alias) if rows is None else rows
                rows = [row for row in rows if row[0] != number]
                changes[alias] = rows + [(number, self.names[number])] * now.count(alias)
        packed = {alias: pack_values(rows) if rows else b"" for alias, rows in changes.items()}
        contents: dict[bytes, bytes | None] = {b"modules.alias.bin": _patched(data, packed)}
        if self.differs(_ALIASES):
            column = self.modules.column(_ALIASES)
            contents[b"modules.alias"] = self._alias_text()
            both = (self.now[number][0][_ALIASES] + self.old[number][0][_ALIASES] for number in self.changed)
            if any(b"devname:" in aliases for aliases in both):
                contents[b"modules.devname"] = render.devname_text(self.modules.names, column, report)
        return contents

    def _alias_text(self) -> bytes:
        """modules.alias, where the lines of each module that had aliases are replaced."""
        text = self._content(b"modules.alias")
        for number in self.changed:
            name, now, was = self.names[number], self.now[number][0][_ALIASES], self.old[number][0][_ALIASES]
            if was == now:
                continue
            before = b"\n" + render.alias_lines(name, was)
            if not was or text.count(before) != 1:
                return render.alias_text(self.modules.names, self.modules.column(_ALIASES))
            text = text.replace(before, b"\n" + render.alias_lines(name, now))
        return text


def _most_values(aliases: Iterable[bytes]) -> int:
    """As many values as an alias may have at most: some that differ are taken for the same."""
    counts: dict[bytes, int] = {}
    for alias in b"".join(aliases).replace(b"-", b"_").split(b"\0"):
        counts[alias] = counts.get(alias, 0) + 1
    return max(counts.values())


def _patched(data: bytes, changes: dict[bytes, bytes]) -> bytes | None:
    """Raises `render.NotAscii`."""
    return patch_index(data, render.checked(changes)) if changes else data


def _silent(level: str, text: str) -> None:
    """What was said of a module before is said of it no more."""
