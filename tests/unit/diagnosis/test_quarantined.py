# SPDX-License-Identifier: MIT
"""What a diagnosis says of modules in quarantine, and of calls that still have their former name."""

from __future__ import annotations

import pytest

from lkm.diagnosis.activity import Activity, Role, activity_of
from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import FindingCode, Verdict
from lkm.names import MAX_NAME, quarantine_name
from lkm.system.snapshot import ModuleState, Snapshot, Task
from tests.snapshots import make_module, make_snapshot, make_task, name

GOING = ModuleState.GOING
OLD = make_module("x.dead1", GOING)
NEW = make_module("x")


def remover(*frames: str, pid: int = 4711) -> Task:
    """A task in delete_module("x"), which it called before the quarantine or after."""
    return make_task(*frames, "__do_sys_delete_module", call="delete_module", subject="x", state="D", pid=pid)


def roles(snapshot: Snapshot, module: str) -> tuple[Role, ...]:
    found = snapshot.module(name(module))
    assert found
    activity: Activity = activity_of(snapshot, found)
    return tuple(role for _, role in activity.tasks)


def test_a_removal_in_progress_is_that_of_the_renamed_module() -> None:
    snapshot = make_snapshot(OLD, NEW, tasks=(remover("wait_for_completion", "x_exit [x.dead1]"),))
    assert roles(snapshot, "x.dead1") == (Role.REMOVER,)
    assert roles(snapshot, "x") == ()
    found = diagnose(snapshot, name("x.dead1"))
    assert found.verdict is Verdict.REFUSE
    assert found.has(FindingCode.EXIT_RUNNING, FindingCode.QUARANTINED)
    assert not found.has(FindingCode.EXIT_DIED)
    assert diagnose(snapshot, name("x")).verdict is Verdict.REMOVABLE


def test_outside_of_its_code_it_may_be_that_of_both() -> None:
    """Taken for nobody's, the old one would be freed under a task that frees it as well."""
    snapshot = make_snapshot(OLD, NEW, tasks=(remover("async_synchronize_full"),))
    assert roles(snapshot, "x.dead1") == roles(snapshot, "x") == (Role.MAYBE_REMOVER,)
    assert diagnose(snapshot, name("x.dead1")).verdict is Verdict.REFUSE


def test_without_a_new_one_it_is_the_old_one_s() -> None:
    assert roles(make_snapshot(OLD, tasks=(remover("free_module"),)), "x.dead1") == (Role.REMOVER,)


def test_each_of_two_is_told_by_the_code_it_runs() -> None:
    second = make_module("x.dead2", GOING)
    tasks = (remover("x_exit [x.dead1]", pid=1), remover("x_exit [x.dead2]", pid=2))
    snapshot = make_snapshot(OLD, second, NEW, tasks=tasks)
    assert roles(snapshot, "x.dead1") == roles(snapshot, "x.dead2") == (Role.REMOVER,)
    assert roles(snapshot, "x") == ()


def test_a_name_that_was_cut_is_known_by_what_is_left_of_it() -> None:
    long = name("a" * MAX_NAME)
    old = make_module(quarantine_name(long, 12), GOING)
    task = make_task("a_exit", "free_module", call="delete_module", subject=long)
    assert len(old.name) == MAX_NAME
    assert roles(make_snapshot(old, tasks=(task,)), old.name) == (Role.REMOVER,)


def test_who_died_is_not_said_where_it_is_not_known() -> None:
    """Quarantine makes GOING of COMING, so either can have been."""
    found = diagnose(make_snapshot(OLD), name("x.dead1"))
    died = found.finding(FindingCode.EXIT_DIED)
    assert found.verdict is Verdict.SAFE
    assert died
    assert "its init or exit died" in died.summary


@pytest.mark.parametrize("module", ["x", "x.dead", "x.dead0", "x.dead01", ".dead1"])
def test_others_are_in_no_quarantine(module: str) -> None:
    assert not diagnose(make_snapshot(make_module(module)), name(module)).has(FindingCode.QUARANTINED)


def test_the_blocked_exit_is_told_the_way_on_once() -> None:
    running = (remover("x_exit [x]"),)
    free = diagnose(make_snapshot(make_module("x", GOING), tasks=running), name("x"))
    assert "lkm quarantine x" in free.remedy
    done = diagnose(make_snapshot(OLD, tasks=(remover("x_exit [x.dead1]"),)), name("x.dead1"))
    assert "lkm quarantine" not in done.remedy


@pytest.mark.parametrize(
    ("full", "words"),
    [("x", "its former name, x, and"), ("n" * 49, f"its former name, which begins with {'n' * 49}, and")],
)
def test_of_a_long_former_name_only_the_beginning_is_known(full: str, words: str) -> None:
    now = quarantine_name(name(full), 1)
    found = diagnose(make_snapshot(make_module(now, GOING)), now).finding(FindingCode.QUARANTINED)
    assert found
    assert words in found.summary


def test_a_live_patch_is_not_taken_for_a_leak() -> None:
    """Its reference is the kernel's, which runs its code: without it, ftrace would call freed memory."""
    found = diagnose(make_snapshot(make_module("fix", extra=1, live_patches=(name("fix"),))), name("fix"))
    assert found.verdict is Verdict.REFUSE
    assert "echo 0 >/sys/kernel/livepatch/fix/enabled" in found.remedy


def test_what_a_live_patch_changes_may_be_removed() -> None:
    """klp_module_going undoes the changes, by the module's name, which it still has."""
    patched = make_module("x", ModuleState.COMING, live_patches=(name("fix"),))
    found = diagnose(make_snapshot(patched), name("x"))
    assert found.verdict is Verdict.SAFE
    assert found.has(FindingCode.LIVE_PATCHED)
