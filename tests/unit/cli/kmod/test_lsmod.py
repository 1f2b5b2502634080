# SPDX-License-Identifier: MIT
"""lsmod on recorded machines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm.cli.kmod.main import run
from lkm.system.loaded import read_loaded

HEADER = "Module                  Size  Used by"


def add_module(top: Path, name: str, line: str, holders: tuple[str, ...] = (), **values: str) -> None:
    """A module in /proc/modules; in sysfs too if it has values there."""
    (top / "proc").mkdir(exist_ok=True)
    with open(top / "proc/modules", "a", encoding="utf-8") as file:
        file.write(f"{name} {line}\n")
    if values:
        folder = top / "sys/module" / name
        for holder in holders:
            os.makedirs(folder / "holders" / holder)
        os.makedirs(folder / "holders", exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(f"{value}\n", encoding="utf-8")


def lines_of(top: Path, capfd: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert run("lsmod", ["--root", str(top), *options]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out.splitlines()


def test_the_columns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    add_module(tmp_path, "b", "1 9 - Live 0x0", coresize="16384", refcnt="0", initstate="live")
    add_module(tmp_path, "a_name_longer_than_19", "1 9 - Live 0x0", ("b",), coresize="123456789", refcnt="1")
    assert lines_of(tmp_path, capfd) == [
        HEADER, "b                      16384  0", "a_name_longer_than_19 123456789  1 b",
    ]  # fmt: skip


def test_several_holders_are_in_the_order_of_the_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    add_module(tmp_path, "a", "1 3 - Live 0x0", ("x", "y", "z"), coresize="4096", refcnt="3")
    order = ",".join(os.listdir(tmp_path / "sys/module/a/holders"))
    assert lines_of(tmp_path, capfd)[1:] == [f"a                       4096  3 {order}"]


def test_a_module_that_vanished_is_told_of_as_proc_modules_had_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The original prints -2 twice and complains of its holders."""
    add_module(tmp_path, "gone", "20480 2 x,y, Unloading 0xffffffffc0000000 (OE-)")
    assert lines_of(tmp_path, capfd)[1:] == ["gone                   20480  2 x,y"]
    assert lines_of(tmp_path, capfd, "--state", "--taints") == [
        "Module                  Size  State   Taints  Used by",
        "gone                   20480  going   OE      2 x,y",
    ]


def test_a_kernel_that_cannot_unload_has_no_count(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    add_module(tmp_path, "kept", "4096 - - Live 0x0", coresize="4096", initstate="live")
    assert lines_of(tmp_path, capfd)[1:] == ["kept                    4096  -2"]
    (module,) = json.loads("\n".join(lines_of(tmp_path, capfd, "--json")))["modules"]
    assert module["refcnt"] is None


def test_state_and_taints_are_those_of_sysfs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = {"coresize": "4096", "refcnt": "1", "initstate": "coming", "taint": "OE"}
    add_module(tmp_path, "a", "4096 1 - Loading 0x0 (O+)", (), **values)
    assert lines_of(tmp_path, capfd, "--state")[1:] == ["a                       4096  coming  1"]
    assert lines_of(tmp_path, capfd, "--taints")[1:] == ["a                       4096  OE      1"]
    assert json.loads("\n".join(lines_of(tmp_path, capfd, "--json"))) == {
        "schema": "lkm.lsmod/1",
        "modules": [
            {"name": "a", "size": 4096, "refcnt": 1, "holders": [], "state": "coming", "taints": "OE"}
        ],
    }


def test_without_modules_there_is_the_header(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    assert lines_of(tmp_path, capfd) == [HEADER]


def test_without_proc_modules_it_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("lsmod", ["--root", str(tmp_path)]) == 1
    assert capfd.readouterr().err == (
        "lsmod: ERROR: could not get list of modules: No such file or directory\n"
    )


def test_operands_are_too_many(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("lsmod", ["x"]) == 1
    assert capfd.readouterr().err == "lsmod: ERROR: too many arguments provided.\n"


def test_a_damaged_line_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("a\nb x y z\n\n", encoding="utf-8")
    found = read_loaded(str(tmp_path), str(tmp_path))
    assert [(module.name, module.size, module.refcnt) for module in found] == [("a", 0, None), ("b", 0, None)]
