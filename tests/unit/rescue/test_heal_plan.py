# SPDX-License-Identifier: MIT
"""The heal step: what it expects, what it writes, whom it wakes; made on synthetic memory, what then stands there."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from lkm.diagnosis.findings import FindingCode, Verdict
from lkm.rescue.complete import ACCESS
from lkm.rescue.gate import refusals
from lkm.rescue.heal_plan import plan_heal, plan_healing
from lkm.rescue.plan import EditKind, Lock, Plan, Step, StepKind
from lkm.rescue.planner import plan_rescue
from lkm.rescue.table import MAX_ENTRIES, operations
from lkm.system.load_table import LoadTable
from lkm.system.snapshot import ModuleState, Policy, Snapshot
from tests.snapshots import SYMBOLS, make_module, make_snapshot, name
from tests.unit.system.loads import Loads, cookie_of

COMPLETE = 0xFFFFFFFF81234000
ECANCELED = 125


def snapshot_of(loads: Loads, *modules: Any, **table: Any) -> Snapshot:
    found = loads.read(search=True)
    symbols = {
        **SYMBOLS, "idem_lock": loads.kernel.symbols["idem_lock"], "complete": COMPLETE,
        "_raw_spin_trylock": COMPLETE + 16, "_raw_spin_unlock": COMPLETE + 32,
    }  # fmt: skip
    return make_snapshot(*modules, load_table=found._replace(**table), symbols=symbols)


def planned(loads: Loads, **table: Any) -> Step:
    step = plan_heal(snapshot_of(loads, **table))
    assert step is not None
    return step


def make(loads: Loads, step: Step) -> None:
    """What the helper does: all expected values, then all writes."""
    memory, widths = loads.kernel.memory(), {4: "<I", 8: "<Q"}
    for edit in step.edits:
        assert int.from_bytes(memory.read(edit.address, edit.width), "little") == edit.expected, edit
    for edit in step.writes:
        loads.kernel.put(edit.address, struct.pack(widths[edit.width], edit.new))


def dead_load(loads: Loads, tid: int, bucket: int, number: int = 0) -> int:
    loads.thread(tid)
    node = loads.node(tid, cookie_of(bucket, number))
    loads.end(tid)
    return node


def woken(step: Step) -> list[int]:
    return [call.arguments[0].value for call in step.after if call.function == "complete"]


def test_nothing_to_heal_is_no_step() -> None:
    loads = Loads()
    loads.thread(50)
    loads.node(50, cookie_of(7))
    assert plan_heal(snapshot_of(loads)) is None
    assert plan_heal(make_snapshot()) is None
    assert plan_heal(make_snapshot(load_table=LoadTable(present=False))) is None


def test_a_dead_entry_alone_is_one_write() -> None:
    loads = Loads()
    node = dead_load(loads, 50, 7)
    step = planned(loads)
    assert (step.kind, step.lock, step.verdict, step.after) == (
        StepKind.HEAL,
        Lock.IDEM_LOCK,
        Verdict.SAFE,
        (),
    )
    assert [(edit.address, edit.expected, edit.new) for edit in step.edits] == [
        (loads.table + 56, node + 8, 0)
    ]


def test_several_dead_loads_are_one_step() -> None:
    loads = Loads()
    for tid, bucket in ((50, 7), (51, 9), (52, 255)):
        dead_load(loads, tid, bucket)
    step = planned(loads)
    make(loads, step)
    assert [edit.field for edit in step.writes] == ["idem_hash[7]", "idem_hash[9]", "idem_hash[255]"]
    assert [loads.chain(bucket) for bucket in (7, 9, 255)] == [[], [], []]


def test_a_waiter_of_the_dead_is_taken_out_as_the_kernel_does_it_and_woken_last() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    loads.thread(51)
    waiter = loads.node(51, cookie_of(7), waits=True)
    step = planned(loads)
    make(loads, step)
    memory = loads.kernel.memory()
    assert loads.chain(7) == []
    assert memory.words(waiter + 8, 2) == (0, 0)
    assert memory.i32(waiter + 56) == -ECANCELED
    assert woken(step) == [waiter + 24]
    assert not step.before


def test_what_is_not_the_dead_ones_stays_linked_on_both_sides() -> None:
    """old loader ← dead ← its waiter ← new loader with a waiter of its own, all in one bucket."""
    loads = Loads()
    for tid in (50, 51, 52, 53, 54):
        loads.thread(tid)
    old = loads.node(50, cookie_of(7, 1))
    loads.node(51, cookie_of(7))
    orphan = loads.node(52, cookie_of(7), waits=True)
    new = loads.node(53, cookie_of(7, 2))
    waiter = loads.node(54, cookie_of(7, 2), waits=True)
    loads.end(51)
    step = planned(loads)
    make(loads, step)
    assert loads.chain(7) == [waiter, new, old]
    assert woken(step) == [orphan + 24]
    assert loads.read(search=True).sound


def test_a_task_that_waits_for_itself_is_woken() -> None:
    loads = Loads()
    stack = loads.thread(50)
    loads.node(50, cookie_of(7))
    loads.end(50)
    loads.thread(51, stack=stack)
    node = loads.node(51, cookie_of(7), waits=True)
    step = planned(loads)
    make(loads, step)
    assert loads.chain(7) == []
    assert woken(step) == [node + 24]


def test_every_link_that_was_read_is_expected() -> None:
    """So a load that comes or goes in between stops the edits."""
    loads = Loads()
    for tid in (50, 51, 52):
        loads.thread(tid)
    kept = loads.node(50, cookie_of(7, 1))
    loads.node(51, cookie_of(7))
    waiter = loads.node(52, cookie_of(7), waits=True)
    loads.end(51)
    expected = {edit.address for edit in planned(loads).edits}
    for node in (kept, waiter):
        assert {node, node + 8, node + 16} <= expected
    assert {waiter + 24, waiter + 40, loads.table + 56} <= expected


def test_a_dead_lock_is_held_while_the_edits_are_made_and_released_last() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    loads.thread(51)
    loads.node(51, cookie_of(7), waits=True)
    lock = loads.kernel.symbols["idem_lock"]
    loads.kernel.put(lock, 1)
    step = planned(loads)
    assert step.lock is Lock.NONE
    first, *_ = step.edits
    assert (first.address, first.expected, first.kind) == (lock, 1, EditKind.CHECK)
    assert [call.function for call in step.after] == ["complete", "copy_to_kernel_nofault"]
    target, byte, count = step.after[-1].arguments
    assert (target.value, byte.text, count.value) == (lock, "", 1)
    assert step.after[-1].must_return_zero


def test_a_dead_lock_over_an_empty_table_is_only_released() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    step = planned(loads)
    assert not step.writes
    assert len(step.after) == 1


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"preempt_rt": True}, "PREEMPT_RT"),
        ({"error": "nobody knows"}, "nobody knows"),
        ({"lock_held": True, "lock_word": 1, "lock_size": 4, "running": (4711,)}, "pid 4711"),
        ({"lock_held": True, "lock_word": 0x101, "lock_size": 4}, "0x101"),
        ({"lock_held": True, "lock_word": 1, "lock_size": 24}, "24 bytes"),
    ],
)
def test_where_it_is_not_sound_it_is_refused_with_a_way_on(table: dict[str, Any], word: str) -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    step = planned(loads, **table)
    assert (step.verdict, step.edits, step.after) == (Verdict.REFUSE, (), ())
    assert word in step.reason
    assert step.remedy
    plan = plan_healing(snapshot_of(loads, **table))
    assert plan is not None
    first = next(refusals(make_snapshot(), plan))
    assert (first.reason, first.remedy) == (step.reason, step.remedy)


def test_a_load_that_cannot_be_told_is_waited_for() -> None:
    loads = Loads()
    loads.on_one_stack(50, 51, cookie_of(7))
    dead_load(loads, 52, 7)
    step = planned(loads)
    assert step.verdict is Verdict.REFUSE
    assert "pid 51" in step.reason


@pytest.mark.parametrize("symbol", ["idem_lock", "_raw_spin_trylock", "_raw_spin_unlock", "complete"])
def test_a_symbol_that_is_hidden_is_named(symbol: str) -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    found = snapshot_of(loads)
    symbols = {key: value for key, value in found.symbols.items() if key != symbol}
    step = plan_heal(found._replace(symbols=symbols))
    assert step is not None
    assert step.verdict is Verdict.REFUSE
    assert symbol in step.reason


def test_policy_is_respected() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    found = snapshot_of(loads)
    for policy in (Policy(modules_disabled=True), Policy(lockdown="integrity"), Policy(sig_enforce=True)):
        step = plan_heal(found._replace(policy=policy))
        assert step is not None
        assert step.verdict is Verdict.REFUSE


def rescue_plan(loads: Loads, **table: Any) -> Plan:
    return plan_rescue(snapshot_of(loads, make_module("x", ModuleState.COMING), **table), name("x"))


def test_a_rescue_of_a_dead_init_heals_last() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    plan = rescue_plan(loads)
    assert [step.kind for step in plan.steps] == [StepKind.REMOVE, StepKind.HEAL]
    assert plan.target.module == "x"
    assert plan.verdict is Verdict.SAFE
    assert {"idem_lock", "_raw_spin_trylock", "_raw_spin_unlock"} <= set(plan.symbols)
    assert Plan.from_json(json.dumps(plan.to_object()), name="plan") == plan


def test_a_rescue_goes_on_where_the_entry_has_to_stay() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    plan = rescue_plan(loads, preempt_rt=True)
    assert [step.kind for step in plan.steps] == [StepKind.REMOVE]
    assert any("PREEMPT_RT" in warning and "finit_module" in warning for warning in plan.warnings)


def test_a_rescue_of_something_else_only_points_to_it() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    plan = plan_rescue(snapshot_of(loads, make_module("x", permanent=True)), name("x"))
    assert FindingCode.NO_EXIT.value in plan.target.findings
    assert [step.kind for step in plan.steps] == [StepKind.REMOVE]
    assert any("lkm heal" in warning for warning in plan.warnings)


def test_a_table_that_cannot_be_read_matters_to_a_dead_init_alone() -> None:
    hidden = LoadTable(error="idem_hash is not in /proc/kallsyms", remedy="restart when you can")
    sound = plan_rescue(make_snapshot(make_module("x", permanent=True), load_table=hidden), name("x"))
    assert not any("idem_hash" in warning for warning in sound.warnings)
    dead = plan_rescue(make_snapshot(make_module("x", ModuleState.COMING), load_table=hidden), name("x"))
    assert any("idem_hash is not in /proc/kallsyms" in warning for warning in dead.warnings)
    assert [step.kind for step in dead.steps] == [StepKind.REMOVE]


@pytest.mark.parametrize(
    ("tids", "words"),
    [((51,), "pid 51 (insmod) waits"), ((51, 52), "pid 51 (insmod), pid 52 (insmod) wait ")],
)
def test_one_waits_and_several_wait(tids: tuple[int, ...], words: str) -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    for tid in tids:
        loads.thread(tid)
        loads.node(tid, cookie_of(7), waits=True)
    assert words in planned(loads).reason


@pytest.mark.parametrize("dead", [True, False])
def test_more_waiters_than_one_helper_can_end_are_ended_in_several_rounds(dead: bool) -> None:
    """All 50 of a machine's udev workers may load one file; some loads that live stand before and behind them."""
    loads = Loads()
    loads.thread(40)
    loads.node(40, cookie_of(7, 1))
    loads.thread(50)
    loads.node(50, cookie_of(7))
    for tid in range(100, 150):
        loads.thread(tid)
        loads.node(tid, cookie_of(7), waits=True)
    for tid in range(150, 200):
        loads.thread(tid)
        loads.node(tid, cookie_of(7, 2), waits=tid > 150)
    loads.end(50)
    if not dead:  # the chain is sound, but for that nobody loads what they wait for
        loads.kernel.put(loads.stacks[100] + 0x3008, loads.stacks[40] + 0x3008)
        loads.kernel.put(loads.stacks[40] + 0x3010, loads.stacks[100] + 0x3008)
    ended: list[int] = []
    for _ in range(3):
        step = plan_heal(snapshot_of(loads))
        if step is None:
            break
        assert len(operations(step)) <= MAX_ENTRIES
        make(loads, step)
        ended += woken(step)
    assert sorted(ended) == [loads.stacks[tid] + 0x3018 for tid in range(100, 150)]
    assert plan_heal(snapshot_of(loads)) is None
    assert len(loads.chain(7)) == 51


def inlined(found: Snapshot, *names: str) -> Snapshot:
    """The same kernel, made to do at each place what these functions do; by default both of the lock."""
    gone = names or ("_raw_spin_trylock", "_raw_spin_unlock")
    return found._replace(symbols={key: value for key, value in found.symbols.items() if key not in gone})


@pytest.mark.parametrize("names", [(), ("_raw_spin_trylock",), ("_raw_spin_unlock",)])
def test_a_lock_without_functions_is_taken_by_the_helper_where_it_can(names: tuple[str, ...]) -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    loads.thread(51)
    loads.node(51, cookie_of(7), waits=True)
    found = snapshot_of(loads)._replace(machine="aarch64")
    with_functions, step = plan_heal(found), plan_heal(inlined(found, *names))
    assert with_functions is not None
    assert with_functions.lock is Lock.IDEM_LOCK
    assert step == with_functions._replace(lock=Lock.IDEM_LOCK_INLINE)
    plan = plan_healing(inlined(found, *names))
    assert plan is not None
    assert set(plan.symbols) == {"idem_lock", *ACCESS}
    assert Plan.from_json(json.dumps(plan.to_object()), name="plan") == plan


@pytest.mark.parametrize(
    "sizes", [{"raw_spinlock": 24, "spinlock": 24}, {"spinlock": 24}, {"raw_spinlock": None}]
)
def test_a_lock_that_is_more_than_a_queued_one_is_not_taken_by_the_helper(sizes: dict[str, Any]) -> None:
    """CONFIG_DEBUG_SPINLOCK and lockdep keep books of who holds it."""
    loads = Loads()
    dead_load(loads, 50, 7)
    assert loads.kernel.types is not None
    structs = loads.kernel.types.structs
    for name_, size in sizes.items():
        members = structs.pop(name_)[1]
        if size:
            structs[name_] = (size, members)
    found = snapshot_of(loads)._replace(machine="aarch64")
    assert found.load_table is not None
    assert not found.load_table.lock_queued
    step = plan_heal(inlined(found))
    assert step is not None
    assert (step.verdict, step.edits) == (Verdict.REFUSE, ())
    assert "no queued spinlock" in step.reason
    assert "finit_module" in step.remedy
    other = plan_heal(found)
    assert other is not None
    assert other.verdict is Verdict.SAFE


def test_a_dead_lock_needs_no_functions() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    step = plan_heal(inlined(snapshot_of(loads)))
    assert step is not None
    assert (step.verdict, step.lock) == (Verdict.SAFE, Lock.NONE)


def test_where_only_the_lock_functions_are_missing_they_are_inlined() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    found = snapshot_of(loads)
    step = plan_heal(inlined(found))
    assert step is not None
    assert step.verdict is Verdict.REFUSE
    assert "at each place that calls it" in step.reason
    assert "kptr_restrict" not in step.remedy
    hidden = plan_heal(found._replace(symbols={}))
    assert hidden is not None
    assert "kptr_restrict" in hidden.remedy


def test_a_live_one_that_no_bucket_leads_to_is_taken_out() -> None:
    """As an edit would leave it that took the head for a dead entry's."""
    loads = Loads()
    loads.thread(50)
    node = loads.node(50, cookie_of(7), waits=True)
    loads.kernel.put(loads.table + 56, 0)
    step = planned(loads)
    make(loads, step)
    assert woken(step) == [node + 24]
    assert plan_heal(snapshot_of(loads)) is None


def test_one_that_may_be_about_to_wait_refuses_the_edits_of_its_bucket() -> None:
    """Not in its queue yet, as a loader: taken for one, it would stay in the table for good."""
    loads = Loads()
    dead_load(loads, 50, 7)
    loads.thread(51)
    loads.node(51, cookie_of(7))
    loads.frames[51] = ("idempotent_init_module",)
    step = planned(loads)
    assert (step.verdict, step.edits) == (Verdict.REFUSE, ())
    assert "pid 51" in step.reason
