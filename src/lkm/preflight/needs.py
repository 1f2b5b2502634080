# SPDX-License-Identifier: MIT
"""Which modules a file needs first: who has its imports, and whom those need, in the order to load them."""

from __future__ import annotations

from typing import NamedTuple

from lkm.formats.raw_module import RawModule
from lkm.preflight.kernel import Target
from lkm.tree.tree import Tree

__all__ = ["Need", "find_needs"]

_MAX_NEEDS = 1024


class Need(NamedTuple):
    """One module that has to be loaded before. `symbols` are those that the file itself takes from it."""

    module: str
    symbols: tuple[str, ...]
    loaded: bool


def find_needs(data: bytes, target: Target, tree: Tree) -> tuple[Need, ...]:
    """In the order in which to load them; those that are loaded already are among them."""
    if target.exports is None:
        return ()
    image = RawModule(data)
    if not image.symbol_tables:
        return ()
    table = image.symbol_tables[0]
    symbols: dict[str, list[str]] = {}
    for symbol in image.odd_symbols(table):
        name = image.symbol_name(table, symbol) if symbol.shndx == 0 else ""
        export = target.exports.find(name) if name else None
        if export is not None and export.owner:
            symbols.setdefault(export.owner, []).append(name)
    order: list[str] = []
    for owner in symbols:
        for module in (*tree.dependencies(owner), owner):
            if module not in order and len(order) < _MAX_NEEDS:
                order.append(module)
    return tuple(Need(m, tuple(symbols.get(m, ())), m in target.loaded) for m in order)
