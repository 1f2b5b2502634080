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

ON_MUTEX = "[<0>] __mutex_lock.constprop.0+0x2b7/0x600\n[<0>] load_module+0xa31/0x2110\n"
ON_NAME = "[<0>] add_unformed_module+0x151/0x2a0\n[<0>] load_module+0x9a2/0x2110\n"


def told(tmp_path: Path, stack: str, *, init_ran: bool | None) -> tuple[str, str]:
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/stack").write_text(stack)
    result = LoadResult(module_name("x"), CallResult(timed_out=True, pid=77), init_ran, ())
    return outcome_of(Root(str(tmp_path), "6.1.0"), result, None, one_shot=False)


@pytest.mark.parametrize("init_ran", [True, None])
def test_a_load_whose_init_was_reached_runs_on(tmp_path: Path, init_ran: bool | None) -> None:
    outcome, text = told(tmp_path, "[<0>] msleep+0x29/0x30\n", init_ran=init_ran)
    assert outcome == "running"
    assert "its init is still running (pid 77)" in text


def test_a_load_that_waits_for_module_mutex_is_not_said_to_run(tmp_path: Path) -> None:
    outcome, text = told(tmp_path, ON_MUTEX, init_ran=False)
    assert outcome == "waiting"
    assert "module_mutex" in text


def test_a_load_that_waits_for_another_is_not_said_to_run(tmp_path: Path) -> None:
    outcome, text = told(tmp_path, ON_NAME, init_ran=False)
    assert outcome == "waiting"
    assert "lkm why x" in text
