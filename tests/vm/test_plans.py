# SPDX-License-Identifier: MIT
"""Plans, records and snapshots: what is printed is what is done, and what is written can be read elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lkm.cli.main import run
from lkm.lab.vm import Guest
from tests.vm.talk import ask, prepare, untrue

DRY = ("--dry-run", "--json")


def _write(guest: Guest, path: str, content: Any) -> None:
    done = guest.run(["sh", "-c", f"cat >{path}"], stdin=json.dumps(content).encode())
    assert done.returncode == 0, done


def test_a_dry_run_prints_the_plan_that_is_then_executed(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    (dry,) = ask(guest, ["rescue", "bug_mod1", *DRY])
    assert (dry.object["outcome"], dry.code) == ("planned", 0), dry
    assert dry.object["plan"]["schema"] == "lkm.plan/1", dry
    assert not untrue(
        guest, ["is bug_mod1 coming", '[ "$(count_of bug_mod1)" = 1 ]', "[ ! -e /var/lib/lkm ]"]
    )
    (done,) = ask(guest, ["rescue", "bug_mod1", "--json"])
    assert done.object["outcome"] == "rescued", done
    assert done.object["plan"] == dry.object["plan"]


def test_a_recorded_plan_is_executed(guest: Guest) -> None:
    prepare(guest, ["insmod leak_ref.ko count=3"])
    (dry,) = ask(guest, ["rescue", "leak_ref", *DRY])
    _write(guest, "/tmp/plan", dry.object["plan"])
    (done,) = ask(guest, ["rescue", "leak_ref", "--plan", "/tmp/plan", "--json"])
    assert (done.object["outcome"], done.code) == ("rescued", 0), done
    assert done.object["plan"] == dry.object["plan"]
    assert not untrue(guest, ["gone leak_ref", 'said "leak_ref: unloaded"'])


def test_a_plan_from_before_a_change_writes_nothing(guest: Guest) -> None:
    prepare(guest, ["insmod leak_ref.ko count=1"])
    dry, _ = ask(guest, ["rescue", "leak_ref", *DRY], ["rescue", "leak_ref"])
    _write(guest, "/tmp/plan", dry.object)
    prepare(guest, ["insmod leak_ref.ko count=2"])
    (stale,) = ask(guest, ["rescue", "leak_ref", "--plan", "/tmp/plan", "--json"])
    assert (stale.object["outcome"], stale.code) == ("refused", 3), stale
    assert any("refcnt" in line for line in stale.object["differs"]), stale
    assert "nothing was written" in stale.object["reason"], stale
    assert not untrue(guest, ["is leak_ref live", '[ "$(count_of leak_ref)" = 2 ]'])


def test_a_plan_with_another_address_writes_nothing(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    (dry,) = ask(guest, ["rescue", "bug_mod1", *DRY])
    for address in (
        "0xffffffffffffe000",
        "0x0",
        "0x7f0000000000",
        dry.object["plan"]["symbols"]["mutex_trylock"],
    ):
        plan = json.loads(dry.stdout)["plan"]
        plan["steps"][0]["edits"][-1]["address"] = address
        _write(guest, "/tmp/plan", plan)
        (answer,) = ask(guest, ["rescue", "bug_mod1", "--plan", "/tmp/plan", "--json"])
        assert (answer.object["outcome"], answer.code) == ("refused", 3), answer
        assert "address" in answer.object["reason"], answer
    wrong = untrue(guest, ["is bug_mod1 coming", '[ "$(dmesg | grep -c Oops:)" = 1 ]', "insmod decmod.ko"])
    assert not wrong, "\n".join(wrong)


def test_what_is_no_plan_is_told_in_one_line(guest: Guest) -> None:
    prepare(
        guest,
        [
            "dies insmod bug_mod1.ko",
            "echo '{}' >/tmp/empty",
            'echo \'{"schema": "lkm.plan/1"}\' >/tmp/hollow',
            "head -c 1000 /dev/urandom >/tmp/noise",
        ],
    )
    files = ("/tmp/empty", "/tmp/hollow", "/tmp/noise", "/share/bug_mod1.ko", "/tmp/absent", "/tmp")
    codes = (1, 1, 1, 1, 2, 2)  # the last two are no files
    answers = ask(guest, *(["rescue", "bug_mod1", "--plan", file, "--json"] for file in files))
    for code, answer in zip(codes, answers):
        assert answer.code == code, answer
        assert len(answer.stderr.splitlines()) == 1, answer
    assert not untrue(guest, ["is bug_mod1 coming"])


def test_the_record_holds_plan_and_both_states(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko", "insmod none_exit.ko"])
    first, second = ask(
        guest,
        ["rescue", "bug_mod1", "--json"],
        ["rescue", "none_exit", "--record", "/tmp/deep/down/record", "--json"],
    )
    assert first.object["record"].startswith("/var/lib/lkm/rescue-bug_mod1-"), first
    assert second.object["record"] == "/tmp/deep/down/record", second
    for answer in (first, second):
        record = json.loads(guest.get(answer.object["record"]))
        assert record["schema"] == "lkm.record/1"
        assert record["outcome"] == "rescued"
        assert record["plan"] == answer.object["plan"]
        assert answer.object["module"] in {module["name"] for module in record["snapshot"]["modules"]}
        assert record["after"]["state"] is None
        assert all(check["holds"] for check in record["proof"])
    assert not untrue(guest, ['[ -z "$(find /var/lib/lkm /tmp/deep -name "*.tmp")" ]'])


@pytest.mark.parametrize("place", ["/proc/lkm/record", "/lib/modules/record", "/dev/null/record"])
def test_without_a_record_nothing_is_done(guest: Guest, place: str) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    (answer,) = ask(guest, ["rescue", "bug_mod1", "--record", place, "--json"])
    assert answer.code == 1, answer
    assert "record" in answer.stderr, answer
    assert "Traceback" not in answer.stderr, answer
    assert not untrue(guest, ["is bug_mod1 coming", '[ "$(count_of bug_mod1)" = 1 ]'])


DIAGNOSED = ("bug_mod1", "leak_ref", "left_proc", "left_holder", "provider", "dead_dependent", "absent")


def test_a_snapshot_gives_the_same_diagnosis_elsewhere(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(
        guest,
        [
            "dies insmod bug_mod1.ko", "insmod leak_ref.ko", "dies insmod left_proc.ko",
            "insmod left_holder.ko die=0", "insmod provider.ko", "dies insmod dead_dependent.ko",
            "sleep 1000 </dev/holdme & sleep 0.5",
        ],
    )  # fmt: skip
    here = ask(
        guest,
        ["snapshot", "-o", "/tmp/snapshot"],
        *(["why", name, "--no-scan", "--json"] for name in DIAGNOSED),
        timeout=240,
    )
    recorded = tmp_path / "snapshot"
    recorded.write_bytes(guest.get("/tmp/snapshot"))
    for name, answer in zip(DIAGNOSED, here[1:]):
        code = run(["why", name, "--snapshot", str(recorded), "--json"])
        assert code == answer.code, answer
        assert json.loads(capsys.readouterr().out) == answer.object, answer


def test_the_text_for_people_has_edits_proof_and_outcome(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    why = guest.run(["lkm", "why", "bug_mod1"])
    rescue = guest.run(["lkm", "rescue", "bug_mod1"])
    assert why.returncode == 1, why
    assert b"verdict: safe" in why.stdout, why
    assert rescue.returncode == 0, rescue
    for word in (
        "write state at 0x",
        "its exit is not called",
        "proof: no new oops: yes",
        "rescued:",
        "record: /var",
    ):
        assert word.encode() in rescue.stdout, f"{word}\n{rescue.stdout.decode()}"
