# SPDX-License-Identifier: MIT
"""Clean-up calls: how they are written, and what makes them certain enough to be planned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.errors import UsageError
from lkm.rescue.gate import refusals
from lkm.rescue.plan import Argument, EditKind, Lock, Plan, Step, StepKind, differences
from lkm.rescue.planner import plan_rescue
from lkm.rescue.request import ArgumentRequest, Request, parse_call
from lkm.system.snapshot import (
    ModuleState,
    Reader,
    RegistrationKind,
    ResolvedSymbol,
    Snapshot,
    SymbolPlace,
    Unread,
)
from tests.snapshots import make_module, make_registration, make_snapshot, name

DEAD = make_module("x", ModuleState.COMING)
FREE = ResolvedSymbol("kfree", (SymbolPlace(0xFFFFFFFF81000100, "T"),))
BUFFER = ResolvedSymbol("buffer", (SymbolPlace(0xFFFFFFFFC0123800, "b", "x", 0xFFFF888000001000),))


@pytest.mark.parametrize(
    ("text", "function", "arguments"),
    [
        ("f()", "f", ()),
        (" f ( ) ; ", "f", ()),
        ("m:f(1)", "m:f", (ArgumentRequest("1", number=1),)),
        (
            "f(0x10, -1)",
            "f",
            (ArgumentRequest("0x10", number=16), ArgumentRequest("-1", number=(1 << 64) - 1)),
        ),
        ("f(*a)", "f", (ArgumentRequest("*a", symbol="a", value=True),)),
        (
            "f(&a, my-mod:b)",
            "f",
            (ArgumentRequest("a", symbol="a"), ArgumentRequest("my-mod:b", symbol="my-mod:b")),
        ),
        (r'f("a, \"b\")\n")', "f", (ArgumentRequest(r'"a, \"b\")\n"', text='a, "b")\n'),)),
        ("f.isra.0(_a1)", "f.isra.0", (ArgumentRequest("_a1", symbol="_a1"),)),
    ],
)
def test_a_call_is_written_as_in_c(text: str, function: str, arguments: tuple[ArgumentRequest, ...]) -> None:
    assert parse_call(text) == (function, arguments)


@pytest.mark.parametrize(
    "text",
    ["", "f", "f(", "f)", "f(1", "f(,)", "f(1,)", "f(1 2)", "f(1x)", "f(**a)", 'f("a)', "f(1)(2)", "f(010)",
     "f(0x10000000000000000)", 'f("a\\0b")', 'f("\\x41")', 'f("é")', 'f("\udc80")',
     "f(1,2,3,4,5,6,7)", "1(2)", "f(a+1)", "f(1.5)"],
)  # fmt: skip
def test_what_is_no_call_is_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_call(text)
    assert caught.value.remedy or any(word in caught.value.message for word in ("64 bits", "octal", "ASCII"))


@given(st.text(max_size=60))
def test_any_text_is_a_call_or_a_usage_error(text: str) -> None:
    try:
        parse_call(text)
    except UsageError:
        return
    assert "(" in text


def plan_of(snapshot: Snapshot, *calls: str, run_exit: bool = False) -> Plan:
    return plan_rescue(snapshot, name("x"), Request(calls=calls, run_exit=run_exit))


def clean_up_of(plan: Plan) -> Step:
    (step,) = (step for step in plan.steps if step.kind is StepKind.CLEAN_UP)
    return step


def test_a_call_stands_before_the_removal_and_expects_the_values_that_it_passes() -> None:
    plan = plan_of(make_snapshot(DEAD, resolved=(FREE, BUFFER)), "kfree(*buffer)")
    step = clean_up_of(plan)
    assert plan.steps[0] is step
    assert plan.target.kind is StepKind.REMOVE
    assert (step.lock, step.writes, step.after) == (Lock.NONE, (), ())
    (call,) = step.before
    assert (call.function, call.address) == ("kfree", 0xFFFFFFFF81000100)
    assert call.arguments == (Argument(0xFFFF888000001000, shown="*buffer"),)
    expected = {edit.field: edit.expected for edit in step.edits if edit.kind is EditKind.CHECK}
    assert expected["*buffer"] == 0xFFFF888000001000
    assert {"name[0:8]", "refcnt", "state"} <= set(expected)


def test_an_address_is_the_symbols_own() -> None:
    (call,) = clean_up_of(plan_of(make_snapshot(DEAD, resolved=(FREE, BUFFER)), "kfree(buffer)")).before
    assert call.arguments == (Argument(0xFFFFFFFFC0123800, shown="buffer"),)


def test_calls_keep_their_order_and_its_own_exit_comes_last() -> None:
    step = clean_up_of(plan_of(make_snapshot(DEAD, resolved=(FREE,)), "kfree(2)", "kfree(1)", run_exit=True))
    assert [str(call) for call in step.before] == ["kfree(0x2)", "kfree(0x1)", "x:exit()"]
    assert DEAD.raw is not None
    assert step.before[-1].address == DEAD.raw.exit
    assert any(edit.field == "exit" and edit.expected == DEAD.raw.exit for edit in step.checks)


def test_an_exit_that_runs_anyway_is_not_called_twice() -> None:
    plan = plan_of(make_snapshot(make_module("x")), run_exit=True)
    assert [step.kind for step in plan.steps] == [StepKind.REMOVE]
    assert any("changes nothing" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("call", "places", "words"),
    [
        ("f(1)", (), "not in /proc/kallsyms"),
        ("f(1)", (SymbolPlace(1 << 63, "t"), SymbolPlace(3 << 62, "t", "x")), "f is ambiguous"),
        ("f(1)", (SymbolPlace(1 << 63, "t", "y"),), "but in y"),
        ("f(1)", (SymbolPlace(1 << 63, "d"),), "no function"),
        ("f(1)", (SymbolPlace(1 << 63, "t", freed=True),), "given back after boot"),
        ("kfree(*f)", (SymbolPlace(1 << 63, "d"),), "cannot be read"),
    ],
)
def test_what_is_not_certain_is_refused(call: str, places: tuple[SymbolPlace, ...], words: str) -> None:
    snapshot = make_snapshot(DEAD, resolved=(FREE, ResolvedSymbol("f", places)))
    plan = plan_of(snapshot, call)
    refusal = next(refusals(snapshot, plan, force=True))
    assert words in refusal.reason
    assert refusal.remedy
    assert not clean_up_of(plan).needs_helper


def test_a_name_of_a_module_is_unambiguous() -> None:
    own = ResolvedSymbol("x:f", (SymbolPlace(0xFFFFFFFFC0120000, "t", "x"),))
    assert clean_up_of(plan_of(make_snapshot(DEAD, resolved=(own,)), "x:f()")).before[0].address


def test_what_would_crash_is_judged_after_the_calls() -> None:
    snapshot = make_snapshot(
        DEAD, resolved=(FREE,), registrations=(make_registration(RegistrationKind.MISC, "left", "x"),)
    )
    assert [*refusals(snapshot, plan_of(snapshot))]
    assert [*refusals(snapshot, plan_of(snapshot, "kfree(1)"))] == []


def test_no_call_takes_away_what_refuses_for_good() -> None:
    snapshot = make_snapshot(DEAD._replace(holders=(name("y"),)), make_module("y"), resolved=(FREE,))
    assert any("y" in refusal.reason for refusal in refusals(snapshot, plan_of(snapshot, "kfree(1)")))


def test_its_own_exit_after_the_calls_is_warned_of() -> None:
    plan = plan_of(make_snapshot(make_module("x"), resolved=(FREE,)), "kfree(1)")
    assert any("exit runs after the calls" in warning for warning in plan.warnings)


@pytest.mark.parametrize("policy", [{"lockdown": "integrity"}, {"sig_enforce": True}, {"loadpin": True}])
def test_policy_forbids_the_calls_helper_too(policy: dict[str, Any]) -> None:
    snapshot = make_snapshot(make_module("x"), resolved=(FREE,))
    snapshot = snapshot._replace(policy=snapshot.policy._replace(**policy))
    assert [*refusals(snapshot, plan_of(snapshot, "kfree(1)"))]
    assert [*refusals(snapshot, plan_of(snapshot))] == []


def test_nothing_is_called_where_not_everybody_was_seen() -> None:
    snapshot = make_snapshot(
        make_module("x"), resolved=(FREE,), unread=(Unread(Reader.TASKS, "not in time"),)
    )
    assert any(
        "not in time" in refusal.reason for refusal in refusals(snapshot, plan_of(snapshot, "kfree(1)"))
    )


def test_the_same_address_twice_is_not_ambiguous() -> None:
    twice = ResolvedSymbol("f", (SymbolPlace(1 << 63, "t"), SymbolPlace(1 << 63, "t", "x")))
    assert clean_up_of(plan_of(make_snapshot(DEAD, resolved=(twice,)), "f()")).before


def test_a_recorded_plan_has_its_request() -> None:
    plan = plan_of(make_snapshot(DEAD, resolved=(FREE, BUFFER)), "kfree(*buffer)")
    read = Plan.from_json(json.dumps(plan.to_object()), name="plan")
    assert differences(plan, read) == ()
    assert read.request.symbols == ("kfree", "buffer")
