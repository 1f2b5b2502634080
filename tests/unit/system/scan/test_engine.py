# SPDX-License-Identifier: MIT
"""The search for words in given ranges, against a plain loop over all words."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.system.kcore import Kcore, KcoreError, Segment
from lkm.system.scan.engine import CHUNK, RawHit, Wanted, find_words, merged, spans_of
from lkm.system.scan.memmem import Finder, find_in_python, finder_for

BASE = 0xFFFF_8880_0000_0000
MODULE = 0xFFFF_FFFF_C05D_A000
RANGES = {
    "one window": [(MODULE, MODULE + 0x4000)],
    "two windows": [(MODULE, MODULE + 0x8000)],
    "far apart": [
        (MODULE, MODULE + 0x10),
        (MODULE - 0x1_0000_0000, MODULE - 0xFFFF_8000),
        (BASE, BASE + 8),
    ],
}


def plainly(data: bytes, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    return [(8 * index, word) for index, word in enumerate(words) if any(a <= word < b for a, b in ranges)]


@pytest.mark.parametrize("make", [finder_for, find_in_python])
@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
@given(data=st.data())
def test_each_word_is_found_once(
    ranges: list[tuple[int, int]], make: Callable[[bytearray], Finder], data: st.DataObject
) -> None:
    edges = [value + off for start, end in ranges for value in (start, end) for off in (-1, 0, 1, 0x1234)]
    words = data.draw(
        st.lists(st.sampled_from([*edges, 0, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1), max_size=40)
    )
    shift = data.draw(st.integers(0, 7))  # addresses at odd places are no pointers
    raw = bytes(shift) + struct.pack(f"<{len(words)}Q", *words) + bytes(-shift % 8)
    buffer = bytearray(raw)
    assert sorted(Wanted(ranges).find(buffer, len(raw), make(buffer))) == plainly(raw, ranges)


def make_kcore(tmp_path: Path, size: int, words: dict[int, int]) -> tuple[Kcore, Segment]:
    path = tmp_path / "kcore"
    with open(path, "wb") as file:
        file.truncate(size + 64)
        for at, value in words.items():
            file.seek(64 + at)
            file.write(struct.pack("<Q", value))
    segment = Segment(BASE, size, 64, 0)
    return Kcore(os.open(path, os.O_RDONLY), (segment,)), segment


def test_a_segment_is_searched_in_chunks_less_what_is_left_out(tmp_path: Path) -> None:
    size = 2 * CHUNK + 4096
    places = (0, 0x2000, CHUNK - 8, CHUNK, size - 8)
    kcore, segment = make_kcore(tmp_path, size, dict.fromkeys(places, MODULE + 8))
    said: list[tuple[int, int]] = []
    spans = spans_of([segment], [(BASE + 0x2000, BASE + 0x3000)])
    hits = find_words(
        kcore, spans, Wanted(RANGES["one window"]), lambda done, total: said.append((done, total))
    )
    assert hits == tuple(RawHit(BASE + at, MODULE + 8) for at in places if at != 0x2000)
    assert said[0] == (0, size - 0x1000)
    assert said[-1] == (size - 0x1000, size - 0x1000)
    assert said == sorted(said)


def test_memory_that_ends_early_is_no_clean_memory(tmp_path: Path) -> None:
    kcore, segment = make_kcore(tmp_path, 4096, {})
    longer = spans_of([segment._replace(size=8192)], [])
    with pytest.raises(KcoreError, match="expected 8192 bytes, found 4096"):
        find_words(kcore, longer, Wanted(RANGES["one window"]), lambda _done, _total: None)


def test_nothing_to_search_for_is_an_error(tmp_path: Path) -> None:
    kcore, segment = make_kcore(tmp_path, 4096, {})
    with pytest.raises(KcoreError, match="nothing to search for"):
        find_words(kcore, spans_of([segment], []), Wanted([]), lambda _done, _total: None)


@given(
    segments=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 40)), min_size=1, max_size=4),
    omitted=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=8),
)
def test_spans_are_the_segments_less_what_is_omitted(
    segments: list[tuple[int, int]], omitted: list[tuple[int, int]]
) -> None:
    start, made = 0, []
    for gap, size in segments:
        made.append(Segment(start + gap, size, 0, 0))
        start += gap + size
    ranges = [(at, at + size) for at, size in omitted]
    spans = spans_of(made, ranges)
    left = [byte for span in spans for byte in range(span.start, span.start + span.size)]
    out = {byte for a, b in ranges for byte in range(a, b)}
    assert left == [b for s in made for b in range(s.start, s.start + s.size) if b not in out]
    assert merged(ranges) == sorted(merged(ranges))
