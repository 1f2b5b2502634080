# SPDX-License-Identifier: MIT
"""What pointers into a module mean for its removal."""

from __future__ import annotations

from typing import Any

import pytest

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Certainty, Diagnosis, FindingCode, Verdict
from lkm.system.scanned import Hit, HitClass, Place, PlaceKind, Scan
from lkm.system.snapshot import LoadedModule, ModuleState, Snapshot
from tests.snapshots import make_module, make_snapshot, name

DEAD = make_module("x", ModuleState.COMING)
HEALTHY = make_module("x")
SLAB = Place(PlaceKind.SLAB, 0xFFFF_8880_0000_1008, "filp", 8, 0xFFFF_8880_0000_1000, 256, live=True)


def hit(found: HitClass, what: str = "", *, event: str = "", registered: bool = False) -> Hit:
    return Hit(0xFFFF_FFFF_C000_0010, "x_ops", SLAB, found, what, event, registered=registered)


def scanned(module: LoadedModule, *hits: Hit, **fields: Any) -> Snapshot:
    scan = Scan(name("x"), hits=hits)._replace(**fields)
    return make_snapshot(module)._replace(scans=(scan,))


def ask(snapshot: Snapshot) -> Diagnosis:
    return diagnose(snapshot, name("x"))


LIVE = hit(HitClass.LIVE, "dentry.d_fsdata of entry", event="the next open of it calls freed code")
OPEN = hit(HitClass.LIVE, "file.f_op of left", event="its next use calls freed code")


def test_a_live_object_is_a_crash_where_no_exit_runs() -> None:
    found = ask(scanned(DEAD, LIVE, LIVE))
    assert (found.verdict, found.reason) == (Verdict.CRASH, LIVE.event)
    assert [f.code for f in found.findings].count(FindingCode.POINTED_AT) == 1


def test_what_the_exit_takes_away_is_no_crash() -> None:
    found = ask(scanned(HEALTHY, LIVE))
    assert found.verdict is Verdict.REMOVABLE
    assert found.has(FindingCode.POINTED_AT)


@pytest.mark.parametrize("module", [DEAD, HEALTHY], ids=["no exit", "exit"])
@pytest.mark.parametrize("what", ["file.f_op of left", "vm_area_struct.vm_ops"])
def test_an_open_file_without_a_reference_is_a_crash_though_the_exit_runs(
    module: LoadedModule, what: str
) -> None:
    found = ask(scanned(module, OPEN._replace(what=what)))
    assert (found.verdict, found.reason) == (Verdict.CRASH, OPEN.event)
    assert found.has(FindingCode.OPEN_WITHOUT_REFERENCE)


def test_of_many_live_objects_the_first_are_told_one_by_one() -> None:
    many = [LIVE._replace(what=f"kernfs_node.priv of file{number}") for number in range(20)]
    found = [f for f in ask(scanned(DEAD, *many)).findings if f.code is FindingCode.POINTED_AT]
    assert len(found) == 9
    assert found[-1].summary == "12 live objects more with pointers into x"
    assert found[-1].event == LIVE.event
    assert "file8" in found[-1].evidence[0]


def test_each_open_file_is_told_however_many_there_are() -> None:
    many = [OPEN._replace(what=f"file.f_op of file{number}") for number in range(20)]
    found = ask(scanned(HEALTHY, LIVE, *many)).findings
    assert [f.code for f in found].count(FindingCode.OPEN_WITHOUT_REFERENCE) == 20
    assert [f.summary for f in found if f.code is FindingCode.POINTED_AT] == [
        "dentry.d_fsdata of entry points to x_ops [x]"
    ]


def test_what_the_tables_told_already_is_not_told_again() -> None:
    found = ask(scanned(DEAD, hit(HitClass.LIVE, "timer tick", registered=True)))
    assert not found.has(FindingCode.POINTED_AT)


def test_unknown_owners_are_possible_and_leave_the_verdict() -> None:
    found = ask(scanned(DEAD, hit(HitClass.UNKNOWN), hit(HitClass.STALE), hit(HitClass.STALE)))
    finding = found.finding(FindingCode.POINTED_AT)
    assert found.verdict is Verdict.SAFE
    assert finding is not None
    assert finding.certainty is Certainty.POSSIBLE
    assert finding.summary.startswith("1 word in memory of unknown owners")
    assert finding.evidence[-1].startswith("2 more in memory that is not in use")


@pytest.mark.parametrize("found", [HitClass.STALE, HitClass.EXPECTED])
def test_left_over_and_expected_pointers_are_no_finding(found: HitClass) -> None:
    answer = ask(scanned(DEAD, hit(found)))
    assert answer.verdict is Verdict.SAFE
    assert not answer.has(FindingCode.POINTED_AT)


def test_memory_that_stays_allocated_is_a_leak_where_no_exit_runs() -> None:
    kept = Hit(SLAB.start, "my_buffer", SLAB._replace(name="kmalloc-256"), HitClass.UNKNOWN)
    found = ask(scanned(DEAD, kept=(kept,)))
    assert found.verdict is Verdict.LEAKS
    assert "1 object that it points to" in found.reason
    assert any("my_buffer → kmalloc-256 object" in item for item in found.not_scanned)
    assert ask(scanned(HEALTHY, kept=(kept,))).verdict is Verdict.REMOVABLE
    assert ask(scanned(DEAD, LIVE, kept=(kept,))).verdict is Verdict.CRASH


@pytest.mark.parametrize("module", [DEAD, HEALTHY], ids=["no exit", "exit"])
def test_a_scan_that_failed_is_said(module: LoadedModule) -> None:
    found = ask(scanned(module, error="kernel memory at 0x1: not mapped"))
    assert "kernel memory: kernel memory at 0x1: not mapped" in found.not_scanned
    assert ask(scanned(module, notes=("a part was left out",))).not_scanned[-1] == "a part was left out"
