# SPDX-License-Identifier: MIT
"""`lkm links`: the tools under their own names, and what it does not touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lkm.cli.links import LAUNCHER, NAMES, launcher_text
from lkm.cli.main import run

ALL = {LAUNCHER, *NAMES}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def call(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


def test_each_name_is_its_tool(tmp_path: Path) -> None:
    assert run(["links", str(tmp_path / "sbin")]) == 0
    folder = tmp_path / "sbin"
    assert names_in(folder) == ALL
    for name in NAMES:
        done = call(str(folder / name), "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert name in done.stdout
    done = call(str(folder / "rmmod"), "-x")
    assert (done.returncode, done.stderr) == (1, f"{folder}/rmmod: invalid option -- 'x'\n")
    done = call("rmmod", "-x", PATH=str(folder))
    assert (done.returncode, done.stderr) == (1, "rmmod: invalid option -- 'x'\n")


def test_the_environment_does_not_change_what_runs(tmp_path: Path) -> None:
    assert run(["links", str(tmp_path / "sbin")]) == 0
    (tmp_path / "lkm").mkdir()
    (tmp_path / "lkm/__init__.py").write_text("raise SystemExit('another lkm')\n", encoding="utf-8")
    (tmp_path / "os.py").write_text("raise SystemExit('another os')\n", encoding="utf-8")
    done = subprocess.run(
        [tmp_path / "sbin/lsmod", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:")


def test_the_libraries_of_this_python_are_found(tmp_path: Path) -> None:
    """zstandard, which is none of the standard library."""
    assert run(["links", str(tmp_path)]) == 0
    done = call(str(tmp_path / "kmod"), "-V")
    assert "+ZSTD +XZ +ZLIB" in done.stdout
    assert any(entry.endswith("site-packages") for entry in sys.path)
    assert "site-packages" in (tmp_path / LAUNCHER).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [LAUNCHER, "lsmod"])
def test_what_another_has_made_stays(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
    assert run(["links", str(tmp_path)]) == 3
    assert f"{tmp_path} has {name}, which lkm links has not made" in capsys.readouterr().err
    assert names_in(tmp_path) == {name}
    assert run(["links", "--remove", str(tmp_path)]) == 0
    assert names_in(tmp_path) == {name}
    assert run(["links", "--force", str(tmp_path)]) == 0
    assert names_in(tmp_path) == ALL


def test_a_link_to_elsewhere_is_another_s(tmp_path: Path) -> None:
    (tmp_path / "modprobe").symlink_to("/bin/kmod")
    assert run(["links", str(tmp_path)]) == 3
    assert (tmp_path / "modprobe").readlink() == Path("/bin/kmod")


def test_a_directory_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lsmod").mkdir()
    assert run(["links", "--force", str(tmp_path)]) == 3
    assert f"{tmp_path}/lsmod is a directory" in capsys.readouterr().err
    assert names_in(tmp_path) == {"lsmod"}


def test_made_twice_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").touch()
    assert run(["links", str(tmp_path)]) == 0
    assert run(["links", str(tmp_path)]) == 0
    capsys.readouterr()
    assert run(["links", "--remove", "--json", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], set(found["removed"])) == ("lkm.links/1", ALL)
    assert names_in(tmp_path) == {"other"}
    assert run(["links", "--remove", str(tmp_path)]) == 0
    assert "nothing" in capsys.readouterr().out


def test_it_says_what_path_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    early, ours = tmp_path / "early", tmp_path / "ours"
    early.mkdir()
    (early / "lsmod").touch()

    def notes(path: str) -> str:
        monkeypatch.setenv("PATH", path)
        assert run(["links", str(ours)]) == 0
        return capsys.readouterr().out

    assert f"note: {ours} is not in PATH" in notes(str(early))
    assert f"note: {early}/lsmod is found first" in notes(f"{early}:{ours}")
    assert "first" not in notes(f"{ours}:{early}")


def test_a_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["links", str(tmp_path / "file/sbin")]) == 1
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["with a space", "x" * 200])
def test_an_interpreter_that_no_first_line_can_name(folder: str, tmp_path: Path) -> None:
    place = tmp_path / folder
    place.mkdir()
    (place / "python").symlink_to(sys.executable)
    script = tmp_path / "lsmod"
    script.write_text(launcher_text(str(place / "python"), sys.path), encoding="utf-8")
    script.chmod(0o755)
    done = call(str(script), "--help", PATH=os.environ["PATH"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:\n\tlsmod [options]\n")
