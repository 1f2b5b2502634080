# SPDX-License-Identifier: MIT
"""Which built-in module an initcall is of, where its symbol does not say so (up to 5.11, and by tables alone).

modules.builtin is in the order in which the kernel was linked (scripts/link-vmlinux.sh), and so are the
initcalls of one level. So the modules are laid along the initcalls, in their order, where names have a word
in common: the most of it that fits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lkm.boot.initcall import FIRST_OF_TABLE, LEVELS, Initcall, Level

__all__ = ["with_modules"]

_NOISE = frozenset({
    "acpi", "class", "core", "device", "driver", "early", "exit", "fs", "generic", "init", "initcall", "late",
    "mod", "modinit", "module", "pci", "platform", "probe", "register", "setup", "start", "subsys", "sys", "table",
    "wait",
})  # fmt: skip
"""What says nothing about whose function it is."""


def with_modules(calls: Sequence[Initcall], builtin: Sequence[str]) -> list[Initcall]:
    """The same with the `builtin` module (names in the order of modules.builtin) of those that have none.

    Each is a conclusion from two names: `module_from` says "name".
    """
    done = list(calls)
    for level in LEVELS:
        if level in FIRST_OF_TABLE or level is Level.EARLY:
            continue  # no macro of modules leads there
        places = [place for place, call in enumerate(done) if call.level is level and not call.module]
        functions = [_words(done[place].function) for place in places]
        for row, column in _align(functions, [_words(name) for name in builtin]):
            place = places[row]
            done[place] = done[place]._replace(module=builtin[column], module_from="name")
    return done


def _words(name: str) -> tuple[frozenset[str], str]:
    """The words of a name that say something, and all of it without the others."""
    words = [word for word in re.split(r"[_-]+", name.lower()) if word and word not in _NOISE]
    return frozenset(words), "".join(words)


def _likeness(function: tuple[frozenset[str], str], module: tuple[frozenset[str], str]) -> int:
    """How much two names have in common, in letters; 0 where too little to conclude from.

    All words of one are among those of the other, and they are half of the module's name at least.
    """
    if function[1] and function[1] == module[1]:
        return 4 * len(module[1])
    common = function[0] & module[0]
    letters = sum(map(len, common))
    if not common or common not in (function[0], module[0]) or 2 * letters < len(module[1]):
        return 0
    return 2 * letters


def _align(
    rows: Sequence[tuple[frozenset[str], str]], columns: Sequence[tuple[frozenset[str], str]]
) -> list[tuple[int, int]]:
    """Pairs (row, column), both ascending, with the greatest sum of likeness (dynamic programming)."""
    best = [[0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    for row in range(len(rows) - 1, -1, -1):
        for column in range(len(columns) - 1, -1, -1):
            likeness = _likeness(rows[row], columns[column])
            taken = likeness + best[row + 1][column + 1] if likeness else 0
            best[row][column] = max(taken, best[row + 1][column], best[row][column + 1])
    pairs, row, column = [], 0, 0
    while row < len(rows) and column < len(columns):
        likeness = _likeness(rows[row], columns[column])
        if best[row][column] == best[row + 1][column]:
            row += 1
        elif best[row][column] == best[row][column + 1]:
            column += 1
        elif likeness:
            pairs.append((row, column))
            row, column = row + 1, column + 1
    return pairs
