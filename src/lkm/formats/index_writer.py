# SPDX-License-Identifier: MIT
"""The binary index files (`modules.dep.bin` and its like): a trie of keys, each with values.

Big-endian: magic 0xB007F457, version 0x00020001, offset of the root. A node is its prefix (NUL-terminated, if it
has one), the first and last byte that its children begin with and an offset for each byte between (0: none), then
the number of values and each value as a 32-bit priority and a NUL-terminated string. The upper bits of an offset
say which of the three a node has: 0x8 prefix, 0x4 values, 0x2 children. Children stand before their parent; the
root has no prefix. Source: libkmod's index files, version 2.1.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable
from struct import Struct

from lkm.errors import LkmError

__all__ = [
    "CHILDREN",
    "HEAD",
    "KEY_MAX",
    "MAX_SIZE",
    "PREFIX",
    "VALUES",
    "IndexWriteError",
    "pack_values",
    "render_index",
]

KEY_MAX = 4095
"""Bytes of an alias that an index keeps: PATH_MAX without its NUL, as libkmod's buffers have it."""

HEAD = b"\xb0\x07\xf4\x57\0\x02\0\x01"
PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000
MAX_SIZE = 0x10000000  # an offset has 28 bits
_MAX_DEPTH = 8192
_U32 = Struct(">I")
_ARRAYS = [Struct(f">{count}I") for count in range(129)]


class IndexWriteError(LkmError, ValueError):
    """Keys or values that an index file cannot hold."""


def pack_values(values: Iterable[tuple[int, bytes]]) -> bytes:
    """A node's values, each (priority, value): the least priority first, of equal ones the last first."""
    ordered = list(values)[::-1]
    ordered.sort(key=lambda pair: pair[0])
    packed = [_U32.pack(priority) + value + b"\0" for priority, value in ordered]
    return _U32.pack(len(ordered)) + b"".join(packed)


def render_index(entries: dict[bytes, bytes]) -> bytes:
    """An index file with the keys of `entries`, whose values are as `pack_values` makes them.

    Keys must be ASCII without NULs: the caller says which module has another. Raises `IndexWriteError`.
    """
    keys = sorted(entries)
    if not keys:
        return HEAD + _U32.pack(12)
    out = [HEAD, b""]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _MAX_DEPTH))  # a level a byte of the key, at worst
    try:
        root = _writer(keys, [entries[key] for key in keys], out)(0, len(keys), 0)
    except RecursionError as error:
        raise IndexWriteError("index: keys that are prefixes of each other nest too deep") from error
    finally:
        sys.setrecursionlimit(limit)
    out[1] = _U32.pack(root)
    return b"".join(out)


def _writer(keys: list[bytes], values: list[bytes], out: list[bytes]) -> Callable[[int, int, int], int]:
    """A function that appends to `out` the node of the sorted keys [low, high), and returns its offset and flags.

    Its third argument is where in the keys the node begins: 0 is the root.
    """
    append, position = out.append, 12

    def write(low: int, high: int, depth: int) -> int:
        nonlocal position
        first, last, end = keys[low], keys[high - 1], depth
        if depth:
            shortest = min(len(first), len(last))
            while end < shortest and first[end] == last[end]:
                end += 1
        at, blob, flags = low, b"", CHILDREN
        if len(first) == end:
            at, blob, flags = low + 1, values[low], CHILDREN | VALUES
        if at < high:
            least, most, stem = keys[at][end], last[end], first[:end]
            offsets = [0] * (most - least + 1)
            while at < high:
                byte = keys[at][end]
                if at + 1 < high and keys[at + 1][end] == byte:
                    to = high if byte == most else bisect_left(keys, stem + bytes((byte + 1,)), at + 1, high)
                    offsets[byte - least] = write(at, to, end + 1)
                    at = to
                    continue
                rest = keys[at][end + 1 :]  # a leaf
                leaf = rest + b"\0" + values[at] if rest else values[at]
                offsets[byte - least] = position | (PREFIX | VALUES if rest else VALUES)
                append(leaf)
                position += len(leaf)
                at += 1
            blob = bytes((least, most)) + _ARRAYS[len(offsets)].pack(*offsets) + blob
        else:
            flags = VALUES
        if end > depth:
            blob = first[depth:end] + b"\0" + blob
            flags |= PREFIX
        append(blob)
        position += len(blob)
        if position >= MAX_SIZE:
            raise IndexWriteError("index: more than 256 MiB, which its offsets cannot express")
        return (position - len(blob)) | flags

    return write
