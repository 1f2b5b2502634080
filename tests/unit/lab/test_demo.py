# SPDX-License-Identifier: MIT
"""The demo's checker: what differs from a row's expectations is told, and ends the demo with 1."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lkm.cli.lab_demo import conclude
from lkm.lab.demo import Observation, RescueSeen, problems
from lkm.lab.demo_rows import DIED_EDITS, KILLED, ROWS, Load, Rescue, Row

ROW = Row(
    name="sick",
    about="its init dies",
    loads=(Load("sick", code=KILLED),),
    line="1 - Loading",
    rmmod=1,
    complaint="Module sick is in use",
    codes=("init-died",),
    verdict="safe",
    rescues=(Rescue("rescued", edits=("exit", "state")),),
    again=(Load("sick", code=KILLED),),
)
RESCUE = RescueSeen(
    command="lkm rescue sick",
    code=0,
    outcome="rescued",
    reason="the module is gone and its name is free",
    remedy="",
    edits=("sick.exit 0xffffffffc0000000 → 0x0", "sick.state 0x1 → 0x0"),
    removed=("sick",),
    proof=("no new oops",),
)
LINE = "sick 28672 1 - Loading 0xffffffffc03f0000 (OE+)"
SEEN = Observation(
    loads=["insmod sick.ko: killed by signal 9"],
    line=LINE,
    rmmod_code=1,
    rmmod_message="rmmod: ERROR: Module sick is in use (exit code 1)",
    left=LINE,
    codes=("init-died",),
    verdict="safe",
    rescues=[RESCUE],
    gone=True,
    again=["insmod sick.ko: killed by signal 9"],
)


def test_nothing_to_say_when_all_is_as_expected() -> None:
    assert problems(ROW, SEEN) == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (replace(ROW, line="0 - Live"), "/proc/modules: expected 0 - Live, seen 1 - Loading"),
        (replace(ROW, rmmod=0), "rmmod: expected exit code 0, seen exit code 1"),
        (replace(ROW, rmmod=None), "rmmod: expected never returns, seen exit code 1"),
        (replace(ROW, complaint="busy"), "rmmod's message lacks 'busy': " + SEEN.rmmod_message),
        (
            replace(ROW, left="-1 - Unloading"),
            "/proc/modules after rmmod: expected -1 - Unloading, seen 1 - Loading",
        ),
        (replace(ROW, codes=("no-exit",)), "findings: expected no-exit, seen init-died"),
        (replace(ROW, codes=()), "findings: expected none, seen init-died"),
        (replace(ROW, verdict="crash"), "verdict: expected crash, seen safe"),
        (replace(ROW, rescues=()), "1 rescues, expected 0"),
        (replace(ROW, name="other"), "lkm rescue sick: removed: expected other, seen sick"),
    ],
)
def test_a_wrong_expectation_is_told(row: Row, told: str) -> None:
    assert told in problems(row, SEEN)


@pytest.mark.parametrize(
    ("rescue", "told"),
    [
        (Rescue("refused"), "lkm rescue sick: expected refused, seen rescued"),
        (Rescue("rescued", code=3), "lkm rescue sick: exit code: expected 3, seen 0"),
        (Rescue("rescued", edits=DIED_EDITS), f"lkm rescue sick: edits: expected {', '.join(DIED_EDITS)}"),
        (Rescue("rescued", reason="waits"), "lkm rescue sick: the reason lacks 'waits'"),
        (
            Rescue("rescued", removed=("user", "sick")),
            "lkm rescue sick: removed: expected user, sick, seen sick",
        ),
    ],
)
def test_a_wrong_expectation_of_a_rescue_is_told(rescue: Rescue, told: str) -> None:
    assert any(line.startswith(told) for line in problems(replace(ROW, rescues=(rescue,)), SEEN))


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (replace(SEEN, gone=False), "the module is still there"),
        (replace(SEEN, error="the guest died"), "the guest died"),
        (replace(SEEN, unexpected=["insmod sick.ko: done"]), "insmod sick.ko: done"),
        (replace(SEEN, rescues=[]), "0 rescues, expected 1"),
    ],
)
def test_what_went_wrong_is_told(seen: Observation, told: str) -> None:
    assert told in problems(ROW, seen)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("row", "count", "code"),
    [(ROW, 1, 0), (replace(ROW, verdict="crash"), 1, 1), (ROW, 2, 1)],
    ids=["as expected", "wrong expectation", "a row is missing"],
)
def test_exit_code(
    row: Row, count: int, code: int, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = problems(row, SEEN)
    assert conclude([(row, SEEN, found)], count, kernel="6.1", as_json=as_json) == code
    output = capsys.readouterr().out
    if as_json:
        answer = json.loads(output)
        assert next(iter(answer.items())) == ("schema", "lkm.demo/1")
        assert answer["ok"] is (code == 0)
        assert answer["rows"][0]["problems"] == found
    else:
        assert output.splitlines()[1].endswith("NO" if found else "yes")
        assert f"{0 if found else 1} of {count} as expected" in output


def test_the_modules_of_the_originals_have_their_rows() -> None:
    wanted = {"bug_mod1", "bug_mod2", "decmod", "none_exit", "kerneloops", "createoops"}
    assert wanted <= {row.name for row in ROWS}
