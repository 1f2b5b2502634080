# SPDX-License-Identifier: MIT
"""`lkm why` on recorded snapshots, and what the commands do where nothing can be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.cli.main import COMMANDS, run
from lkm.errors import NoLoadableModules
from lkm.rescue.rescue import rescue
from lkm.rescue.result import Options
from lkm.rescue.unload import unload
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.snapshot import ModuleState, OpenFile, Snapshot
from tests.snapshots import make_module, make_snapshot, name


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    snapshot = make_snapshot(
        make_module("dead", ModuleState.COMING),
        make_module("healthy"),
        make_module("held", extra=1),
        open_files=(OpenFile(name("held"), 99, "cat", "/dev/held", fd=3),),
    )
    path = tmp_path / "snapshot.json"
    path.write_text(snapshot.to_json())
    return str(path)


def test_json_has_the_contract_first(recorded: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "held", "--snapshot", recorded, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert list(data)[:5] == ["schema", "module", "state", "refcnt", "verdict"]
    assert (data["schema"], data["module"], data["verdict"]) == ("lkm.why/1", "held", "refuse")
    finding = data["findings"][0]
    assert {"code", "summary", "evidence", "remedy", "certainty"} <= set(finding)
    holder = finding["holders"][0]
    assert (holder["pid"], holder["command"], holder["path"]) == (99, "cat", "/dev/held")


def test_removable_is_exit_code_0_and_dashes_are_underscores(recorded: str) -> None:
    assert run(["why", "healthy", "--snapshot", recorded]) == 0
    assert run(["why", "dead", "--snapshot", recorded]) == 1
    assert run(["why", "not-there", "--snapshot", recorded]) == 1


def test_text_says_state_finding_and_verdict(recorded: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["why", "dead", "--snapshot", recorded])
    text = capsys.readouterr().out
    assert text.startswith("dead: coming, refcnt 1\n")
    assert "init-died" in text
    assert "verdict: safe" in text


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"schema": "lkm.snapshot/1"}', b"[1]"])
def test_a_bad_snapshot_is_one_line_and_exit_code_1(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    assert run(["why", "x", "--snapshot", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lkm: ")
    assert error.count("\n") == 1
    assert "bad.json" in error


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "x", "--snapshot", "/nowhere/s.json"]) == 2
    assert capsys.readouterr().err == (
        "lkm: /nowhere/s.json cannot be read: No such file or directory; record one with lkm snapshot\n"
    )


def test_a_plan_for_another_module_or_of_nonsense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    assert run(["rescue", "x", "--plan", str(path)]) == 1
    assert "not a plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a kernel module"),
        (b"#!/bin/sh\n", "not a kernel module"),
        (b"\x7fELF\x01\x01\x01" + bytes(200), "lkm: "),
        (b"\x7fELF\x02\x01\x01" + bytes(20), "lkm: "),
    ],
)
def test_a_file_that_is_no_module_is_not_loaded(
    content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.ko"
    path.write_bytes(content)
    assert run(["load", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert "x.ko" in error


def test_a_kernel_without_loadable_modules_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text("")
    root = Root(str(tmp_path), "6.1.0")
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(capture(root).to_json())
    said = "this kernel has no loadable modules (CONFIG_MODULES is off)"
    for command in (["list", "--root", str(tmp_path)], ["why", "x", "--snapshot", str(snapshot)]):
        assert run(command) == 1
        assert capsys.readouterr().err == f"lkm: {said}\n"
    with pytest.raises(NoLoadableModules, match="CONFIG_MODULES"):
        rescue(root, name("x"), Options())
    with pytest.raises(NoLoadableModules, match="CONFIG_MODULES"):
        unload(root, name("x"), wait=0, exit_seconds=1)


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert run(["dance"]) == 2
    assert run(["why"]) == 2
    assert run(["rescue", "x", "--exit-wait", "soon"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_a_snapshot_of_elsewhere_needs_no_kernel_here(recorded: str) -> None:
    with open(recorded, encoding="utf-8") as stream:
        assert Snapshot.from_json(stream.read()).module(name("dead")) is not None
