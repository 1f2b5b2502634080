# SPDX-License-Identifier: MIT
"""Signed modules only: what a key changes, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Verdict
from lkm.formats.keys import SigningKey
from lkm.rescue.planner import plan_rescue
from lkm.system.snapshot import ModuleState, Policy, Snapshot
from tests.snapshots import make_module, make_snapshot, name

TRUSTED = SigningKey("CN=mine", "0a0b", (".platform",))
UNKNOWN = TRUSTED._replace(keyrings=())
UNREAD = TRUSTED._replace(keyrings=None)
ENFORCED = {"sig_enforce": True}
LOCKED = {"lockdown": "integrity"}


def stuck(**policy: Any) -> Snapshot:
    return make_snapshot(make_module("x", ModuleState.COMING), policy=Policy(cap_sys_module=True, **policy))


def verdict(snapshot: Snapshot) -> tuple[Verdict | None, str, str]:
    found = diagnose(snapshot, name("x"))
    return found.verdict, found.reason, found.remedy


@pytest.mark.parametrize("rule", [ENFORCED, LOCKED, ENFORCED | LOCKED])
@pytest.mark.parametrize("signer", [TRUSTED, UNREAD])
def test_a_key_that_may_be_trusted_lets_it_go_on(rule: dict[str, Any], signer: SigningKey) -> None:
    assert verdict(stuck(**rule, signer=signer))[0] is Verdict.SAFE


@pytest.mark.parametrize("rule", [ENFORCED, LOCKED, ENFORCED | LOCKED])
def test_without_one_the_way_on_is_named(rule: dict[str, Any]) -> None:
    found, _, remedy = verdict(stuck(**rule))
    assert found is Verdict.REFUSE
    assert "--sign-key" in remedy


@pytest.mark.parametrize("rule", [ENFORCED, LOCKED, ENFORCED | LOCKED])
def test_a_key_that_the_kernel_does_not_have_is_refused(rule: dict[str, Any]) -> None:
    found, reason, remedy = verdict(stuck(**rule, signer=UNKNOWN))
    assert found is Verdict.REFUSE
    assert "does not have the key of CN=mine (id 0a0b)" in reason
    assert "enrol" in remedy


def test_where_nothing_is_enforced_any_key_will_do() -> None:
    assert verdict(stuck(signer=UNKNOWN))[0] is Verdict.SAFE


def test_no_key_opens_what_is_confidential() -> None:
    found, reason, remedy = verdict(stuck(lockdown="confidentiality", signer=TRUSTED))
    assert found is Verdict.REFUSE
    assert "confidentiality" in reason
    assert "--sign-key" not in remedy


def test_ima_takes_a_signature_only_where_signatures_are_enforced() -> None:
    """ima_load_data, 6.1."""
    appraised = {"ima_appraises_modules": True}
    assert verdict(stuck(**appraised, sig_enforce=True, signer=TRUSTED))[0] is Verdict.SAFE
    assert verdict(stuck(**appraised, sig_enforce=False, signer=TRUSTED))[0] is Verdict.REFUSE
    assert verdict(stuck(**appraised, sig_enforce=True))[0] is Verdict.REFUSE


def test_no_key_opens_loadpin() -> None:
    assert verdict(stuck(loadpin=True, signer=TRUSTED))[0] is Verdict.REFUSE


@pytest.mark.parametrize(
    ("signer", "said", "unsaid"),
    [
        (None, "unsigned module was loaded", "signed by"),
        (TRUSTED, "signed by CN=mine (id 0a0b), whose key is in .platform", "unsigned"),
        (TRUSTED, "on no others", "unsigned"),
        (TRUSTED._replace(keyrings=(".machine", ".platform")), "in .machine and .platform", "on no others"),
        (UNREAD, "could not be read", "on no others"),
    ],
)
def test_the_plan_says_who_signs(signer: SigningKey | None, said: str, unsaid: str) -> None:
    warnings = " ".join(plan_rescue(stuck(signer=signer), name("x")).warnings)
    assert said in warnings
    assert unsaid not in warnings


def test_a_snapshot_keeps_the_signer() -> None:
    for signer in (None, TRUSTED, UNKNOWN, UNREAD):
        snapshot = stuck(signer=signer)
        assert Snapshot.from_json(snapshot.to_json()) == snapshot
