# SPDX-License-Identifier: MIT
"""What modules say as one block of bytes: between processes, and in the cache.

Counts and sizes first, then the texts; nothing in it executes. The numbers are in this machine's byte order:
no block ever leaves it.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from struct import Struct

from lkm.tree.depmod.elf import Facts

__all__ = ["Outcome", "StoreError", "Texts", "pack_outcomes", "pack_texts", "unpack_outcomes", "unpack_texts"]

Outcome = tuple[Facts, int]
"""What a module says, and 0 or the errno with which it could not be read."""

_COLUMNS = 5
_COUNT = Struct("=Q")


class StoreError(Exception):
    """A block that is not as it was made."""


def pack_texts(texts: list[bytes]) -> bytes:
    """One block of byte strings."""
    return b"".join([_COUNT.pack(len(texts)), array("I", map(len, texts)).tobytes(), *texts])


class Texts:
    """The strings of a block, each cut out when it is asked for. Raises `StoreError`."""

    def __init__(self, block: bytes) -> None:
        sizes, at = _sizes(block, 0)
        self._block, self._offsets = block, [*accumulate(sizes, initial=at)]
        if self._offsets[-1] != len(block):
            raise StoreError("block: not as long as its sizes say")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._block[self._offsets[number] : self._offsets[number + 1]]


def unpack_texts(block: bytes) -> list[bytes]:
    """The strings of a block. Raises `StoreError`."""
    texts = Texts(block)
    return [texts[number] for number in range(len(texts))]


def _sizes(block: bytes, at: int) -> tuple[array[int], int]:
    """The sizes of the strings that begin at an offset, and where the first one is."""
    if len(block) - at < _COUNT.size:
        raise StoreError("block: no count")
    sizes = array("I")
    begin = at + _COUNT.size
    at = begin + sizes.itemsize * int(_COUNT.unpack_from(block, at)[0])
    if at > len(block):
        raise StoreError("block: not as long as its count says")
    sizes.frombytes(block[begin:at])
    return sizes, at


def _take_texts(block: bytes, at: int) -> tuple[list[bytes], int]:
    """The strings that begin at an offset, and the offset behind them."""
    sizes, at = _sizes(block, at)
    ends = [*accumulate(sizes, initial=at)]
    if ends[-1] > len(block):
        raise StoreError("block: not as long as its sizes say")
    return [block[begin:end] for begin, end in zip(ends, ends[1:])], ends[-1]


def pack_outcomes(outcomes: list[Outcome]) -> bytes:
    """One block."""
    codes = array("I", [code for _, code in outcomes]).tobytes()
    columns = [pack_texts([facts[column] for facts, _ in outcomes]) for column in range(_COLUMNS)]
    return b"".join([pack_texts([codes]), *columns])


def unpack_outcomes(block: bytes) -> list[Outcome]:
    """The outcomes of a block, in their order. Raises `StoreError`."""
    codes, at = _take_texts(block, 0)
    columns = []
    for _ in range(_COLUMNS):
        column, at = _take_texts(block, at)
        columns.append(column)
    numbers = array("I")
    if at != len(block) or len(codes) != 1 or len(codes[0]) % numbers.itemsize:
        raise StoreError("block: not as outcomes are")
    numbers.frombytes(codes[0])
    if any(len(column) != len(numbers) for column in columns):
        raise StoreError("block: columns of different lengths")
    one, two, three, four, five = columns
    return list(zip(zip(one, two, three, four, five), numbers.tolist()))
