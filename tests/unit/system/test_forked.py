# SPDX-License-Identifier: MIT
"""Work in forked children: the results in order, whatever becomes of a child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.system.forked import processors, run_forked, split_by_weight


def children() -> set[str]:
    """Of this process: those of other tests too."""
    text = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text(encoding="ascii")
    return set(text.split())


def test_results_come_in_order_and_from_other_processes() -> None:
    results = run_forked(lambda part: f"{part} {os.getpid()}".encode(), ["a", "b", "c"])
    assert [result[:1] for result in results] == [b"a", b"b", b"c"]
    pids = [int(result[2:]) for result in results]
    assert pids[0] == os.getpid()
    assert len(set(pids)) == 3


def test_a_result_may_be_larger_than_a_pipe() -> None:
    assert [len(result) for result in run_forked(lambda part: b"x" * part, [1, 5_000_000, 0])] == [
        1,
        5_000_000,
        0,
    ]


def test_a_part_whose_child_dies_is_done_here() -> None:
    here = os.getpid()

    def work(part: int) -> bytes:
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        return b"%d" % part

    assert run_forked(work, [1, 2, 3]) == [b"1", b"2", b"3"]


def test_an_exception_is_raised_here(capfd: pytest.CaptureFixture[str]) -> None:
    def work(part: int) -> bytes:
        return b"%d" % (1 // part)

    before = children()
    with pytest.raises(ZeroDivisionError):
        run_forked(work, [1, 0])
    with pytest.raises(ZeroDivisionError):
        run_forked(work, [0, 1])
    assert "Traceback" not in capfd.readouterr().err
    assert children() == before  # none is left behind


def test_no_part_is_no_work() -> None:
    assert run_forked(lambda _: b"", []) == []


def test_this_process_may_use_a_processor() -> None:
    assert processors() >= 1


@given(st.lists(st.integers(0, 1000)), st.integers(1, 9))
def test_ranges_cover_everything_once(weights: list[int], count: int) -> None:
    ranges = split_by_weight(weights, count)
    assert [index for start, stop in ranges for index in range(start, stop)] == list(range(len(weights)))
    assert len(ranges) <= count


def test_ranges_weigh_about_the_same() -> None:
    assert split_by_weight([1] * 10, 2) == [(0, 5), (5, 10)]
    assert split_by_weight([9, 1, 1, 1, 1, 1, 1, 1, 1, 1], 2) == [(0, 1), (1, 10)]
    assert split_by_weight([1, 1, 98], 2) == [(0, 3)]


def test_children_that_the_kernel_reaps_have_done_their_work() -> None:
    """A program may be started with SIGCHLD ignored: wait(2) then tells nothing of how they ended."""
    here = os.getpid()

    def work(part: int) -> bytes:
        if part == 3 and os.getpid() != here:
            os.kill(os.getpid(), 9)
        return b"%d" % os.getpid()

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        results = [int(result) for result in run_forked(work, [1, 2, 3])]
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert results[0] == results[2] == here
    assert results[1] != here
