# SPDX-License-Identifier: MIT
"""What nobody saw is not taken for absent: where edits are wanted, they wait until everything was seen."""

from __future__ import annotations

import pytest

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Certainty, FindingCode, Verdict
from lkm.system.snapshot import ModuleState
from tests.snapshots import make_module, make_snapshot, name

NOTES = (
    "tasks were not read: no answer in 3 s",
    "open files were not read: no answer in 3 s",
    "mappings were not read: no answer in 3 s",
    "mounts were not read: no answer in 3 s",
    "device numbers were not read: no answer in 3 s",
    "stacks of tasks cannot be read (Permission denied): root would help",
    "the kernel shows no stacks of tasks (no /proc/PID/stack: CONFIG_STACKTRACE is off)",
)


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("state", [ModuleState.LIVE, ModuleState.COMING, ModuleState.GOING])
def test_edits_are_refused_where_not_everything_was_seen(state: ModuleState, note: str) -> None:
    extra = 1 if state is ModuleState.LIVE else 0
    found = diagnose(make_snapshot(make_module("x", state, extra=extra), notes=(note,)), name("x"))
    assert found.verdict is Verdict.REFUSE
    unseen = found.finding(FindingCode.UNSEEN)
    assert unseen
    assert note in unseen.evidence


def test_a_loader_that_could_not_be_looked_for_is_not_called_dead_for_certain() -> None:
    stuck = make_module("x", ModuleState.COMING)
    blind = diagnose(make_snapshot(stuck, notes=NOTES[:1]), name("x")).finding(FindingCode.INIT_DIED)
    seeing = diagnose(make_snapshot(stuck), name("x")).finding(FindingCode.INIT_DIED)
    assert blind
    assert seeing
    assert (blind.certainty, seeing.certainty) == (Certainty.POSSIBLE, Certainty.CERTAIN)


@pytest.mark.parametrize("note", [*NOTES, "kernel memory was not read: no /proc/kcore"])
def test_plain_removal_needs_no_sight_as_the_kernel_looks_itself(note: str) -> None:
    found = diagnose(make_snapshot(make_module("x"), notes=(note,)), name("x"))
    assert found.verdict is Verdict.REMOVABLE
    assert found.findings == ()
