# SPDX-License-Identifier: MIT
"""A heal in rounds, on synthetic memory: what is written is what was seen right before, not what was planned once."""

from __future__ import annotations

from typing import Callable, Optional

from lkm.rescue.execute import HelperFailure
from lkm.rescue.heal_plan import plan_healing
from lkm.rescue.heal_rounds import TRIES, Healing, HealOutcome, heal_in_rounds, look_again
from lkm.rescue.plan import Plan
from lkm.rescue.table import HelperOutcome
from lkm.system.snapshot import Snapshot
from tests.unit.rescue.test_heal_plan import dead_load, make, snapshot_of, woken
from tests.unit.system.loads import Loads, cookie_of


class Rounds:
    """A heal of these loads, with what was made of it."""

    def __init__(self, loads: Loads) -> None:
        self.loads = loads
        self.made: list[Plan] = []
        self.after_make: Optional[Callable[[], object]] = None

    def look(self) -> Snapshot:
        return snapshot_of(self.loads)

    def announce(self) -> Plan:
        plan = plan_healing(self.look())
        assert plan is not None
        return plan

    def make(self, plan: Plan) -> Optional[HelperFailure]:
        self.made.append(plan)
        make(self.loads, plan.target)
        if self.after_make:
            self.after_make()
        return None

    def run(self, announced: Plan) -> Healing:
        return heal_in_rounds(announced, self.look, self.make, pause=0)


def test_one_round_and_a_look_at_what_came_of_it() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    announced = rounds.announce()
    healing = rounds.run(announced)
    assert (healing.outcome, healing.later_plans) == (HealOutcome.HEALED, ())
    assert rounds.made == [announced]
    assert healing.after is not None
    assert healing.after.sound


def test_a_dead_entry_whose_place_a_live_one_has_taken_since() -> None:
    """The same address in the same bucket, so the head looks as it did when the plan was announced."""
    loads = Loads()
    stack = loads.thread(50)
    loads.node(50, cookie_of(7))
    loads.end(50)
    rounds = Rounds(loads)
    announced = rounds.announce()
    loads.thread(51, stack=stack)
    node = loads.node(51, cookie_of(7), waits=True)
    healing = rounds.run(announced)
    assert healing.outcome is HealOutcome.HEALED
    (made,) = rounds.made
    assert made != announced
    assert woken(made.target) == [node + 24]
    assert healing.later_plans == (made,)


def test_a_task_that_is_just_on_its_way_is_looked_at_again() -> None:
    loads = Loads()
    loads.on_one_stack(50, 51, cookie_of(7))
    dead_load(loads, 52, 7)
    looks: list[Snapshot] = []

    def look() -> Snapshot:
        looks.append(snapshot_of(loads))
        if len(looks) == 3:
            loads.end(51)
        return looks[-1]

    table = look_again(look, pause=0).load_table
    assert table is not None
    assert not table.unclear
    assert [bool(seen.load_table and seen.load_table.unclear) for seen in looks] == [True, True, True, False]


def test_a_dead_lock_that_was_released_and_that_a_live_task_holds_now() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    rounds = Rounds(loads)
    announced = rounds.announce()
    loads.thread(50, running=True)
    healing = rounds.run(announced)
    assert (healing.outcome, rounds.made) == (HealOutcome.FAILED, [])
    assert "pid 50" in healing.reason


def test_somebody_else_has_healed_it() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    announced = rounds.announce()
    loads.kernel.put(loads.table + 56, 0)
    assert rounds.run(announced).outcome is HealOutcome.HEALED
    assert not rounds.made


def test_kernel_memory_that_is_not_read_any_more_is_no_heal() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    healing = heal_in_rounds(
        rounds.announce(), lambda: snapshot_of(loads)._replace(load_table=None), rounds.make, pause=0
    )
    assert (healing.outcome, rounds.made) == (HealOutcome.FAILED, [])


def test_loads_that_come_and_go_too_fast_end_it() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    tried = []

    def differs(plan: Plan) -> HelperFailure:
        tried.append(plan)
        return HelperFailure(HelperOutcome.DIFFERS, "another value than expected")

    healing = heal_in_rounds(rounds.announce(), rounds.look, differs, pause=0)
    assert (healing.outcome, healing.reason) == (HealOutcome.FAILED, "another value than expected")
    assert len(tried) == TRIES
    assert healing.after is not None
    assert healing.after.dangling


def test_what_dies_anew_in_every_round_ends_it() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    rounds.after_make = lambda: dead_load(loads, 100 + len(rounds.made), 9 + len(rounds.made))
    healing = rounds.run(rounds.announce())
    assert healing.outcome is HealOutcome.FAILED
    assert len(rounds.made) == TRIES


def test_a_helper_that_did_not_run_is_not_tried_again() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    rounds = Rounds(loads)
    failure = HelperFailure(HelperOutcome.NOT_RUN, "the kernel did not take the helper")
    healing = heal_in_rounds(rounds.announce(), rounds.look, lambda _: failure, pause=0)
    assert (healing.outcome, healing.reason) == (HealOutcome.FAILED, failure.reason)
