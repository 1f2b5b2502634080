# SPDX-License-Identifier: MIT
"""depmod on what no build makes: very deep, very long, not UTF-8, knotted, and changed while it is read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lkm.cli.kmod.main import run
from lkm.formats.depmod_conf import DepmodConf, parse_depmod_conf
from lkm.tree.depmod.read import read_module
from lkm.tree.depmod.render import alias_index
from lkm.tree.depmod.resolve import find_cycles, sort_users_first
from tests.depmod import RELEASE, make_tree, module_bytes


def test_directories_a_thousand_deep(tmp_path: Path) -> None:
    """More than Python's stack and the descriptors of a process would bear."""
    top = tmp_path / "t"
    directory = make_tree(top, {"kernel/a.ko": module_bytes("a")})
    deep = directory / "kernel"
    try:
        for _ in range(1200):
            deep /= "d"
            deep.mkdir()
        (deep / "b.ko").write_bytes(module_bytes("b"))
        assert run("depmod", ["-b", str(top), RELEASE]) == 0
        assert "/d/d/b.ko:" in (directory / "modules.dep").read_text()
    finally:
        subprocess.run(["rm", "-r", str(top)], check=True)


def test_a_line_as_long_as_a_file() -> None:
    """In a time that grows as the line does."""
    line = b"search " + b"a" * 3_000_000
    start = time.process_time()
    conf = parse_depmod_conf(line + b"\\\nb c", "x", DepmodConf(), lambda _: True, _fail)
    assert time.process_time() - start < 10
    assert conf.searches == (b"c", line[7:] + b"b")


def _fail(level: str, text: str) -> None:
    raise AssertionError(level + text)


def test_names_that_are_not_utf8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No index can hold such a name; -n makes none."""
    directory = make_tree(tmp_path, {})
    with open(os.fsencode(directory) + b"/b\xff.ko", "wb") as file:
        file.write(module_bytes("b", info=[("alias", "devname:x")]))
    assert run("depmod", ["-n", "-b", str(tmp_path), RELEASE]) == 0
    assert "has devname (x) but lacks" in capfd.readouterr().err
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == 1
    assert "only 7-bit ASCII is supported: b\\xff" in capfd.readouterr().err
    told: list[str] = []
    alias_index([b"b\xff"], [b"x\0x\0"], lambda _, text: told.append(text), warn=True)
    assert [os.fsencode(text) for text in told] == [b"duplicate module alias:\nx b\xff"]


@pytest.mark.parametrize("options", [["-n"], ["-v"], ["-V"], ["-h"]])
def test_standard_output_that_is_closed(tmp_path: Path, options: list[str]) -> None:
    make_tree(
        tmp_path, {"kernel/a.ko": module_bytes("a", exports=["x"]), "b.ko": module_bytes("b", imports=["x"])}
    )
    command = [sys.executable, "-m", "lkm", "depmod", "-b", str(tmp_path), *options, RELEASE]
    closed = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closed, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


def test_a_fifo_in_place_of_a_module(tmp_path: Path) -> None:
    """It comes between the search and the reading, or is named: nobody waits for who would write to it."""
    make_tree(tmp_path, {})
    os.mkfifo(tmp_path / "a.ko")
    command = [sys.executable, "-m", "lkm", "depmod", "-b", str(tmp_path), RELEASE, str(tmp_path / "a.ko")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("a.ko: it is no plain file\n")


def test_a_module_that_becomes_shorter_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = module_bytes("a", exports=["one", "two"], imports=["three"], info=[("alias", "x")])
    path = tmp_path / "a.ko"
    codes = set()
    pread = os.pread
    for size in range(0, len(data), 7):
        path.write_bytes(data)

        def shrink(file: int, count: int, offset: int, size: int = size) -> bytes:
            if count > 6:
                os.truncate(path, size)
            return pread(file, count, offset)

        monkeypatch.setattr(os, "pread", shrink)
        outcome = read_module(os.fsencode(path))
        monkeypatch.undo()
        codes.add(outcome[1])
    assert codes <= {0, errno.EIO}
    assert errno.EIO in codes


def test_a_knot_of_modules_ends_in_time() -> None:
    """A way into a complete graph, which has more ways than anybody can go, and a short way back."""
    count = 40
    used = [[1], [0, *range(2, count)]] + [
        [1, *(other for other in range(2, count) if other != number)] for number in range(2, count)
    ]
    loops: list[list[int]] = []
    start = time.process_time()
    assert find_cycles(used, sort_users_first(used), loops.append) == count
    assert time.process_time() - start < 20
    assert [0, 1, 0] in loops
    assert all(loop[0] == loop[-1] for loop in loops)
    assert all(after in used[number] for loop in loops for number, after in zip(loop, loop[1:]))
