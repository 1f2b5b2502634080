# SPDX-License-Identifier: MIT
"""What nobody saw is not taken for absent: where edits are wanted, they wait until everything was seen."""

from __future__ import annotations

import pytest

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Certainty, FindingCode, Verdict
from lkm.system.snapshot import ModuleState, Reader, Unread
from tests.snapshots import make_module, make_snapshot, name

UNREAD = tuple(Unread(reader, "no answer in 3 s") for reader in Reader)


@pytest.mark.parametrize("unread", UNREAD)
@pytest.mark.parametrize("state", [ModuleState.LIVE, ModuleState.COMING, ModuleState.GOING])
def test_edits_are_refused_where_not_everything_was_seen(state: ModuleState, unread: Unread) -> None:
    extra = 1 if state is ModuleState.LIVE else 0
    found = diagnose(make_snapshot(make_module("x", state, extra=extra), unread=(unread,)), name("x"))
    assert found.verdict is Verdict.REFUSE
    unseen = found.finding(FindingCode.UNSEEN)
    assert unseen
    assert f"{unread.reader.value}: no answer in 3 s" in unseen.evidence


def test_a_loader_that_could_not_be_looked_for_is_not_called_dead_for_certain() -> None:
    stuck = make_module("x", ModuleState.COMING)
    blind = diagnose(make_snapshot(stuck, unread=UNREAD[:1]), name("x")).finding(FindingCode.INIT_DIED)
    seeing = diagnose(make_snapshot(stuck), name("x")).finding(FindingCode.INIT_DIED)
    assert blind
    assert seeing
    assert (blind.certainty, seeing.certainty) == (Certainty.POSSIBLE, Certainty.CERTAIN)


@pytest.mark.parametrize("unread", UNREAD)
def test_plain_removal_needs_no_sight_as_the_kernel_looks_itself(unread: Unread) -> None:
    found = diagnose(make_snapshot(make_module("x"), unread=(unread,)), name("x"))
    assert found.verdict is Verdict.REMOVABLE
    assert found.findings == ()


def test_what_else_could_not_be_read_is_said_to_be_not_scanned() -> None:
    stuck = make_snapshot(make_module("x", ModuleState.COMING), notes=("registrations (misc): no BTF",))
    assert "registrations (misc): no BTF" in diagnose(stuck, name("x")).not_scanned
