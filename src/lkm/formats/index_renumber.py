# SPDX-License-Identifier: MIT
"""Other priorities in an index file, without a walk through its nodes: modules were taken out, or came in between.

A node's values begin with their count, and each value with its priority. They are where the bytes
`00 00 00 <count> 00 00` are, for counts to 31 and priorities below 65,536: no key has a NUL, an offset that is not
zero begins with a flag (0x20 or more), and a value's text follows its priority at once. See
`lkm.formats.index_writer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct

__all__ = ["MAX_VALUES", "renumber_index"]

MAX_VALUES = 31
"""Values of one key."""

_NUMBER = Struct(">I")
_ONE = re.compile(rb"(\0\0\0\x01\0\0..[^\0]+)", re.DOTALL)
_SEVERAL = re.compile(rb"(\0\0\0[\x02-\x1f](?:\0\0..[^\0]+\0)+)", re.DOTALL)
_COUNT_1 = _NUMBER.pack(1)


def renumber_index(data: bytes, numbers: Sequence[tuple[int, int, bytes]], *, most: int) -> bytes | None:
    """The index with another priority for each of its values, whose order of size must stay what it is.

    data     a sound index
    numbers  of each value the priority, the new one and the text
    most     how many values a key may have; None if that is, or one of the numbers, too many

    What nothing points to any more, in a file that was patched, may have other values: these stay as they are.
    """
    if most > MAX_VALUES or any(old > 0xFFFF or new > 0xFFFF for old, new, _ in numbers):
        return None
    pack = _NUMBER.pack
    one = {_COUNT_1 + pack(old) + text: _COUNT_1 + pack(new) + text for old, new, text in numbers}
    parts = _ONE.split(data)
    parts[1::2] = [one.get(part, part) for part in parts[1::2]]
    made = b"".join(parts)
    if most == 1:
        return made
    each = {pack(old) + text: pack(new) + text for old, new, text in numbers}
    parts = _SEVERAL.split(made)
    parts[1::2] = [_replace_each(part, each) for part in parts[1::2]]
    return b"".join(parts)


def _replace_each(values: bytes, each: dict[bytes, bytes]) -> bytes:
    """A count and values: priorities as `each` has them."""
    parts, at = [values[:4]], 4
    while at < len(values):
        end = values.index(b"\0", at + 4)
        parts += [each.get(values[at:end], values[at:end]), b"\0"]
        at = end + 1
    return b"".join(parts)
