# SPDX-License-Identifier: MIT
"""What a diagnosis says of a machine in a given state."""

from __future__ import annotations

from typing import Any

import pytest

from lkm.diagnosis.diagnose import diagnose, without_module
from lkm.diagnosis.findings import Certainty, Diagnosis, FindingCode, HolderKind, Verdict
from lkm.system.snapshot import (
    AsyncEntry,
    LoadedModule,
    ModuleState,
    Mount,
    MutexState,
    OpenFile,
    Policy,
    RegistrationKind,
    Snapshot,
)
from tests.snapshots import make_module, make_registration, make_snapshot, make_task, name

COMING, GOING, UNFORMED = ModuleState.COMING, ModuleState.GOING, ModuleState.UNFORMED
LOADING = ("do_init_module", "load_module", "__do_sys_finit_module")
REMOVING = ("__do_sys_delete_module", "do_syscall_64")


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code.value for finding in diagnosis.findings]


def ask(snapshot: Snapshot, module: str = "x") -> Diagnosis:
    return diagnose(snapshot, name(module))


def test_an_absent_module_is_a_finding_without_a_verdict() -> None:
    found = ask(make_snapshot())
    assert codes(found) == ["not-loaded"]
    assert found.state is None
    assert found.verdict is None


def test_a_built_in_module_is_said_to_be_one() -> None:
    found = ask(make_snapshot(builtin=(name("x"),)))
    assert "built into the kernel" in found.findings[0].summary


def test_nothing_is_in_the_way_of_a_healthy_module() -> None:
    found = ask(make_snapshot(make_module("x")))
    assert (found.verdict, codes(found), found.exit_runs) == (Verdict.REMOVABLE, [], True)


def test_a_module_in_use_by_another_is_refused_with_the_state_of_its_user() -> None:
    user = make_module("user", COMING)
    found = ask(make_snapshot(make_module("x", extra=1, holders=(name("user"),)), user))
    assert found.verdict is Verdict.REFUSE
    assert codes(found) == ["dependents"]
    assert [(h.module, h.state) for h in found.findings[0].holders] == [("user", "coming")]


def test_a_coming_module_without_a_loader_has_died_in_init() -> None:
    found = ask(make_snapshot(make_module("x", COMING)))
    assert (codes(found), found.verdict, found.exit_runs) == (["init-died"], Verdict.SAFE, False)
    assert found.not_scanned


@pytest.mark.parametrize(
    ("task", "certainty"),
    [
        (make_task("msleep", "x_init [x]", "do_one_initcall", *LOADING), Certainty.CERTAIN),
        (make_task("msleep", *LOADING, call="finit_module", subject="x"), Certainty.CERTAIN),
        (make_task("blocking_notifier_call_chain", "load_module", subject="x"), Certainty.CERTAIN),
        (make_task("async_synchronize_full", *LOADING), Certainty.POSSIBLE),
        (make_task(call="finit_module", state="R"), Certainty.POSSIBLE),
    ],
)
def test_a_live_loader_refuses(task: object, certainty: Certainty) -> None:
    found = ask(make_snapshot(make_module("x", COMING), tasks=(task,)))
    assert codes(found) == ["init-running"]
    assert found.findings[0].certainty is certainty
    assert found.findings[0].holders[0].pid == 4711
    assert found.verdict is Verdict.REFUSE


@pytest.mark.parametrize(
    "task",
    [
        make_task("msleep", "y_init [y]", *LOADING, subject="y"),
        make_task("msleep", *LOADING, call="finit_module", subject="y"),
    ],
)
def test_the_live_loader_of_another_module_says_nothing_of_this_one(task: object) -> None:
    assert codes(ask(make_snapshot(make_module("x", COMING), tasks=(task,)))) == ["init-died"]


@pytest.mark.parametrize("fields", [{}, {"subject_guess": "y"}])
def test_a_loader_of_which_it_is_not_known_whose_it_is_refuses(fields: dict[str, Any]) -> None:
    """modprobe y may be loading x, on which y depends; and x may have called into y."""
    task = make_task("msleep", "y_register [y]", *LOADING, call="finit_module", **fields)
    found = ask(make_snapshot(make_module("x", COMING), tasks=(task,)))
    assert (codes(found), found.verdict) == (["init-running"], Verdict.REFUSE)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (make_module("x", COMING), "init-running"),
        (make_module("x", GOING), "exit-running"),
        (make_module("x", permanent=True), "no-exit"),
    ],
)
def test_a_task_that_spins_in_the_kernel_may_be_in_the_module(module: LoadedModule, code: str) -> None:
    spinning = make_task(state="R", unreadable=True)
    found = ask(make_snapshot(module, tasks=(spinning,)))
    assert (codes(found), found.verdict) == ([code], Verdict.REFUSE)
    assert ask(make_snapshot(make_module("x"), tasks=(spinning,))).verdict is Verdict.REMOVABLE


def test_a_live_module_whose_loader_has_not_returned_is_in_use_by_it() -> None:
    """do_init_module: LIVE, then async_synchronize_full, and the load's reference last."""
    loader = make_task("async_synchronize_full", *LOADING, call="finit_module", subject="x")
    found = ask(make_snapshot(make_module("x", extra=1), tasks=(loader,)))
    assert codes(found)[0] == "init-running"
    assert found.verdict is Verdict.REFUSE


@pytest.mark.parametrize("inner", ["synchronize_rcu", "load_module"])
def test_a_going_module_whose_loader_takes_it_out_has_not_died(inner: str) -> None:
    """A failed init: do_init_module sets GOING, and frees the module itself."""
    loader = make_task(inner, "load_module", call="finit_module", subject="x")
    found = ask(make_snapshot(make_module("x", GOING), tasks=(loader,)))
    assert (codes(found), found.verdict) == (["exit-running"], Verdict.REFUSE)


def test_a_module_whose_exit_pointer_was_cleared_has_no_exit_to_run() -> None:
    """Edited, and then not removed: what it registered would dangle."""
    cleared = make_module("x")
    assert cleared.raw is not None
    cleared = cleared._replace(raw=cleared.raw._replace(init=0, exit=0))
    left = make_registration(RegistrationKind.MISC, "left", "x")
    assert ask(make_snapshot(cleared)).verdict is Verdict.REMOVABLE
    assert ask(make_snapshot(cleared, registrations=(left,))).verdict is Verdict.CRASH


def test_a_waiter_for_the_name_is_not_its_loader() -> None:
    waiter = make_task("load_module", "__do_sys_finit_module", call="finit_module", subject="x")
    found = ask(make_snapshot(make_module("x", COMING), tasks=(waiter,)))
    assert codes(found) == ["init-died", "waiter"]
    assert "its name" in found.findings[1].summary
    assert found.verdict is Verdict.SAFE


def test_a_waiter_for_a_symbol_is_named_with_the_symbol() -> None:
    waiter = make_task(
        "load_module", call="finit_module", subject="y", subject_imports=("printk", "x_answer")
    )
    found = ask(make_snapshot(make_module("x", COMING, exports=("x_answer",)), tasks=(waiter,)))
    assert codes(found) == ["init-died", "waiter"]
    assert "x_answer" in found.findings[1].summary
    assert "to load y" in found.findings[1].summary


def test_a_waiter_for_another_module_is_not_mentioned() -> None:
    waiter = make_task("load_module", call="finit_module", subject="y", subject_imports=("z_answer",))
    assert codes(ask(make_snapshot(make_module("x", COMING), tasks=(waiter,)))) == ["init-died"]


def test_a_going_module_without_a_remover_has_died_in_exit() -> None:
    found = ask(make_snapshot(make_module("x", GOING)))
    assert (codes(found), found.verdict, found.refcnt) == (["exit-died"], Verdict.SAFE, -1)


@pytest.mark.parametrize(
    "task",
    [
        make_task("wait_for_completion", "x_exit [x]", *REMOVING, command="rmmod"),
        make_task("async_synchronize_cookie_domain", *REMOVING, call="delete_module", subject="x"),
        make_task("free_module", *REMOVING),
    ],
)
def test_a_live_remover_refuses(task: object) -> None:
    found = ask(make_snapshot(make_module("x", GOING), tasks=(task,)))
    assert codes(found) == ["exit-running"]
    assert found.verdict is Verdict.REFUSE


def test_an_unformed_module_is_refused_and_who_is_at_it_is_named() -> None:
    waiter = make_task("load_module", call="finit_module", subject="x")
    found = ask(make_snapshot(make_module("x", UNFORMED, in_sysfs=False), tasks=(waiter,)))
    assert codes(found) == ["unformed"]
    assert [holder.pid for holder in found.findings[0].holders] == [4711]
    assert found.verdict is Verdict.REFUSE


def test_without_a_sysfs_entry_a_removal_would_never_end() -> None:
    found = ask(make_snapshot(make_module("x", COMING, in_sysfs=False)))
    assert found.has(FindingCode.NO_SYSFS)
    assert found.verdict is Verdict.REFUSE


def test_a_module_without_an_exit_can_be_had_without_one() -> None:
    found = ask(make_snapshot(make_module("x", permanent=True)))
    assert (codes(found), found.verdict, found.exit_runs) == (["no-exit"], Verdict.SAFE, False)


def test_a_leaked_reference_is_unexplained_and_the_exit_runs() -> None:
    found = ask(make_snapshot(make_module("x", extra=3)))
    assert codes(found) == ["unexplained-references"]
    assert "3 references" in found.findings[0].summary
    assert (found.verdict, found.exit_runs) == (Verdict.SAFE, True)


@pytest.mark.parametrize("extra", [-1, -7, 2_000_000, 0x3FFFFFFF])
def test_a_count_below_its_base_or_absurd_is_corrupt(extra: int) -> None:
    found = ask(make_snapshot(make_module("x", extra=extra)))
    assert codes(found) == ["refcnt-corrupt"]
    assert found.verdict is Verdict.SAFE


def test_of_a_negative_count_the_remedy_warns_of_rmmod() -> None:
    found = ask(make_snapshot(make_module("x", extra=-2)))
    assert "do not run rmmod" in found.findings[0].remedy


def test_a_corrupt_count_with_somebody_in_sight_is_refused() -> None:
    opened = OpenFile(name("x"), 99, "cat", "/dev/x", fd=3)
    found = ask(make_snapshot(make_module("x", extra=-2), open_files=(opened,)))
    assert found.verdict is Verdict.REFUSE


@pytest.mark.parametrize(
    ("fields", "kind", "shown"),
    [
        ({"open_files": (OpenFile(name("x"), 99, "cat", "/dev/x", fd=3),)}, HolderKind.OPEN_FILE, "/dev/x"),
        ({"mounts": (Mount(name("x"), "/mnt", "xfs", "/dev/sdb"),)}, HolderKind.MOUNT, "/mnt"),
        ({"tasks": (make_task("msleep", "x_run [x]", kernel=True),)}, HolderKind.THREAD, "x_run"),
        (
            {"registrations": (make_registration(RegistrationKind.INTERFACE, "eth7", "x"),)},
            HolderKind.NETDEV,
            "eth7",
        ),
        (
            {"registrations": (make_registration(RegistrationKind.DEVICE, "pdev0", "x"),)},
            HolderKind.BOUND_DEVICE,
            "pdev0",
        ),
        (
            {"registrations": (make_registration(RegistrationKind.CRYPTO, "xhash", "x", users=1),)},
            HolderKind.USERS,
            "xhash",
        ),
    ],
)
def test_a_holder_in_sight_is_named_and_refuses(
    fields: dict[str, object], kind: HolderKind, shown: str
) -> None:
    found = ask(make_snapshot(make_module("x", extra=1), **fields))
    assert found.has(FindingCode.REFERENCED)
    assert found.verdict is Verdict.REFUSE
    referenced = found.finding(FindingCode.REFERENCED)
    assert referenced is not None
    assert referenced.holders[0].kind is kind
    assert shown in referenced.holders[0].name
    assert referenced.remedy


def test_an_interface_that_is_down_holds_nothing() -> None:
    """So its remedy, to bring it down, does release."""
    down = make_registration(RegistrationKind.INTERFACE, "eth7", "x", users=0)
    found = ask(make_snapshot(make_module("x", extra=1), registrations=(down,)))
    assert codes(found) == ["unexplained-references", "registered"]
    assert found.verdict is Verdict.SAFE


def test_more_references_than_holders_in_sight_are_unexplained() -> None:
    opened = OpenFile(name("x"), 99, "cat", "/dev/x", fd=3)
    found = ask(make_snapshot(make_module("x", extra=4), open_files=(opened,)))
    assert codes(found)[:2] == ["referenced", "unexplained-references"]
    assert "2 more references" in found.findings[1].summary


def test_an_open_character_device_has_two_references() -> None:
    opened = OpenFile(name("x"), 99, "cat", "/dev/x", fd=3)
    found = ask(make_snapshot(make_module("x", extra=2), open_files=(opened,)))
    assert codes(found) == ["referenced"]


def test_a_file_open_on_a_module_without_references_is_a_crash_to_come() -> None:
    opened = OpenFile(name("x"), 99, "cat", "/dev/x", fd=3)
    found = ask(make_snapshot(make_module("x"), open_files=(opened,)))
    assert codes(found) == ["open-without-reference"]
    assert found.verdict is Verdict.CRASH
    assert "/dev/x" in found.reason


@pytest.mark.parametrize("kind", [k for k in RegistrationKind if k is not RegistrationKind.HRTIMER])
def test_what_is_registered_crashes_where_the_exit_does_not_run(kind: RegistrationKind) -> None:
    item = make_registration(kind, "left", "x")
    found = ask(make_snapshot(make_module("x", COMING), registrations=(item,)))
    assert codes(found) == ["init-died", "registered"]
    assert found.verdict is Verdict.CRASH
    assert "left" in found.findings[1].event


def test_what_is_registered_is_no_obstacle_where_the_exit_runs() -> None:
    item = make_registration(RegistrationKind.MISC, "left", "x")
    found = ask(make_snapshot(make_module("x"), registrations=(item,)))
    assert (codes(found), found.verdict) == (["registered"], Verdict.REMOVABLE)


def test_an_armed_timer_refuses_where_the_exit_does_not_run() -> None:
    timer = make_registration(RegistrationKind.HRTIMER, "x_tick", "x")
    assert ask(make_snapshot(make_module("x", COMING), registrations=(timer,))).verdict is Verdict.REFUSE
    assert ask(make_snapshot(make_module("x"), registrations=(timer,))).verdict is Verdict.REMOVABLE


def test_a_thread_inside_refuses_where_the_exit_does_not_run() -> None:
    thread = make_task("msleep", "x_run [x]", "kthread", kernel=True, command="x_thread")
    assert ask(make_snapshot(make_module("x", COMING), tasks=(thread,))).verdict is Verdict.REFUSE
    assert ask(make_snapshot(make_module("x"), tasks=(thread,))).verdict is Verdict.REMOVABLE


def test_a_stuck_asynchronous_call_refuses_every_removal() -> None:
    stuck = AsyncEntry("y_probe", name("y"), running=False)
    found = ask(make_snapshot(make_module("x"), make_module("y"), async_entries=(stuck,)))
    assert codes(found) == ["async-stuck"]
    assert found.verdict is Verdict.REFUSE


def test_a_running_asynchronous_call_is_no_obstacle() -> None:
    running = AsyncEntry("y_probe", name("y"), running=True)
    assert ask(make_snapshot(make_module("x"), async_entries=(running,))).verdict is Verdict.REMOVABLE


def test_a_dead_owner_of_module_mutex_refuses_everything() -> None:
    found = ask(make_snapshot(make_module("x"), module_mutex=MutexState(held=True)))
    assert codes(found) == ["module-mutex-held"]
    assert found.verdict is Verdict.REFUSE
    assert "restarted" in found.remedy


@pytest.mark.parametrize("policy", [Policy(modules_disabled=True), Policy(module_unload=False)])
def test_policy_refuses(policy: Policy) -> None:
    found = ask(make_snapshot(make_module("x"), policy=policy))
    assert codes(found) == ["policy"]
    assert found.verdict is Verdict.REFUSE


@pytest.mark.parametrize(
    "policy", [Policy(lockdown="integrity"), Policy(sig_enforce=True), Policy(loadpin=True)]
)
def test_policy_about_signatures_refuses_where_edits_are_needed(policy: Policy) -> None:
    dead = ask(make_snapshot(make_module("x", COMING), policy=policy))
    assert (codes(dead), dead.verdict) == (["init-died", "policy"], Verdict.REFUSE)
    assert ask(make_snapshot(make_module("x"), policy=policy)).verdict is Verdict.REMOVABLE


def test_a_snapshot_read_back_gives_the_same_diagnosis() -> None:
    snapshot = make_snapshot(
        make_module("x", COMING, extra=1, holders=(name("y"),)),
        make_module("y", COMING),
        tasks=(make_task("msleep", "y_init [y]", *LOADING),),
        registrations=(make_registration(RegistrationKind.MISC, "left", "x"),),
    )
    again = Snapshot.from_json(snapshot.to_json())
    assert again == snapshot
    assert ask(again) == ask(snapshot)


def test_without_a_module_its_references_are_given_back() -> None:
    provider = make_module("x", extra=1, holders=(name("user"),))
    left = without_module(make_snapshot(provider, make_module("user", COMING)), name("user"))
    remaining = left.module(name("x"))
    assert remaining is not None
    assert remaining == make_module("x")._replace(holders=())
    assert ask(left).verdict is Verdict.REMOVABLE
