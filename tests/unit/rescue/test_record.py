# SPDX-License-Identifier: MIT
"""The record on disk: there before anything is done, whole at every moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lkm.errors import LkmError
from lkm.rescue.planner import plan_rescue
from lkm.rescue.record import Record, default_record_path
from lkm.system.snapshot import ModuleState, Snapshot
from tests.snapshots import make_module, make_snapshot, name

MACHINE = make_snapshot(make_module("x", ModuleState.COMING))
PLAN = plan_rescue(MACHINE, name("x"))


def test_it_says_what_is_about_to_be_done_and_then_what_came_of_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    record = Record(str(path), PLAN, MACHINE)
    begun = json.loads(path.read_text())
    assert (begun["outcome"], begun["plan"]) == ("begun", PLAN.to_object())
    assert begun["snapshot"]["modules"][0]["name"] == "x"
    record.complete("rescued", detail={"reason": "gone"})
    ended = json.loads(path.read_text())
    assert (ended["outcome"], ended["reason"], ended["plan"]) == ("rescued", "gone", PLAN.to_object())
    assert list(path.parent.iterdir()) == [path]


def test_it_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    """Kernel addresses stand in it."""
    path = tmp_path / "record.json"
    Record(str(path), PLAN, MACHINE)
    assert path.stat().st_mode & 0o077 == 0


def test_where_it_cannot_be_written_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LkmError, match="cannot be written"):
        Record(str(tmp_path / "file" / "record.json"), PLAN, MACHINE)


def test_what_is_done_is_not_undone_by_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    record = Record(str(folder / "r.json"), PLAN, MACHINE)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert "its end is not recorded" in record.complete("rescued", detail={})


def test_its_place_is_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_STATE_DIR", "/somewhere")
    assert default_record_path(name("x")).startswith("/somewhere/rescue-x-")
    monkeypatch.delenv("LKM_STATE_DIR")
    assert default_record_path(name("x")).startswith("/var/lib/lkm/rescue-x-")


def test_a_snapshot_can_be_had_from_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    Record(str(path), PLAN, MACHINE)
    taken = json.loads(path.read_text())["snapshot"]
    assert Snapshot.from_json(json.dumps(taken)) == MACHINE
