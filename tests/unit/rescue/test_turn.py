# SPDX-License-Identifier: MIT
"""One lkm at a time: the others wait for it, and then say who it is."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from lkm.rescue.heal import HealOutcome, execute_healing
from lkm.rescue.heal_plan import plan_healing
from lkm.rescue.turn import Busy, sole_turn
from lkm.root import Root
from tests.unit.rescue.test_heal_plan import dead_load, snapshot_of
from tests.unit.system.loads import Loads
from tests.unit.system.trees import Tree


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Tree(str(tmp_path)).root


def test_the_second_says_who_the_first_is(root: Root) -> None:
    with sole_turn(root):
        began = time.monotonic()
        with pytest.raises(Busy) as caught, sole_turn(root, seconds=0.3):
            raise AssertionError("both at once")
        assert 0.3 <= time.monotonic() - began < 5
    assert f"pid {os.getpid()}" in caught.value.message
    assert "nothing was written" in caught.value.message
    assert caught.value.remedy


def test_the_second_waits_for_the_first(root: Root) -> None:
    order = []
    begun = threading.Event()

    def first() -> None:
        with sole_turn(root):
            begun.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    with sole_turn(root, seconds=10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_it_is_free_again_after_an_error_and_after_the_end_of_its_holder(root: Root) -> None:
    with pytest.raises(ZeroDivisionError), sole_turn(root):
        raise ZeroDivisionError
    pid = os.fork()
    if not pid:
        try:
            sole_turn(root).__enter__()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    with sole_turn(root, seconds=0):
        pass


def test_a_lock_that_cannot_be_had_is_an_error_with_a_way_on(root: Root) -> None:
    os.makedirs(root.join("/run/lkm.lock"))
    with pytest.raises(Busy) as caught, sole_turn(root):
        raise AssertionError("without a lock")
    assert "/run/lkm.lock" in caught.value.message
    assert caught.value.remedy


def test_a_heal_without_a_turn_has_failed_and_says_why(root: Root) -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    plan = plan_healing(snapshot_of(loads))
    assert plan is not None
    os.makedirs(root.join("/run/lkm.lock"))
    healing = execute_healing(root, plan)
    assert healing.outcome is HealOutcome.FAILED
    assert "/run/lkm.lock" in healing.reason
    assert healing.remedy
