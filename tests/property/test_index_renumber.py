# SPDX-License-Identifier: MIT
"""Renumbered indexes against indexes that are made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lkm.formats.index_patch import patch_index
from lkm.formats.index_renumber import MAX_VALUES, renumber_index
from lkm.formats.index_writer import pack_values, render_index
from tests.depmod import rows_of

# What looks like counts, numbers and flags, and names that are ends of others.
BYTES = st.sampled_from(b"\x01\x02\x0c\x1f @`az\x7f").map(lambda byte: bytes((byte,)))
KEYS = st.lists(BYTES, max_size=6).map(b"".join)
TEXTS = st.lists(st.sampled_from([b"a", b"b", b"\x01", b"\x02", b"\xff"]), min_size=1, max_size=3).map(
    b"".join
)
START = st.sampled_from([0, 1, 2, 0x60, 0x61, 0xFF, 0x100, 0x101, 0x1FF, 0x2000, 0x6100, 0xFF00])


@st.composite
def indexes(draw: st.DrawFn) -> tuple[list[int], list[bytes], dict[bytes, list[int]]]:
    """Numbers that grow, a text of each, and which of them each key has."""
    numbers = sorted(draw(st.lists(START, min_size=1, max_size=8, unique=True)))
    texts = [draw(TEXTS) for _ in numbers]
    places = st.lists(st.integers(0, len(numbers) - 1), min_size=1, max_size=3)
    return numbers, texts, draw(st.dictionaries(KEYS, places, max_size=12))


def render(numbers: list[int], texts: list[bytes], keys: dict[bytes, list[int]]) -> dict[bytes, bytes]:
    return {
        key: pack_values([(numbers[place], texts[place]) for place in places]) for key, places in keys.items()
    }


@given(indexes(), st.data())
def test_it_is_the_index_that_would_be_made_anew(
    index: tuple[list[int], list[bytes], dict[bytes, list[int]]], data: st.DataObject
) -> None:
    numbers, texts, keys = index
    later = sorted(data.draw(st.lists(START, min_size=len(numbers), max_size=len(numbers), unique=True)))
    made = renumber_index(
        render_index(render(numbers, texts, keys)), list(zip(numbers, later, texts)), most=MAX_VALUES
    )
    assert made == render_index(render(later, texts, keys))


@given(indexes(), st.data())
def test_a_patched_one_says_the_same(
    index: tuple[list[int], list[bytes], dict[bytes, list[int]]], data: st.DataObject
) -> None:
    numbers, texts, keys = index
    before = render(numbers, texts, keys)
    after = {key: value for key, value in before.items() if data.draw(st.booleans())}
    gone = {key: b"" for key in before if key not in after}
    patched = patch_index(render_index(before), gone)
    assert patched is not None
    later = sorted(data.draw(st.lists(START, min_size=len(numbers), max_size=len(numbers), unique=True)))
    made = renumber_index(patched, list(zip(numbers, later, texts)), most=MAX_VALUES)
    assert made is not None
    kept = {key: places for key, places in keys.items() if key in after}
    assert rows_of(made) == rows_of(render_index(render(later, texts, kept)))


def test_what_has_too_many_values_or_numbers_is_left_alone() -> None:
    data = render_index({b"key": pack_values([(number, b"m") for number in range(32)])})
    numbers = [(number, number + 1, b"m") for number in range(32)]
    assert renumber_index(data, numbers, most=32) is None
    assert renumber_index(data, [(1, 0x10000, b"m")], most=1) is None
    assert renumber_index(data, [(0x10000, 1, b"m")], most=1) is None
