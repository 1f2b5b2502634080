# SPDX-License-Identifier: MIT
"""The plan of a quarantine, what refuses it, and its proof."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lkm.cli.main import run
from lkm.diagnosis.findings import Verdict
from lkm.errors import LkmError
from lkm.names import MAX_NAME, quarantine_name, quarantine_number
from lkm.rescue.gate import refusals
from lkm.rescue.plan import Call, EditKind, Plan, Step, StepKind
from lkm.rescue.planner import plan_rescue
from lkm.rescue.proof import prove_quarantined
from lkm.rescue.request import Request
from lkm.rescue.table import operations
from lkm.system.snapshot import (
    AsyncEntry,
    LoadedModule,
    ModuleState,
    OpenFile,
    Policy,
    Reader,
    RegistrationKind,
    Snapshot,
    Task,
    Unread,
)
from tests.snapshots import (
    ADDRESS,
    LAYOUT,
    SYMBOLS,
    make_module,
    make_registration,
    make_snapshot,
    make_task,
    name,
)

COMING, GOING, UNFORMED = ModuleState.COMING, ModuleState.GOING, ModuleState.UNFORMED
LIVE = ModuleState.LIVE
TYPED = LAYOUT._replace(kobject=80, kobject_name=80, sysfs=128, holders_dir=200)
CALLS = {"kobject_rename": 0xFFFFFFFF81000050, "sysfs_rename_link_ns": 0xFFFFFFFF81000060}
DIRECTORY, HOLDERS = 0xFFFF888000001000, 0xFFFF888000002000


def stuck(text: str, state: ModuleState = GOING, **fields: Any) -> LoadedModule:
    """A module as memory has it on a kernel with BTF."""
    module = make_module(text, state, **fields)
    assert module.raw
    raw = module.raw._replace(kobject_name=module.name, sysfs=DIRECTORY, holders_dir=HOLDERS)
    return module._replace(raw=raw)


def on(*modules: LoadedModule, **fields: Any) -> Snapshot:
    return make_snapshot(*modules, **{"layout": TYPED, "symbols": {**SYMBOLS, **CALLS}, **fields})


def plan_for(*modules: LoadedModule, of: str = "x", **fields: Any) -> Plan:
    return plan_rescue(on(*modules, **fields), name(of), Request(quarantine=True))


def step_for(*modules: LoadedModule, **fields: Any) -> Step:
    (step,) = plan_for(*modules, **fields).steps
    return step


def writes(step: Step) -> list[tuple[str, int, int]]:
    return [(edit.field, edit.expected, edit.new) for edit in step.writes]


def refusal_of(*modules: LoadedModule, of: str = "x", **fields: Any) -> str:
    snapshot = on(*modules, **fields)
    plan = plan_rescue(snapshot, name(of), Request(quarantine=True))
    refusal = next(refusals(snapshot, plan), None)
    return f"{refusal.reason}; {refusal.remedy}" if refusal else ""


def word(text: bytes) -> int:
    return int.from_bytes(text, "little")


def exiting(*frames: str, **fields: Any) -> Task:
    return make_task(*frames, **{"call": "delete_module", "subject": "x", "state": "D", **fields})


def test_a_module_whose_exit_blocks_loses_its_name_and_nothing_else() -> None:
    step = step_for(stuck("x"), tasks=(exiting("x_exit [x]", "__do_sys_delete_module"),))
    assert (step.kind, step.verdict, step.new_name) == (StepKind.QUARANTINE, Verdict.LEAKS, "x.dead1")
    assert writes(step) == [("name[0:8]", word(b"x"), word(b"x.dead1"))]
    assert {edit.field: edit.expected for edit in step.checks} == {"state": 2, "mkobj.kobj.sd": DIRECTORY}
    (rename,) = step.after
    assert rename.function == "kobject_rename"
    assert rename.must_return_zero
    assert [argument.value or argument.text for argument in rename.arguments] == [ADDRESS + 80, "x.dead1"]


def test_exports_go_first_and_the_state_last() -> None:
    step = step_for(stuck("x", COMING, num_syms=2))
    fields = [field for field, _, _ in writes(step)]
    assert fields == ["num_syms", "name[0:8]", "refcnt", "state"]
    assert writes(step)[2:] == [("refcnt", 2, 0), ("state", 1, 2)]
    assert step.writes[2].kind is EditKind.CMPXCHG


def test_what_can_fail_comes_before_what_cannot_be_undone() -> None:
    """A failed call undoes the writes before it, and no write undoes a call."""
    base = stuck("base", ModuleState.LIVE, extra=1, holders=(name("x"),))
    step = step_for(stuck("x", COMING, num_syms=1), base)
    made = [each.function if isinstance(each, Call) else each.field for each in operations(step)]
    assert made[-6:] == [
        "num_syms", "name[0:8]", "refcnt", "state", "kobject_rename", "sysfs_rename_link_ns",
    ]  # fmt: skip
    assert [call.must_return_zero for call in step.after] == [True, False]


@pytest.mark.parametrize(("extra", "count"), [(0, (2, 0)), (3, (5, 3))])
def test_of_a_dead_load_only_its_own_references_are_taken(extra: int, count: tuple[int, int]) -> None:
    """Who holds the others puts them later, and must not find too few."""
    written = {field: (old, new) for field, old, new in writes(step_for(stuck("x", COMING, extra=extra)))}
    assert written["refcnt"] == count


def test_a_count_that_has_not_even_those_is_left() -> None:
    assert "refcnt" not in [edit.field for edit in step_for(stuck("x", COMING, extra=-1)).edits]


@pytest.mark.parametrize("state", [COMING, ModuleState.LIVE])
def test_state_and_count_stay_with_those_who_live(state: ModuleState) -> None:
    loader = make_task("msleep", "x_init [x]", "do_one_initcall", call="finit_module", subject="x", state="D")
    tasks = (loader,) if state is COMING else ()
    step = step_for(stuck("x", state, extra=1 if state is ModuleState.LIVE else 0), tasks=tasks)
    assert [field for field, _, _ in writes(step)] == ["name[0:8]"]
    assert [edit.field for edit in step.checks] == ["state", "mkobj.kobj.sd"]


def test_every_word_of_a_name_is_expected() -> None:
    step = step_for(stuck("exit_block"), of="exit_block")
    assert [(edit.field, edit.kind) for edit in step.edits if edit.field.startswith("name")] == [
        ("name[0:8]", EditKind.CHECK),
        ("name[8:16]", EditKind.STORE),
        ("name[16:24]", EditKind.CHECK),
    ]
    last = step.edits[-1]
    assert (last.expected, last.new) == (0, 0)


def test_its_links_in_the_modules_that_it_uses_are_renamed() -> None:
    base = stuck("base", ModuleState.LIVE, extra=1, holders=(name("x"), name("other")))
    unused = stuck("unused", ModuleState.LIVE, holders=(name("other"),))
    _, link = step_for(stuck("x"), base, unused).after
    assert link.function == "sysfs_rename_link_ns"
    assert not link.must_return_zero
    assert [argument.value or argument.text for argument in link.arguments] == [
        HOLDERS, ADDRESS + 80, "x", "x.dead1", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("others", "new"),
    [
        ([], "x.dead1"),
        (["x.dead1"], "x.dead2"),
        (["x.dead2"], "x.dead1"),
        (["x.dead1", "x.dead2"], "x.dead3"),
    ],
)
def test_the_first_free_number(others: list[str], new: str) -> None:
    assert step_for(stuck("x"), *(stuck(other) for other in others)).new_name == new


@pytest.mark.parametrize("number", [1, 9, 10, 123])
def test_a_long_name_is_cut_to_what_fits(number: int) -> None:
    new = quarantine_name(name("n" * MAX_NAME), number)
    assert len(new.encode()) == MAX_NAME
    assert (new.rstrip("0123456789")[-5:], quarantine_number(new)) == (".dead", number)


def test_long_names_that_differ_in_what_is_cut_get_different_numbers() -> None:
    one, other = "n" * 54 + "1", "n" * 54 + "2"
    first = quarantine_name(name(one), 1)
    assert step_for(stuck(other), stuck(first), of=other).new_name == quarantine_name(name(other), 2)


def test_words_of_a_long_name_before_the_cut_stay() -> None:
    long = "n" * MAX_NAME
    assert [field for field, _, _ in writes(step_for(stuck(long), of=long))] == ["name[48:56]"]


def test_what_it_has_registered_is_told() -> None:
    kept = (make_registration(RegistrationKind.MISC, "left-over", "x"),)
    plan = plan_for(stuck("x", ModuleState.LIVE, extra=1), registrations=kept)
    assert any("misc left-over" in warning for warning in plan.warnings)


def test_a_plan_survives_json() -> None:
    plan = plan_for(stuck("x", COMING, num_syms=1))
    assert Plan.from_json(json.dumps(plan.to_object()), name="plan") == plan
    assert plan.request == Request(quarantine=True)


def test_an_absent_module_has_no_plan() -> None:
    with pytest.raises(LkmError, match="x is not loaded"):
        plan_for(stuck("other"))


REFUSED: list[tuple[LoadedModule, dict[str, Any], str]] = [
    (stuck("x", ModuleState.LIVE), {}, "lkm unload x"),
    (stuck("x", UNFORMED), {}, "set up or taken apart"),
    (stuck("x", in_sysfs=False), {}, "sysfs entry was never made"),
    (stuck("x"), {"policy": Policy(cap_sys_module=True, sig_enforce=True)}, "signed modules only"),
    (stuck("x"), {"policy": Policy(cap_sys_module=True, cfi=True)}, "CONFIG_CFI"),
    (stuck("x"), {"async_entries": (AsyncEntry("f", None, running=False),)}, "f never ended"),
    (stuck("x"), {"unread": (Unread(Reader.STACKS, "hidden"),)}, "at work in it was not seen"),
    (stuck("x"), {"layout": LAYOUT}, "CONFIG_DEBUG_INFO_BTF"),
    (stuck("x"), {"layout": None}, "layout of struct module is not known"),
    (stuck("x"), {"layout": TYPED._replace(proofs=())}, "could not be proved"),
    (stuck("x"), {"symbols": SYMBOLS}, "hides the address of kobject_rename"),
    (stuck("x"), {"sibling": None}, "no module file of this kernel"),
    (stuck("x"), {"tasks": (exiting("device_del", "x_exit [x]"),)}, "not asleep in the module's own code"),
    (stuck("x"), {"tasks": (exiting("async_synchronize_full", "x_exit [x]", older=1),)}, "not asleep in the"),
    (stuck("x"), {"tasks": (exiting("x_exit [x]", older=1),)}, "not asleep in the module's own code"),
    (stuck("x"), {"tasks": (make_task("x_work [x]", state="R", kernel=True),)}, "not asleep in the module's own"),
    (stuck("x"), {"tasks": (make_task("down_write", "kernfs_remove", state="D"),)}, "blocked in sysfs"),
    (stuck("x", live_patches=(name("fix"),)), {}, "echo 0 >/sys/kernel/livepatch/fix/enabled"),
    (stuck("x", ModuleState.LIVE, extra=1, live_patches=(name("x"),)), {}, "it is an enabled live patch"),
    (stuck("x", ModuleState.LIVE, extra=1, num_syms=1), {}, "got by symbol_get"),
    (stuck("x", COMING, extra=1, num_syms=1), {}, "has 1 reference beside"),
    (make_module("x", GOING), {}, "has no name that can be read"),
    (stuck("x"), {"tasks": (exiting("x_exit [x]", "free_module"),)}, "not asleep in the module's own code"),
    (stuck("x"), {"tasks": (exiting("x_exit [x]", state="R"),)}, "not asleep in the module's own code"),
    (stuck("x"), {"tasks": (exiting("async_synchronize_full"),)}, "not asleep in the module's own code"),
    (stuck("x"), {"tasks": (exiting("x_exit [x]", subject="", call=""), exiting("f", subject=""))}, "not asleep"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "fields", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_it_is_refused_with_its_reason(module: LoadedModule, fields: dict[str, Any], words: str) -> None:
    assert words in refusal_of(module, **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sysfs": 0}, "no directory in sysfs: it is being made or taken apart; look again"),
        (
            {"kobject_name": name("x.dead1")},
            "its kobject is called x.dead1: somebody has renamed /sys/module/x; ",
        ),
    ],
)
def test_a_kobject_that_is_not_its_own(fields: dict[str, Any], words: str) -> None:
    module = stuck("x")
    assert module.raw
    assert words in refusal_of(module._replace(raw=module.raw._replace(**fields)))


@pytest.mark.parametrize("quarantine", [True, False])
def test_who_is_not_root_is_told_what_needs_it(*, quarantine: bool) -> None:
    snapshot = on(stuck("x"), policy=Policy(cap_sys_module=False, euid=1000))
    refusal = next(refusals(snapshot, plan_rescue(snapshot, name("x"), Request(quarantine=quarantine))))
    assert refusal.reason == f"a {'quarantine' if quarantine else 'rescue'} needs root with CAP_SYS_MODULE"
    assert refusal.needs_root


def test_one_in_quarantine_stays_there() -> None:
    assert "it is in quarantine" in refusal_of(stuck("x.dead1"), of="x.dead1")


def test_one_whose_links_cannot_be_found_is_refused() -> None:
    assert "holders directory of base" in refusal_of(stuck("x"), make_module("base", holders=(name("x"),)))


@pytest.mark.parametrize(
    "module",
    [
        stuck("x"),
        stuck("x", COMING),
        stuck("x", ModuleState.LIVE, extra=2),
        stuck("x", ModuleState.LIVE, permanent=True),
    ],
    ids=["exit died", "init died", "leaked", "no exit"],
)
def test_what_is_stuck_is_let(module: LoadedModule) -> None:
    assert refusal_of(module) == ""


def test_its_helper_has_what_it_calls() -> None:
    for call in step_for(stuck("x")).after:
        assert isinstance(call, Call)
        assert call.address == CALLS[call.function]


@pytest.mark.parametrize(
    "task",
    [
        exiting("wait_for_completion", "x_exit [x]", "__do_sys_delete_module"),
        exiting("__flush_work", "cancel_work_sync", "x_exit [x]"),
        exiting("x_exit [x]", "f", older=1),
        make_task("msleep", "x_work [x]", state="S", kernel=True),
        make_task("pipe_read", state="D"),
    ],
)
def test_who_sleeps_in_it_does_not_hinder(task: Task) -> None:
    assert refusal_of(stuck("x"), tasks=(task,)) == ""


def test_exports_that_only_modules_use_may_go() -> None:
    assert refusal_of(stuck("x", COMING, extra=1, num_syms=1, holders=(name("y"),)), stuck("y")) == ""


def opened(**fields: Any) -> dict[str, Any]:
    return {"open_files": (OpenFile(name("x"), 7, "cat", "/dev/x", fd=3),), **fields}


@pytest.mark.parametrize(
    ("modules", "fields", "words"),
    [
        ((stuck("x", ModuleState.LIVE, extra=1),), opened(), "cat (pid 7) has /dev/x open"),
        ((stuck("x", ModuleState.LIVE, extra=1, holders=(name("y"),)), stuck("y", LIVE)), {}, "used by y"),
    ],
)  # fmt: skip
def test_what_is_only_in_use_needs_force(
    modules: tuple[LoadedModule, ...], fields: dict[str, Any], words: str
) -> None:
    snapshot = on(*modules, **fields)
    plan = plan_rescue(snapshot, name("x"), Request(quarantine=True))
    (refusal,) = refusals(snapshot, plan)
    assert words in refusal.reason
    assert "--force" in refusal.remedy
    assert list(refusals(snapshot, plan, force=True)) == []


def test_what_is_in_use_and_stuck_needs_none() -> None:
    inside = make_task("msleep", "x_work [x]", kernel=True)
    assert refusal_of(stuck("x", ModuleState.LIVE, extra=1), **opened(tasks=(inside,))) == ""
    assert refusal_of(stuck("x", ModuleState.LIVE, extra=3), **opened()) == ""
    assert refusal_of(stuck("x", COMING, extra=1), **opened()) == ""


def test_that_it_may_be_loaded_at_once_is_told() -> None:
    assert any("blacklist x, first" in warning for warning in plan_for(stuck("x")).warnings)


def test_that_a_rescue_would_do_is_told() -> None:
    asleep = exiting("x_exit [x]")
    assert any("lkm rescue x would free it" in warning for warning in plan_for(stuck("x")).warnings)
    assert not any("lkm rescue x" in warning for warning in plan_for(stuck("x"), tasks=(asleep,)).warnings)


# The proof


def uncounted(text: str) -> LoadedModule:
    module = stuck(text)
    assert module.raw
    return module._replace(raw=module.raw._replace(num_syms=None, num_gpl_syms=None))


def proved(*after: LoadedModule, messages: tuple[str, ...] = (), **fields: Any) -> list[str]:
    """What does not hold, in words."""
    checks = prove_quarantined(on(*after, **fields), step_for(stuck("x")), messages)
    assert checks
    return [f"{check.what}: {check.detail}" for check in checks if not check.holds]


def test_it_is_proved() -> None:
    assert proved(stuck("x.dead1")) == []


def test_the_name_may_be_in_use_again_at_once() -> None:
    assert proved(stuck("x.dead1"), stuck("x", ModuleState.LIVE, address=ADDRESS + 0x10000)) == []


def test_an_exit_that_came_back_meanwhile_is_no_failure() -> None:
    assert proved() == []


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ((stuck("x"),), "still called x"),
        ((stuck("x.dead1"), stuck("base", holders=(name("x"),))), "base/holders/x is still there"),
        ((stuck("x.dead1", address=ADDRESS + 8),), "struct module is at"),
        ((stuck("x.dead1", in_sysfs=False),), "not its own"),
        ((make_module("x.dead1", GOING),), "not its own"),
        ((stuck("x.dead1", memory=()),), "memory is not what it was"),
        ((stuck("x.dead1", num_syms=2),), "it still exports 2 symbols"),
        ((uncounted("x.dead1"),), "how many symbols it exports could not be read"),
    ],
)
def test_what_is_not_so_is_told(after: tuple[LoadedModule, ...], words: str) -> None:
    assert words in " ".join(proved(*after))


def test_an_oops_and_a_held_mutex_are_no_proof() -> None:
    assert "no new oops" in " ".join(proved(stuck("x.dead1"), messages=("Oops: 0002",)))
    assert "held" in " ".join(proved(stuck("x.dead1"), proc_modules_error="module_mutex is held"))


# The command line


def test_a_plan_is_executed_by_its_own_command_only(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan"
    path.write_text(json.dumps(plan_for(stuck("x")).to_object()), encoding="utf-8")
    assert run(["rescue", "x", "--plan", str(path)]) == 2
    assert f"lkm quarantine x --plan {path}" in capsys.readouterr().err
    rescue = plan_rescue(on(stuck("x")), name("x"))
    path.write_text(json.dumps(rescue.to_object()), encoding="utf-8")
    assert run(["quarantine", "x", "--plan", str(path)]) == 2
    assert f"lkm rescue x --plan {path}" in capsys.readouterr().err
    assert run(["quarantine", "y", "--plan", str(path)]) == 2
    assert "a plan for x, not for y" in capsys.readouterr().err
