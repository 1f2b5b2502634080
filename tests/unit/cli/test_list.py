# SPDX-License-Identifier: MIT
"""`lkm list` and `lkm snapshot` as one runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.cli.render import plain, styled, table
from lkm.system.snapshot import Snapshot
from tests.unit.system.trees import Tree

MODULES = (
    "stuck 28672 1 - Loading 0x0 (OE+)\n"
    "endless 12288 0 - Live 0x0 (O)\n"
    "below 16384 -1 - Live 0x0\n"
    "base 49152 2 user,other, Live 0x0\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(str(tmp_path))
    made.write("/proc/modules", MODULES.replace("endless 12288 0 -", "endless 12288 0 [permanent],"))
    made.module("stuck", "coming", 1)
    made.module("endless")
    made.module("below", "live", -1)
    base = made.module("base", "live", 2)
    made.directory(f"{base}/holders/user")
    made.directory(f"{base}/holders/other")
    return made


def test_text(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--root", tree.root.path]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["Module", "Size", "Refcnt", "State", "Taints", "Used", "by"]
    assert [line.split()[0] for line in lines] == ["stuck", "endless", "below", "base"]
    assert lines[0].endswith("stuck? lkm why stuck")
    assert lines[1].endswith("permanent")
    assert lines[2].endswith("stuck? lkm why below")
    assert lines[3].endswith("other,user")


def test_json(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json", "--root", tree.root.path]) == 0
    data = json.loads(capsys.readouterr().out)
    assert next(iter(data)) == "schema"
    assert data["schema"] == "lkm.list/1"
    modules = {module["name"]: module for module in data["modules"]}
    assert modules["base"] == {
        "name": "base",
        "size": 49152,
        "refcnt": 2,
        "holders": ["other", "user"],
        "state": "live",
        "permanent": False,
        "taints": "OE",
        "in_sysfs": True,
        "in_proc": True,
        "suspect": False,
        "quarantined": False,
    }
    assert modules["endless"]["permanent"]
    assert [name for name, module in modules.items() if module["suspect"]] == ["stuck", "below"]


def test_one_in_quarantine_is_marked(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.module("stuck.dead1", "going", -1)
    assert run(["list", "--root", tree.root.path]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("stuck.dead1 ")]
    assert line.endswith("quarantined: lkm why stuck.dead1")
    assert run(["list", "--json", "--root", tree.root.path]) == 0
    modules = json.loads(capsys.readouterr().out)["modules"]
    assert [module["name"] for module in modules if module["quarantined"]] == ["stuck.dead1"]


def test_proc_modules_that_blocks_is_said(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    os.unlink(tree.root.join("/proc/modules"))
    os.mkfifo(tree.root.join("/proc/modules"))
    assert run(["list", "--root", tree.root.path]) == 0
    out, err = capsys.readouterr()
    assert "module_mutex is held" in err
    assert "stuck? lkm why stuck" in out


def test_kernel_without_loadable_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/stat", "")
    for options in ([], ["--json"]):
        assert run(["list", *options, "--root", tree.root.path]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err == "lkm: this kernel has no loadable modules (CONFIG_MODULES is off)\n"


def test_what_is_built_in_needs_no_loadable_modules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(str(tmp_path))
    options = ["list", "--builtin", "--root", tree.root.path]
    assert run(options) == 2
    assert "none is installed there" in capsys.readouterr().err
    tree.directory("/lib/modules/6.1.7/kernel")
    assert run(options) == 1
    assert "lib/modules/6.1.7 does not say what is built in" in capsys.readouterr().err
    tree.write("/lib/modules/6.1.7/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    for files in ([], ["/proc/stat"], ["/proc/sys/kernel/osrelease"]):
        for path in files:
            tree.write(path, "6.1.7\n")
        assert run(options) == 0
        out, err = capsys.readouterr()
        assert [line.split()[0] for line in out.splitlines()] == ["Built", "ext4"]
        assert err.endswith("; what is built in is shown alone\n")
    assert run([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["release"], found["modules"], found["builtin"][0]["name"]) == ("6.1.7", [], "ext4")


def test_of_another_kernel_what_is_loaded_is_not_shown(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.write("/proc/sys/kernel/osrelease", "6.1.7\n")
    tree.write("/lib/modules/6.12.1/kernel/x", "")
    tree.write("/lib/modules/6.12.1/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    assert run(["list", "--root", tree.root.path, "--builtin", "--kernel", "6.12"]) == 0
    assert "stuck" not in capsys.readouterr().out
    for option in ("--kernel", "--image"):
        assert run(["list", "--root", tree.root.path, option, "6.12"]) == 2
        assert f"{option} goes with --builtin" in capsys.readouterr().err


def test_start_imports_nothing_heavy(tree: Tree) -> None:
    """Start-up time is a promise; what it costs is mostly imports."""
    code = (
        "import sys; from lkm.cli.main import run; run(sys.argv[1:]);"
        "heavy = {'subprocess', 'pathlib', 'json', 'dataclasses', 'inspect', 'ctypes', 'rich', 'tempfile'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-S", "-c", code, "list", "--root", tree.root.path]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stderr == "[]\n"
    assert "stuck" in done.stdout


def test_snapshot_to_standard_output(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--root", tree.root.path]) == 0
    out, err = capsys.readouterr()
    found = Snapshot.from_json(out)
    assert [module.name for module in found.modules] == ["stuck", "endless", "below", "base"]
    assert all(f"lkm: {note}\n" in err for note in found.notes)


def test_snapshot_to_a_file(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.json"
    assert run(["snapshot", "-o", str(target), "--root", tree.root.path]) == 0
    assert len(Snapshot.from_json(target.read_text()).modules) == 4
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    assert capsys.readouterr().out == ""


def test_snapshot_to_a_device_writes_to_it(tree: Tree) -> None:
    assert run(["snapshot", "-o", "/dev/null", "--root", tree.root.path]) == 0
    assert not os.path.isfile("/dev/null")


def test_snapshot_that_cannot_be_written(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "-o", "/nonexistent/out.json", "--root", tree.root.path]) == 1
    assert "/nonexistent/out.json cannot be written: No such file" in capsys.readouterr().err


def test_snapshot_that_finds_no_room_leaves_nothing(tree: Tree, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from lkm.cli.main import run;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); sys.exit(run(sys.argv[1:]))"
    )
    target = tmp_path / "out" / "snapshot.json"
    target.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, "snapshot", "-o", str(target), "--root", tree.root.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{target} cannot be written: File too large" in done.stderr
    assert list(target.parent.iterdir()) == []


def test_table_aligns_and_shows_control_characters() -> None:
    lines = table([("a\x1b[31m", "1"), ("long name", "12345")], header=("Name", "Size"), right=(1,))
    assert lines == ["Name        Size", "a\\x1b[31m      1", "long name  12345"]


def test_style_only_with_colour() -> None:
    assert styled("text", "red", colour=False) == "text"
    assert styled("text", "red", colour=True) == "\x1b[31mtext\x1b[0m"
    assert plain("ü\n") == "ü\\n"
