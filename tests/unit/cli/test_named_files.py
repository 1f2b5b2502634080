# SPDX-License-Identifier: MIT
"""Files that are named and cannot be read: the path, the reason and the way on in one line, and the documented
code."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from lkm.cli import files
from lkm.cli.main import run
from lkm.errors import LkmError, NeedsRoot, UsageError

SYMVERS = "0x00000001\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"


@pytest.fixture
def symvers(tmp_path: Path) -> str:
    path = tmp_path / "Module.symvers"
    path.write_text(SYMVERS, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "argv",
    [
        ["info", "{}"],
        ["check", "--symvers", "{}", "{}"],
        ["load", "{}"],
        ["life", "{}"],
        ["symvers", "diff", "{}", "{}"],
        ["symvers", "diff", "SYMVERS", "{}"],
        ["symvers", "diff", "SYMVERS", "SYMVERS", "{}"],
        ["why", "x", "--snapshot", "{}"],
        ["initcalls", "--timeline", "{}"],
        ["initcalls", "--image", "{}"],
        ["where", "--image", "{}", "x"],
        ["modpost", "{}", "-o", "x.ko"],
        ["modpost", "SYMVERS", "--with", "{}", "-o", "x.ko"],
        ["modpost", "SYMVERS", "--symvers", "{}", "-o", "x.ko"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("reason", ["No such file or directory", "Is a directory"])
def test_a_path_that_is_no_file(
    argv: list[str],
    reason: str,
    symvers: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "missing.ko"
    if reason == "Is a directory":
        path.mkdir()
    assert run([symvers if word == "SYMVERS" else word.format(path) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"lkm: {path} cannot be read: {reason}; ")


def test_check_of_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path / "missing.ko")]) == 2
    assert "missing.ko cannot be read: No such file or directory; " in capsys.readouterr().err


def test_symvers_ends_with_1_for_a_difference_alone(
    symvers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, broken = tmp_path / "other", tmp_path / "broken.ko"
    other.write_text(SYMVERS.replace("printk", "print"), encoding="utf-8")
    broken.write_bytes(b"\x7fELF")
    assert run(["symvers", "diff", symvers, symvers]) == 0
    assert run(["symvers", "diff", symvers, str(other)]) == 1
    capsys.readouterr()
    for argv in (
        [symvers, str(other), str(broken)],
        [str(broken), symvers],
        ["", symvers],
        ["0.01", symvers],
    ):
        assert run(["symvers", "diff", *argv]) == 2, argv
        assert capsys.readouterr().err.startswith("lkm: ")


@pytest.mark.parametrize("command", ["info", "check"])
@pytest.mark.parametrize("name", ["", "no_such_module", "[", "."])
def test_a_name_of_nothing(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, name]) == 2
    assert repr(name) in capsys.readouterr().err


def test_who_may_not_read_is_told_that_root_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symvers: str
) -> None:
    def refuse(*_words: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(NeedsRoot, match=r"Module\.symvers cannot be read: Permission denied; run it as root"):
        files.read_named_bytes(symvers, remedy="")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(LkmError) as raised:
        files.check_named_file(symvers, remedy="")
    assert not isinstance(raised.value, (NeedsRoot, UsageError))


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["links", ""], "the name of the directory is empty"),
        (["links", "SYMVERS"], "Module.symvers is no directory"),
        (["snapshot", "--root", "/nowhere"], "--root: '/nowhere' is no directory"),
        (["snapshot", "--output", ""], "--output: '' names no file"),
        (["snapshot", "-o", "/tmp/"], "--output: '/tmp/' names no file"),
    ],
)
def test_a_place_that_is_none(
    argv: list[str], says: str, symvers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([symvers if word == "SYMVERS" else word for word in argv]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["why", "unload", "rescue", "quarantine"])
@pytest.mark.parametrize(
    ("word", "says"),
    [("", "'' is no name of a module"), ("..", "is no name"), ("/a/x-y.ko", "name the module: x_y")],
)
def test_what_can_be_no_name(command: str, word: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, word]) == 2
    assert says in capsys.readouterr().err


def test_a_small_file_takes_little_memory(symvers: str) -> None:
    """What may be read is half a gigabyte, which small machines do not have."""
    tracemalloc.start()
    try:
        assert files.read_named_file(symvers, remedy="") == SYMVERS
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_no_more_is_read_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LIMIT", 8)
    monkeypatch.setattr(files, "_PIECE", 4)
    path = tmp_path / "long"
    path.write_bytes(b"0123456789")
    assert files.read_named_bytes(str(path), remedy="") == b"01234567"


def test_too_little_memory_is_told_in_one_line(
    symvers: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *, remedy: str) -> bytes:
        raise MemoryError

    monkeypatch.setattr("lkm.cli.symvers.read_named_bytes", fail)
    assert run(["symvers", "diff", symvers, symvers]) == 1
    assert capsys.readouterr().err == "lkm: there is not enough memory for this\n"
