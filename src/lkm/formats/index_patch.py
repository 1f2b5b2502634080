# SPDX-License-Identifier: MIT
"""Some keys of an index file changed: new nodes are put at its end, and the root's offset goes to the new root.

What nothing points to any more stays in the file, so that only the nodes on the way to a changed key are made
anew. Look-up sees no difference. The layout is told in `lkm.formats.index_writer`.
"""

from __future__ import annotations

from struct import Struct, unpack_from

from lkm.formats.index_writer import CHILDREN, HEAD, MAX_SIZE, PREFIX, VALUES

__all__ = ["patch_index", "values_of"]

_PATCHED = b"\0lkm"  # at the end, before the size that the file had when it was made
_SLACK = 1 << 16
_OFFSET = 0x0FFFFFFF
_U32 = Struct(">I")

Change = tuple[bytes, bytes]
"""The rest of a key, and its new values as `pack_values` makes them; empty: the key goes."""


class _Node:
    """One node, taken apart."""

    __slots__ = ("children", "prefix", "values")

    def __init__(self, prefix: bytes, values: bytes, children: dict[int, int]) -> None:
        self.prefix, self.values, self.children = prefix, values, children


def patch_index(data: bytes, changes: dict[bytes, bytes]) -> bytes | None:
    """The index with these keys' values as `pack_values` makes them; empty ones take the key away.

    None if too much of the file would be what nothing points to: it has to be made anew. `data` must be a sound
    index: what nobody has checked may raise anything.
    """
    size = unpack_from(">I", data, len(data) - 4)[0] if data[-8:-4] == _PATCHED else len(data)
    out = [data]
    patch = _Patch(data, out)
    root = patch.change(_take_apart(data, unpack_from(">I", data, 8)[0]), sorted(changes.items()), root=True)
    out.append(_PATCHED + _U32.pack(size))
    made = b"".join(out)
    if len(made) > min(size + size // 4 + _SLACK, MAX_SIZE):
        return None
    return HEAD + _U32.pack(root) + made[12:]


def values_of(data: bytes, key: bytes) -> list[tuple[int, bytes]]:
    """The values of a key of a sound index: priority and text, in its order."""
    reference = unpack_from(">I", data, 8)[0]
    while reference:
        node = _take_apart(data, reference)
        if not key.startswith(node.prefix):
            return []
        key = key[len(node.prefix) :]
        if not key:
            return _split_values(node.values)
        reference, key = node.children.get(key[0], 0), key[1:]
    return []


def _split_values(values: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 4
    while at < len(values):
        end = values.index(b"\0", at + 4)
        found.append((unpack_from(">I", values, at)[0], values[at + 4 : end]))
        at = end + 1
    return found


def _take_apart(data: bytes, reference: int) -> _Node:
    at, prefix, values, children = reference & _OFFSET, b"", b"", {}
    if reference & PREFIX:
        end = data.index(b"\0", at)
        prefix, at = data[at:end], end + 1
    if reference & CHILDREN:
        first, last = data[at], data[at + 1]
        count = last - first + 1
        offsets = unpack_from(f">{count}I", data, at + 2)
        children = {first + number: offset for number, offset in enumerate(offsets) if offset}
        at += 2 + 4 * count
    if reference & VALUES:
        end = at + 4
        for _ in range(unpack_from(">I", data, at)[0]):
            end = data.index(b"\0", end + 4) + 1
        values = data[at:end]
    return _Node(prefix, values, children)


class _Patch:
    """What has been put at the end so far."""

    def __init__(self, data: bytes, out: list[bytes]) -> None:
        self.data, self.out, self.end = data, out, len(data)

    def change(self, node: _Node | None, changes: list[Change], *, root: bool = False) -> int:
        """Put the node with these changes at it or below it: its offset and flags, 0 if nothing is left of it."""
        if node is None:
            changes = [change for change in changes if change[1]]
            if not changes:
                return 0
            first, last = changes[0][0], changes[-1][0]  # sorted: what these two share, all do
            node = _Node(first[: _shared(first, last)], b"", {})
        shared = min(_shared(node.prefix, key) for key, _ in changes) if changes else 0
        moved: dict[int, _Node] = {}
        if shared < len(node.prefix):  # a key leaves the way before its end: the node comes below a new one
            moved[node.prefix[shared]] = _Node(node.prefix[shared + 1 :], node.values, node.children)
            node = _Node(node.prefix[:shared], b"", {})
        below: dict[int, list[Change]] = {}
        for key, values in changes:
            if len(key) > shared:
                below.setdefault(key[shared], []).append((key[shared + 1 :], values))
            else:
                node.values = values
        for byte, inner in below.items():
            child = moved.pop(byte, None)
            if child is None and byte in node.children:
                child = _take_apart(self.data, node.children[byte])
            node.children[byte] = self.change(child, inner)
        for byte, child in moved.items():
            node.children[byte] = self._put(child)
        node.children = {byte: made for byte, made in node.children.items() if made}
        return self._put(node) if root or node.values or node.children else 0

    def _put(self, node: _Node) -> int:
        flags, parts = 0, []
        if node.prefix:
            flags |= PREFIX
            parts.append(node.prefix + b"\0")
        if node.children:
            flags |= CHILDREN
            first, last = min(node.children), max(node.children)
            offsets = [node.children.get(byte, 0) for byte in range(first, last + 1)]
            parts.append(bytes((first, last)) + Struct(f">{len(offsets)}I").pack(*offsets))
        if node.values:
            flags |= VALUES
            parts.append(node.values)
        at = self.end
        made = b"".join(parts)
        self.out.append(made)
        self.end += len(made)
        return at | flags


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes the two have in common at their beginning."""
    count = 0
    for left, right in zip(one, other):
        if left != right:
            break
        count += 1
    return count
