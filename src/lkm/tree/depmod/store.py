# SPDX-License-Identifier: MIT
"""What modules say as one block of bytes: between processes, and in the cache.

Counts and sizes first, then the texts; nothing in it executes. The numbers are in this machine's byte order:
no block ever leaves it.
"""

from __future__ import annotations

from array import array
from struct import Struct

from lkm.tree.depmod.elf import Facts

__all__ = ["Outcome", "StoreError", "pack_outcomes", "unpack_outcomes"]

Outcome = tuple[Facts, int]
"""What a module says, and 0 or the errno with which it could not be read."""

_COLUMNS = 5
_HEAD = Struct("=Q5Q")  # the number of modules, and the size of each column's text


class StoreError(Exception):
    """A block that is not as `pack_outcomes` makes them."""


def pack_outcomes(outcomes: list[Outcome]) -> bytes:
    """One block."""
    columns: list[list[bytes]] = [[facts[column] for facts, _ in outcomes] for column in range(_COLUMNS)]
    texts = [b"".join(column) for column in columns]
    sizes = [array("I", map(len, column)).tobytes() for column in columns]
    codes = array("I", [code for _, code in outcomes]).tobytes()
    return b"".join([_HEAD.pack(len(outcomes), *map(len, texts)), codes, *sizes, *texts])


def unpack_outcomes(block: bytes) -> list[Outcome]:
    """The outcomes of a block, in their order. Raises `StoreError`."""
    if len(block) < _HEAD.size:
        raise StoreError("block: shorter than its head")
    count, *lengths = _HEAD.unpack_from(block)
    numbers = array("I")
    width = numbers.itemsize * count
    at = _HEAD.size + width * (1 + _COLUMNS)
    if len(block) != at + sum(lengths):
        raise StoreError("block: not as long as its head says")
    numbers.frombytes(block[_HEAD.size : at])
    columns = []
    for column, length in enumerate(lengths):
        items, end = [], at + length
        for size in numbers[count * (1 + column) : count * (2 + column)].tolist():
            items.append(block[at : at + size])
            at += size
        if at != end:
            raise StoreError("block: texts are not as long as they should be")
        columns.append(items)
    return list(zip(zip(*columns), numbers[:count].tolist()))
