# SPDX-License-Identifier: MIT
"""static-nodes against kmod's on a made-up machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.fake import RELEASE, Machine
from tests.property.tree.compare import a_machine, check_same

NODES = (
    "# Device nodes to trigger on-demand module loading.\n"
    "fuse fuse c10:229\n"
    "snd_seq snd/seq c116:1\n"
    "loop loop-control b7:0\n"
    "a  b\tc 1: 2 rest\n"
)
DEVNAME = f"/lib/modules/{RELEASE}/modules.devname"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as made:
        made.write(DEVNAME, NODES)
        yield made


@pytest.mark.parametrize("options", [[], ["-f", "human"], ["-ftmpfiles"], ["--format=devname"], ["--fo", "human"],
                                     ["-x"], ["-f"], ["operand"]], ids=" ".join)  # fmt: skip
def test_as_kmod_does(machine: Machine, options: list[str]) -> None:
    check_same(machine, "kmod", "static-nodes", *options)


@pytest.mark.parametrize("line", ["", "\n", "fuse\n", "fuse fuse x1:2\n", "fuse fuse c1\n", "fuse fuse c:2\n",
                                  "f f c-1:+2\n", "f f c1:4294967297\n", "  f f c1:2\n", "f f c1:2"])  # fmt: skip
def test_damaged_lines(machine: Machine, line: str) -> None:
    machine.write(DEVNAME, f"{NODES}{line}")
    check_same(machine, "kmod", "static-nodes", "-f", "devname")


def test_without_the_file_there_is_a_warning(machine: Machine) -> None:
    machine.path(DEVNAME).unlink()
    assert check_same(machine, "kmod", "static-nodes").code == 0
    machine.path(DEVNAME).mkdir()
    assert machine.lkm("kmod", "static-nodes").code == 1


def test_a_file_is_written_with_the_folders_above_it(machine: Machine, tmp_path: Path) -> None:
    written = []
    for run, name in ((machine.kmod, "theirs"), (machine.lkm, "ours")):
        path = tmp_path / name / "made/nodes.conf"
        assert run("kmod", "static-nodes", "-f", "tmpfiles", "-o", str(path)).code == 0
        assert run("kmod", "static-nodes", "-f", "tmpfiles", "-o", str(path)).code == 0
        written.append(path.read_text(encoding="utf-8"))
        assert os.listdir(path.parent) == ["nodes.conf"]
    assert written[0] == written[1] != ""


def test_a_disk_that_is_full_leaves_no_file(machine: Machine) -> None:
    answer = machine.lkm("kmod", "static-nodes", "-o", "/dev/full")
    assert (answer.code, answer.err) == (1, "Error: could not create /dev/full - No space left on device\n")
    answer = machine.lkm("kmod", "static-nodes", "-o", "/proc/none/file")
    assert answer.code == 1
    assert answer.err.startswith("Error: could not create parent directory for /proc/none/file - ")


def test_an_unknown_format(machine: Machine) -> None:
    answer = machine.lkm("kmod", "static-nodes", "-f", "nothing")
    assert (answer.code, answer.err) == (1, "Unknown format: 'nothing'.\n")


def test_the_object(machine: Machine) -> None:
    found = json.loads(machine.lkm("static-nodes", "--json").out)
    assert found["schema"] == "lkm.static-nodes/1"
    assert found["nodes"][1] == {
        "module": "snd_seq",
        "path": "snd/seq",
        "type": "c",
        "major": 116,
        "minor": 1,
    }
