# SPDX-License-Identifier: MIT
"""kmod's binary index, read in the plainest way: an oracle for the reader and the writer."""

from __future__ import annotations

import struct

__all__ = ["read_trie"]

MAGIC, VERSION = 0xB007F457, 0x00020001


def read_trie(data: bytes) -> list[tuple[bytes, list[tuple[int, bytes]]]]:
    """Every key with its values, (priority, value) in the order of the file; keys sorted."""
    magic, version, root = struct.unpack_from(">III", data)
    assert (magic, version) == (MAGIC, VERSION)
    found: list[tuple[bytes, list[tuple[int, bytes]]]] = []
    nodes = [(root, b"")]
    while nodes:
        offset, key = nodes.pop()
        at = offset & 0x0FFFFFFF
        if offset & 0x80000000:
            end = data.index(b"\0", at)
            key += data[at:end]
            at = end + 1
        if offset & 0x20000000:
            first, last = data[at], data[at + 1]
            at += 2
            children = struct.unpack_from(f">{last - first + 1}I", data, at)
            at += 4 * len(children)
            nodes += [(child, key + bytes([first + index])) for index, child in enumerate(children) if child]
        if offset & 0x40000000:
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            values = []
            for _ in range(count):
                (priority,) = struct.unpack_from(">I", data, at)
                end = data.index(b"\0", at + 4)
                values.append((priority, data[at + 4 : end]))
                at = end + 1
            found.append((key, values))
    return sorted(found)
