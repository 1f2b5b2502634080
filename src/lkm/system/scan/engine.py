# SPDX-License-Identifier: MIT
"""The search itself: every aligned word of RAM whose value lies in given ranges.

An address has its upper six bytes in common with all others in the same 64 KB: so the bytes of a whole chunk
are searched for six bytes, in C, and only what is found is looked at in Python. Where the ranges lie in several such
windows, five bytes are searched for instead, once for all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable, NamedTuple

from lkm.system.kcore import Kcore, KcoreError, Segment
from lkm.system.scan.memmem import Finder, finder_for

__all__ = ["CHUNK", "RawHit", "Span", "Wanted", "find_words", "merged", "search", "silent", "spans_of"]

CHUNK = 1 << 20
"""Bytes in one read: small enough for a CPU's cache."""
_MANY = 1
"""Windows of 64 KB that are searched for one by one; more share five bytes, and are searched for by these."""

Progress = Callable[[int, int], None]


def silent(_done: int, _total: int) -> None:
    """No progress is shown."""


class RawHit(NamedTuple):
    """A word of RAM at the linear address `at` that has the value `value`."""

    at: int
    value: int


class Span(NamedTuple):
    """Memory to be searched: `size` bytes at the linear address `start`, in one segment."""

    segment: Segment
    start: int
    size: int


class Wanted:
    """The ranges of values that are searched for: (start, end), end excluded."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges = sorted(ranges)
        self._starts = [start for start, _ in self.ranges]
        windows = sorted(
            {window for start, end in self.ranges for window in range(start >> 16, (end - 1 >> 16) + 1)}
        )
        if len(windows) <= _MANY:
            self._needles = [(window.to_bytes(6, "little"), 2) for window in windows]
        else:
            self._needles = [
                (upper.to_bytes(5, "little"), 3) for upper in sorted({window >> 8 for window in windows})
            ]

    def holds(self, value: int) -> bool:
        """Whether `value` lies in one of the ranges."""
        at = bisect_right(self._starts, value)
        return bool(at) and value < self.ranges[at - 1][1]

    def find(self, data: bytearray, size: int, search: Finder) -> Iterator[tuple[int, int]]:
        """Offset and value of each aligned word among the first `size` bytes of `data` that lies in one of the
        ranges; `search` searches in `data`."""
        for needle, inside in self._needles:
            at = search(needle, 0, size)
            while at >= 0:
                word = at - inside
                if not word & 7 and word >= 0:
                    value = int.from_bytes(data[word : word + 8], "little")
                    if self.holds(value):
                        yield word, value
                at = search(needle, at + 1, size)


def spans_of(segments: Sequence[Segment], omitted: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    """The segments less what is omitted: (linear start, end) in any order, overlapping or not."""
    left_out = merged(omitted)
    starts = [start for start, _ in left_out]
    spans = []
    for segment in segments:
        at, end = segment.start, segment.start + segment.size
        for start, stop in left_out[max(0, bisect_right(starts, at) - 1) :]:
            if start >= end:
                break
            if start > at:
                spans.append(Span(segment, at, start - at))
            at = max(at, min(stop, end))
        if at < end:
            spans.append(Span(segment, at, end - at))
    return tuple(spans)


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ranges as can be, sorted."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def search(kcore: Kcore, spans: Sequence[Span], wanted: Wanted, progress: Progress) -> Iterator[RawHit]:
    """Each wanted word in these spans. `progress` is told bytes done and bytes in all, once a chunk.

    A chunk that cannot be read raises `KcoreError`: what was not searched must not pass for clean.
    """
    total, done = sum(span.size for span in spans), 0
    buffer = bytearray(CHUNK)
    view, finder = memoryview(buffer), finder_for(buffer)
    progress(0, total)
    for segment, start, size in spans:
        for offset in range(0, size, CHUNK):
            length = min(CHUNK, size - offset)
            here = start + offset
            kcore.read_into(view[:length], segment, here)
            for at, value in wanted.find(buffer, length, finder):
                yield RawHit(here + at, value)
            done += length
            progress(done, total)


def find_words(kcore: Kcore, spans: Sequence[Span], wanted: Wanted, progress: Progress) -> tuple[RawHit, ...]:
    """`search`, all at once. Raises `KcoreError`."""
    if not wanted.ranges:
        raise KcoreError("there is nothing to search for: the module's memory is unknown")
    return tuple(search(kcore, spans, wanted, progress))
