# SPDX-License-Identifier: MIT
"""The gate: what forbids a rescue, each with its reason and the way on."""

from __future__ import annotations

import pytest

from lkm.rescue.gate import refusals
from lkm.rescue.planner import plan_rescue
from lkm.system.snapshot import LoadedModule, ModuleState, Proof, RawModule, RegistrationKind, Snapshot
from tests.snapshots import LAYOUT, SIBLING, make_module, make_registration, make_snapshot, name

DEAD = make_module("x", ModuleState.COMING)


def reasons(snapshot: Snapshot, *, force: bool = False) -> list[str]:
    plan = plan_rescue(snapshot, name("x"))
    return [refusal.reason for refusal in refusals(snapshot, plan, force=force)]


def test_a_sound_plan_passes() -> None:
    assert reasons(make_snapshot(DEAD)) == []


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"modules_disabled": True}, "disabled until the next boot"),
        ({"module_unload": False}, "cannot unload"),
        ({"lockdown": "integrity"}, "locked down"),
        ({"lockdown": "confidentiality"}, "locked down"),
        ({"sig_enforce": True}, "signed modules only"),
        ({"ima_appraises_modules": True}, "IMA"),
        ({"loadpin": True}, "LoadPin"),
    ],
)
def test_policy_is_respected(policy: dict[str, object], reason: str) -> None:
    machine = make_snapshot(DEAD)
    machine = machine._replace(policy=machine.policy._replace(**policy))  # type: ignore[arg-type]
    found = reasons(machine)
    assert any(reason in line for line in found), found


def test_policy_about_signatures_is_no_matter_where_nothing_is_edited() -> None:
    machine = make_snapshot(make_module("x"))
    machine = machine._replace(policy=machine.policy._replace(sig_enforce=True, lockdown="integrity"))
    assert reasons(machine) == []


@pytest.mark.parametrize("policy", [{"euid": 1000}, {"cap_sys_module": False}])
def test_without_the_privilege_root_would_help(policy: dict[str, object]) -> None:
    machine = make_snapshot(DEAD)
    machine = machine._replace(policy=machine.policy._replace(**policy))  # type: ignore[arg-type]
    assert next(refusals(machine, plan_rescue(machine, name("x")))).needs_root


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sibling": None, "layout_error": "no file of this release"}, "no file of this release"),
        ({"sibling": SIBLING._replace(intree=False)}, "no in-tree module"),
        ({"sibling": SIBLING._replace(build_matches=False)}, "another build"),
        ({"layout": None, "layout_error": "no BTF"}, "no BTF"),
        ({"layout": LAYOUT._replace(disagreement="refcnt 856 and 864")}, "disagree"),
        ({"layout": LAYOUT._replace(proofs=())}, "could not be proved"),
        (
            {"layout": LAYOUT._replace(proofs=(Proof(name("h"), holds=False, detail="name"),))},
            "does not hold",
        ),
        ({"symbols": {}}, "kallsyms"),
    ],
)
def test_what_is_not_understood_is_not_edited(change: dict[str, object], reason: str) -> None:
    found = reasons(make_snapshot(DEAD)._replace(**change))  # type: ignore[arg-type]
    assert any(reason in line for line in found), found


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (DEAD._replace(raw=None), "its struct module cannot be read"),
        (DEAD._replace(address=0), "its struct module cannot be read"),
        (DEAD._replace(raw=RawModule("somebody_else", 1, 2, 3, 4)), "stands 'somebody_else', not x"),
        (DEAD._replace(in_sysfs=False), "sysfs entry was never made"),
    ],
)
def test_a_target_that_is_not_where_it_should_be_is_refused(target: LoadedModule, reason: str) -> None:
    assert reason in reasons(make_snapshot(target))[0]


def test_an_edit_outside_of_the_target_is_refused() -> None:
    machine = make_snapshot(DEAD)
    plan = plan_rescue(machine, name("x"))
    step = plan.steps[0]
    stray = step.edits[-1]._replace(address=DEAD.address + LAYOUT.size)
    bent = plan._replace(steps=(step._replace(edits=(*step.edits[:-1], stray)),))
    assert "outside" in next(refusals(machine, bent)).reason


def test_a_crash_to_come_wants_force_and_a_refusal_does_not_take_it() -> None:
    left = make_registration(RegistrationKind.MISC, "left", "x")
    crash = make_snapshot(DEAD, registrations=(left,))
    assert any("--force" in refusal.remedy for refusal in refusals(crash, plan_rescue(crash, name("x"))))
    assert reasons(crash, force=True) == []
    timer = make_registration(RegistrationKind.HRTIMER, "tick", "x")
    assert reasons(make_snapshot(DEAD, registrations=(timer,)), force=True)
