# SPDX-License-Identifier: MIT
"""kmod's binary indexes: look-ups, the order of values, and files that are torn or lie."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.formats.glob import matches
from lkm.formats.index import Index, ModuleIndexError
from tests.indexes import build_index

KEYS = st.text(alphabet=[chr(code) for code in range(1, 128)], max_size=8)
ROWS = st.lists(
    st.tuples(KEYS, st.integers(0, 2**32 - 1), st.text(alphabet="abc é", max_size=5)), max_size=20
)


@given(ROWS)
def test_every_row_is_found_and_listed(rows: list[tuple[str, int, str]]) -> None:
    index = Index(build_index(rows))
    assert sorted(index.items()) == sorted(rows)
    assert [key for key, _, _ in index.items()] == sorted(key for key, _, _ in rows)
    for key in {key for key, _, _ in rows}:
        assert index.search(key) == next(value for other, _, value in rows if other == key)


def test_a_key_that_is_not_there_is_none() -> None:
    index = Index(build_index([("ext4", 0, "a"), ("ext", 1, "b")]))
    assert [index.search(key) for key in ("ext4", "ext", "ex", "ext44", "", "éxt")] == ["a", "b", *[None] * 4]


def test_keys_are_patterns_of_a_wildcard_look_up() -> None:
    rows = [
        ("pci:v*", 5, "any"),
        ("pci:v00008086d*", 1, "intel"),
        ("pci:v00008086d000010D3", 3, "exact"),
        ("pci:v0000[89]*", 2, "range"),
        ("pci:v00001234*", 0, "other"),
        ("?ci:*", 4, "letter"),
    ]
    index = Index(build_index(rows))
    assert index.search_wild("pci:v00008086d000010D3") == ["intel", "range", "exact", "letter", "any"]
    assert index.search_wild("usb:") == []


def test_of_equal_priorities_the_one_found_later_is_first() -> None:
    """As the insertion of kmod's add_value has it."""
    index = Index(build_index([("a*", 7, "star"), ("ab", 7, "first"), ("ab", 7, "second")]))
    assert index.search_wild("ab") == ["second", "first", "star"]


PATTERNS = st.lists(
    st.sampled_from([*"ab[]*?!^-:\\", "[a]", "[!a]", "[[:alpha:]]", "[]a]", "a*", "ab"]),
    min_size=1,
    max_size=5,
).map("".join)


@given(st.lists(PATTERNS, max_size=12), st.text(alphabet="ab]-:", max_size=5))
def test_a_wildcard_look_up_finds_what_every_key_for_itself_would(patterns: list[str], key: str) -> None:
    # A [ in the key is a letter too, so that one way down finds a key again that another has found: as in kmod.
    rows = [(pattern, number, str(number)) for number, pattern in enumerate(dict.fromkeys(patterns))]
    # The walk takes what stands before the first wildcard as it is, backslashes included, as kmod's does.
    rows = [row for row in rows if "\\" not in row[0][: first_wildcard(row[0])]]
    expected = [value for pattern, _, value in rows if matches(pattern, key)]
    assert Index(build_index(rows)).search_wild(key) == expected


def first_wildcard(pattern: str) -> int:
    return min((pattern.index(letter) for letter in "*?[" if letter in pattern), default=len(pattern))


def test_an_alias_of_a_megabyte_is_found() -> None:
    long = "x" * (1 << 20)
    index = Index(
        build_index([(long, 0, "whole"), (long[:-1] + "*", 1, "begun"), ("x*" * 2000 + "y", 2, "stars")])
    )
    assert index.search(long) == "whole"
    assert index.search_wild(long) == ["whole", "begun"]
    assert index.search_wild("x" * 2100) == []


def test_a_trie_deeper_than_the_stack_is_walked() -> None:
    """The keys `*`, `**`, `***` … are each a node below the one before."""
    depth = 3000
    data = bytearray(header(0))
    below = 0
    for length in range(depth, 0, -1):
        child, below = below, len(data) | 0x60000000
        data += b"**" + struct.pack(">III", child, 1, 7) + f"{length}\0".encode()
    data[8:12] = struct.pack(">I", below)
    index = Index(bytes(data))
    assert [value for _, _, value in index.items()] == [str(length) for length in range(1, depth + 1)]
    assert len(index.search_wild("x")) == depth - 1  # the root's key is the empty one


def header(root: int) -> bytes:
    return struct.pack(">III", 0xB007F457, 0x00020001, root)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes are too few"),
        (b"hello, world", "at 0: expected the magic 0xb007f457"),
        (struct.pack(">III", 0xB007F457, 0x00030000, 12), "at 4: expected version 2, found 3"),
    ],
)
def test_what_is_no_index_is_told(data: bytes, said: str) -> None:
    with pytest.raises(ModuleIndexError, match=f"modules.dep.bin: .*{said}"):
        Index(data, name="modules.dep.bin")


def test_a_node_outside_of_the_file_is_told() -> None:
    with pytest.raises(ModuleIndexError, match="node at 0x999, outside"):
        Index(header(0x80000999)).search("a")


@pytest.mark.parametrize("letter", ["*", "a"])
def test_a_trie_that_leads_back_to_itself_is_told(letter: str) -> None:
    """A look-up of a key ends with the key; what goes through all nodes must notice."""
    code = ord(letter)
    data = header(0x2000000C) + bytes((code, code)) + struct.pack(">I", 0x2000000C)
    index = Index(data)
    assert index.search(letter * 50) is None
    with pytest.raises(ModuleIndexError, match="at 0xc: the trie leads to this node twice"):
        list(index.items())
    if letter == "*":
        with pytest.raises(ModuleIndexError, match="twice"):
            index.search_wild("x")


@given(ROWS, st.data())
def test_a_torn_or_changed_file_gives_an_answer_or_an_error(
    rows: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    whole = bytearray(build_index([("key*", 0, "v"), *rows]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[at:]
    else:
        whole[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ModuleIndexError):
        index = Index(bytes(whole))
        index.search("key")
        index.search_wild("keys")
        list(index.items())
