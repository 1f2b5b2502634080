# SPDX-License-Identifier: MIT
"""The plan: which edits, in which order, on which expectations."""

from __future__ import annotations

import json

import pytest

from lkm.diagnosis.findings import Verdict
from lkm.errors import LkmError, ParseError
from lkm.rescue.plan import Edit, EditKind, Plan, differences
from lkm.rescue.planner import plan_rescue
from lkm.rescue.request import Request
from lkm.system.snapshot import LoadedModule, ModuleState, Policy
from tests.snapshots import ADDRESS, make_module, make_snapshot, make_task, name

COMING, GOING = ModuleState.COMING, ModuleState.GOING


def writes(plan: Plan) -> list[tuple[str, int, int]]:
    return [(edit.field, edit.expected, edit.new) for edit in plan.steps[-1].writes]


def plan_for(*modules: LoadedModule, **fields: object) -> Plan:
    return plan_rescue(make_snapshot(*modules, **fields), name("x"))


def test_a_healthy_module_needs_no_edit() -> None:
    plan = plan_for(make_module("x"))
    assert (plan.verdict, plan.needs_helper, plan.symbols) == (Verdict.REMOVABLE, False, {})


def test_a_dead_init_has_pointers_then_refcnt_then_state_edited() -> None:
    plan = plan_for(make_module("x", COMING, num_syms=2))
    raw_init, raw_exit = 0xFFFFFFFFC0125000, 0xFFFFFFFFC0120000
    assert writes(plan) == [
        ("num_syms", 2, 0),
        ("exit", raw_exit, 0),
        ("init", raw_init, 0),
        ("refcnt", 2, 1),
        ("state", 1, 0),
    ]


def test_a_dead_exit_has_its_count_raised_from_zero() -> None:
    assert writes(plan_for(make_module("x", GOING)))[-2:] == [("refcnt", 0, 1), ("state", 2, 0)]


def test_a_module_without_exit_loses_its_init_only() -> None:
    assert [field for field, _, _ in writes(plan_for(make_module("x", permanent=True)))] == ["init"]


def test_a_leaked_count_is_reset_and_nothing_else() -> None:
    plan = plan_for(make_module("x", extra=4))
    assert writes(plan) == [("refcnt", 5, 1)]
    assert plan.steps[0].exit_runs


def test_a_negative_count_is_expected_as_the_kernel_has_it() -> None:
    assert writes(plan_for(make_module("x", extra=-3))) == [("refcnt", 0xFFFFFFFE, 1)]


def test_the_count_is_changed_by_cmpxchg() -> None:
    (edit,) = plan_for(make_module("x", extra=4)).steps[0].writes
    assert (edit.kind, edit.width, edit.address) == (EditKind.CMPXCHG, 4, ADDRESS + 856)


@pytest.mark.parametrize("text", ["x", "exactly", "a_name_of_more_than_eight"])
def test_the_name_is_expected_to_its_end(text: str) -> None:
    plan = plan_rescue(make_snapshot(make_module(text, COMING)), name(text))
    checks = [edit for edit in plan.steps[0].edits if edit.field.startswith("name")]
    expected = b"".join(edit.expected.to_bytes(8, "little") for edit in checks)
    assert expected.rstrip(b"\0") == text.encode()
    assert len(expected) > len(text)
    assert [edit.address for edit in checks] == [ADDRESS + 24 + 8 * at for at in range(len(checks))]


def test_state_and_count_are_expected_even_where_they_stay() -> None:
    plan = plan_for(make_module("x", permanent=True))
    kinds = {edit.field: edit.kind for edit in plan.steps[0].edits}
    assert kinds["state"] is EditKind.CHECK
    assert kinds["refcnt"] is EditKind.CHECK


def test_a_refused_module_has_no_edits() -> None:
    task = make_task("msleep", "x_init [x]", "do_init_module")
    assert not plan_for(make_module("x", COMING), tasks=(task,)).needs_helper


def test_users_come_first_and_their_references_are_given_back() -> None:
    snapshot = make_snapshot(
        make_module("x", extra=2, holders=(name("a"), name("b"))),
        make_module("a", COMING, extra=1, holders=(name("b"),)),
        make_module("b", COMING),
    )
    plan = plan_rescue(snapshot, name("x"), Request(with_dependents=True))
    assert [step.module for step in plan.steps] == ["b", "a", "x"]
    assert plan.steps[1].edits[-2].expected == 2  # a: idle again, without b's reference
    assert not plan.steps[2].edits
    assert plan.verdict is Verdict.SAFE


def test_users_in_a_circle_end_as_well() -> None:
    snapshot = make_snapshot(
        make_module("x", extra=1, holders=(name("a"),)), make_module("a", extra=1, holders=(name("x"),))
    )
    assert len(plan_rescue(snapshot, name("x"), Request(with_dependents=True)).steps) == 2


def test_the_plan_says_what_a_panic_would_mean() -> None:
    plan = plan_for(make_module("x", extra=1), policy=Policy(panic_on_oops=True, panic_on_warn=True))
    assert any("panic_on_oops" in warning for warning in plan.warnings)
    assert any("panic_on_warn" in warning for warning in plan.warnings)


def test_a_module_that_is_gone_has_no_plan() -> None:
    with pytest.raises(LkmError, match="not loaded"):
        plan_for()


def test_the_same_machine_gives_the_same_plan() -> None:
    assert plan_for(make_module("x", COMING)) == plan_for(make_module("x", COMING))


def test_a_plan_survives_json_alone_and_within_an_output() -> None:
    plan = plan_for(make_module("x", COMING, num_syms=2))
    text = json.dumps(plan.to_object())
    assert Plan.from_json(text, name="plan.json") == plan
    assert Plan.from_json(json.dumps({"schema": "lkm.rescue/1", "plan": plan.to_object()}), name="o") == plan


def test_differences_name_the_edit_and_both_values() -> None:
    old, new = plan_for(make_module("x", extra=1)), plan_for(make_module("x", extra=2))
    lines = differences(old, new)
    assert any("refcnt" in line and "0x2" in line and "0x3" in line for line in lines)
    assert differences(old, old) == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 3}, "3 bytes"),
        ({"width": 8, "kind": "cmpxchg"}, "8 bytes"),
        ({"expected": "0x1ffffffff"}, "4 bytes"),
        ({"address": "-0x1"}, "bytes"),
        ({"address": "nowhere"}, "address"),
        ({"kind": "smash"}, "one of"),
        ({"surprise": 1}, "only the fields"),
    ],
)
def test_a_plan_with_an_impossible_edit_is_refused_by_field(
    change: dict[str, object], complaint: str
) -> None:
    data = plan_for(make_module("x", extra=1)).to_object()
    data["steps"][0]["edits"][-1].update(change)
    with pytest.raises(ParseError, match=complaint):
        Plan.from_json(json.dumps(data), name="plan.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", '{"schema": "lkm.why/1"}', '{"plan": 3}', "null"]
)
def test_what_is_no_plan_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ParseError, match=r"plan\.json"):
        Plan.from_json(text, name="plan.json")


def test_an_edit_reads_like_a_sentence() -> None:
    edit = Edit("refcnt", 0x1000, 4, 2, 1, EditKind.CMPXCHG)
    assert str(edit) == "refcnt at 0x1000: 0x2 → 0x1"
