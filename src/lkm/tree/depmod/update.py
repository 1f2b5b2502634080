# SPDX-License-Identifier: MIT
"""Only the files that a small change changes, made from what they were: the indexes are patched.

That serves where every module that was there has kept its number, which the values in the indexes carry: after
changes, and after additions behind the last one. Otherwise all files are made anew.
"""

from __future__ import annotations

import os
import struct

from lkm.formats.index_patch import patch_index, values_of
from lkm.formats.index_writer import pack_values
from lkm.tree.depmod import render
from lkm.tree.depmod.output import Modules, Resolved, sorted_symbols
from lkm.tree.depmod.search import Report
from lkm.tree.depmod.store import Outcome

__all__ = ["may_update", "update_files"]

_MAX_CHANGED = 64  # modules; for more the indexes are made anew
_EXPORTS, _IMPORTS, _ALIASES, _SOFTDEPS, _WEAKDEPS = range(5)
_NOTHING: Outcome = ((b"", b"", b"", b"", b""), 0)


def may_update(before: list[tuple[bytes, Outcome]], paths: list[bytes]) -> bool:
    """Whether every module that was there has kept its number."""
    return 0 < len(before) <= len(paths) and [path for path, _ in before] == paths[: len(before)]


def update_files(
    directory: bytes,
    before: list[tuple[bytes, Outcome]],
    modules: Modules,
    resolved: Resolved | None,
    *,
    report: Report,
) -> dict[bytes, bytes] | None:
    """The content of each file that is not what it was; None if they have to be made anew.

    directory  where the files are, just as the run before left them
    before     path and outcome of each module then, in kmod's order
    resolved   who needs whom; None if they are the same modules, and nobody needs or exports anything else
    """
    count = len(before)
    old = [outcome for _, outcome in before] + [_NOTHING] * (len(modules.paths) - count)
    changed = [number for number, outcome in enumerate(modules.outcomes) if outcome != old[number]]
    if len(changed) > _MAX_CHANGED:
        return None
    update = _Update(directory, modules, old, changed)
    try:
        contents: dict[bytes, bytes | None] = {**update.dependencies(resolved)}
        if resolved and update.differs(_EXPORTS):
            contents.update(update.symbols(resolved.owners))
        if update.differs(_ALIASES):
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
    def __init__(self, directory: bytes, modules: Modules, old: list[Outcome], changed: list[int]) -> None:
        self.directory, self.modules, self.old, self.changed = directory, modules, old, changed

    def differs(self, column: int) -> bool:
        """Whether any module says something else than before, of one kind."""
        outcomes = self.modules.outcomes
        return any(outcomes[number][0][column] != self.old[number][0][column] for number in self.changed)

    def _content(self, name: bytes) -> bytes:
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def _items(self, column: int, number: int) -> list[bytes]:
        """What a module says now, then what it said before."""
        both = self.modules.outcomes[number][0][column] + self.old[number][0][column]
        return both[:-1].split(b"\0") if both else []

    def dependencies(self, resolved: Resolved | None) -> dict[bytes, bytes | None]:
        """modules.dep always: its time tells that it is newer than every module. The index if it is not the same."""
        before = self._content(b"modules.dep")
        if not resolved:
            return {b"modules.dep": before}
        lines = render.dependency_lines(self.modules.shown, resolved.needs)
        old = before.split(b"\n")[:-1]
        contents: dict[bytes, bytes | None] = {b"modules.dep": b"".join([line + b"\n" for line in lines])}
        changes = {
            self.modules.names[number]: pack_values([(number, line)])
            for number, line in enumerate(lines)
            if number >= len(old) or line != old[number]
        }
        if changes:
            contents[b"modules.dep.bin"] = patch_index(
                self._content(b"modules.dep.bin"), render.checked(changes)
            )
        return contents

    def symbols(self, owners: dict[bytes, int]) -> dict[bytes, bytes | None]:
        """modules.symbols and its index."""
        names, changes = self.modules.names, {}
        for number in self.changed:
            for symbol in self._items(_EXPORTS, number):
                owner = owners.get(symbol, 0) - 1
                changes[b"symbol:" + symbol] = pack_values([(owner, names[owner])]) if owner >= 0 else b""
        changes.pop(b"symbol:", None)
        index = patch_index(self._content(b"modules.symbols.bin"), render.checked(changes))
        text = render.symbol_text(names, sorted_symbols(owners))
        return {b"modules.symbols": text, b"modules.symbols.bin": index}

    def aliases(self, report: Report) -> dict[bytes, bytes | None]:
        """modules.alias and its index, and modules.devname."""
        names, column = self.modules.names, self.modules.column(_ALIASES)
        changes: dict[bytes, list[tuple[int, bytes]]] = {}
        data = self._content(b"modules.alias.bin")
        for number in self.changed:
            now = render.normal_aliases(column[number], report)
            was = render.normal_aliases(self.old[number][0][_ALIASES], _silent)
            for alias in {*now, *was}:
                if now.count(alias) == was.count(alias):
                    continue
                rows = changes.get(alias)
                rows = values_of(data, alias) if rows is None else rows
                rows = [row for row in rows if row[0] != number]
                changes[alias] = rows + [(number, names[number])] * now.count(alias)
        packed = {alias: pack_values(rows) if rows else b"" for alias, rows in changes.items()}
        contents: dict[bytes, bytes | None] = {
            b"modules.alias": self._alias_text(),
            b"modules.alias.bin": patch_index(data, render.checked(packed)),
        }
        if any(b"devname:" in column[number] + self.old[number][0][_ALIASES] for number in self.changed):
            contents[b"modules.devname"] = render.devname_text(names, column, report)
        return contents

    def _alias_text(self) -> bytes:
        """modules.alias, where each module that had aliases and has them still has its lines replaced."""
        names, column, text = (
            self.modules.names,
            self.modules.column(_ALIASES),
            self._content(b"modules.alias"),
        )
        for number in self.changed:
            before = render.alias_lines(names[number], self.old[number][0][_ALIASES])
            if not before or not column[number] or text.count(b"\n" + before) != 1:
                return render.alias_text(names, column)
            text = text.replace(b"\n" + before, b"\n" + render.alias_lines(names[number], column[number]))
        return text


def _silent(level: str, text: str) -> None:
    """What was said of a module before is said of it no more."""
