# SPDX-License-Identifier: MIT
"""What `lkm load` says of a load that has not ended: whether its init runs, or something is in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.cli.load import outcome_of
from lkm.names import module_name
from lkm.root import Root
from lkm.system.calls import CallResult
from lkm.system.load import LoadResult


def told(tmp_path: Path, state: str, *, init_ran: bool | None) -> tuple[str, str]:
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/stat").write_text(f"77 (lkm-finit) {state} 76 77 77 0 -1 4194304 0\n")
    result = LoadResult(module_name("x"), CallResult(timed_out=True, pid=77), init_ran, ())
    return outcome_of(Root(str(tmp_path), "6.1.0"), result, None, one_shot=False)


@pytest.mark.parametrize("init_ran", [True, None])
def test_a_load_whose_init_was_reached_runs_on(tmp_path: Path, init_ran: bool | None) -> None:
    outcome, text = told(tmp_path, "D", init_ran=init_ran)
    assert outcome == "running"
    assert "its init is still running (pid 77)" in text


def test_a_load_that_waits_for_module_mutex_is_not_said_to_run(tmp_path: Path) -> None:
    outcome, text = told(tmp_path, "D", init_ran=False)
    assert outcome == "waiting"
    assert "module_mutex" in text


def test_a_load_that_waits_for_another_is_not_said_to_run(tmp_path: Path) -> None:
    outcome, text = told(tmp_path, "S", init_ran=False)
    assert outcome == "waiting"
    assert "lkm why x" in text
