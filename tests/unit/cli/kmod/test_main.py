# SPDX-License-Identifier: MIT
"""How a classic tool is found and run, and how it speaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import syslog
from importlib import import_module
from pathlib import Path
from typing import IO

import pytest

from lkm.cli.kmod import log
from lkm.cli.kmod.main import TOOLS, run, tool_of

SOURCE = Path(__file__).parents[4] / "src"
TOO_HEAVY = {"argparse", "ctypes", "dataclasses", "enum", "json", "pathlib", "re", "subprocess", "typing"}


def start(
    *argv: str, program: str = "", stdout: int | IO[str] = subprocess.PIPE, closed: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """lkm as a process, by the name `program`, without the descriptors `closed`."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); sys.argv[0] = {program!r} or 'lkm'\n"
        "from lkm.__main__ import main\nsys.exit(main())"
    )
    shell = " ".join(["exec", '"$@"', *(f"{number}>&-" for number in closed)])
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-I", "-S", "-c", script, *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_answers_help_and_version(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        assert run(name, [option]) == 0
        assert "Usage:\n" in capfd.readouterr().out
    for option in ("-V", "--version") if "V" in import_module(TOOLS[name][0]).SHORT else ():
        assert run(name, [option]) == 0
        assert capfd.readouterr().out.startswith("kmod version 34 (lkm ")


@pytest.mark.parametrize("name", TOOLS)
def test_every_option_of_a_tool_is_in_its_help(name: str) -> None:
    module = import_module(TOOLS[name][0])
    for option in {**module.LONG, **module.OWN}:
        assert f"--{option.rstrip('=')}" in module.HELP


@pytest.mark.parametrize("name", TOOLS)
def test_a_wrong_option_is_1_and_getopts_message(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(name, ["--no-such-option"], called=f"/no/sbin/{name}") == 1
    assert capfd.readouterr().err == f"/no/sbin/{name}: unrecognized option '--no-such-option'\n"


@pytest.mark.parametrize("path", ["lsmod", "/no/sbin/lsmod", "./lsmod"])
def test_the_name_it_is_called_by_decides(path: str) -> None:
    assert tool_of(path) == "lsmod"
    done = start("--help", program=path)
    assert done.stdout.startswith("Usage:\n\tlsmod [options]\n")
    done = start("-x", program=path)
    assert (done.returncode, done.stderr) == (1, f"{path}: invalid option -- 'x'\n")


@pytest.mark.parametrize("path", ["", "lkm", "/usr/bin/lkm", "lsmod/", "lsmod2"])
def test_another_name_is_lkm(path: str) -> None:
    assert tool_of(path) == ""


def test_as_a_command_of_lkm() -> None:
    assert start("lsmod", "--help").stdout == start("--help", program="lsmod").stdout


def test_kmod_without_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("kmod", []) == 1
    out, err = capfd.readouterr()
    assert err == "missing command\n"
    assert "kmod [options] COMMAND" in out
    assert run("kmod", ["lsmod"]) == 1
    assert capfd.readouterr().err == "invalid command 'lsmod'\n"
    assert run("kmod", ["help"]) == 0


def test_kmod_list_is_lsmod(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("demo 4096 0 - Live 0x0\n", encoding="utf-8")
    assert run("kmod", ["list", "--root", str(tmp_path)]) == 0
    assert capfd.readouterr().out.splitlines()[1] == "demo                    4096  0"
    assert run("kmod", ["list", "x"]) == 1
    assert capfd.readouterr().err == "kmod: ERROR: too many arguments provided.\n"
    assert run("kmod", ["list", "-x"]) == 1
    assert capfd.readouterr().err == "list: invalid option -- 'x'\n"


def test_a_reader_that_goes_away_ends_it_as_it_does_any_other(tmp_path: Path) -> None:
    """By SIGPIPE, which Python ignores, and in silence."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("demo 4096 0 - Live 0x0\n" * 9000, encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    done = start("lsmod", "--root", str(tmp_path), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = start("lsmod", "--help", stdout=full)
    assert (done.returncode, done.stderr) == (1, "lsmod: ERROR: standard output: No space left on device\n")


def test_closed_streams_are_no_crash() -> None:
    assert start("lsmod", "--help", closed=(1,)).returncode == 0
    assert start("lsmod", "--nothing", closed=(1, 2)).returncode == 1


def test_lsmod_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("demo 4096 0 - Live 0x0\n", encoding="utf-8")
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); before = set(sys.modules)\n"
        "sys.argv = ['lsmod', '--root', sys.argv[1]]\nfrom lkm.__main__ import main\nassert main() == 0\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "lkm.system.loaded" in loaded
    assert loaded & TOO_HEAVY == set()


def test_messages_have_name_and_level(capfd: pytest.CaptureFixture[str]) -> None:
    log.set_program("rmmod", "/sbin/rmmod")
    log.open_log(level=log.WARNING)
    assert log.fatal("a") == 1
    for say in (log.error, log.warning, log.info, log.debug, log.note):
        say("b")
    assert capfd.readouterr().err == (
        "rmmod: FATAL: a\nrmmod: ERROR: b\nrmmod: WARNING: b\nrmmod: NOTICE: b\n"
    )


@pytest.mark.parametrize(
    ("level", "environment", "said"),
    [
        (log.EMERG, "", ""),
        (log.EMERG, "debug", ""),
        (log.ERROR, "", "FEN"),
        (log.WARNING, "", "FEWN"),
        (log.INFO, "", "FEWIN"),
        (log.DEBUG, "", "FEWIDN"),
        (log.ERROR, "info", "FEWIN"),
        (log.ERROR, "debug", "FEWIDN"),
        (log.ERROR, "7", "FEWIDN"),
        (log.ERROR, "nonsense", "FEN"),
    ],
)
def test_the_level_and_kmod_log_decide_what_is_said(
    level: int,
    environment: str,
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KMOD_LOG", environment)
    log.set_program("x", "x")
    log.open_log(level=level)
    log.fatal("")
    for say in (log.error, log.warning, log.info, log.debug, log.note):
        say("")
    assert "".join(line.split()[1][0] for line in capfd.readouterr().err.splitlines()) == said


def test_syslog_gets_what_standard_error_does_not() -> None:
    done = start("lsmod", "-s", "too", "many")
    assert (done.returncode, done.stderr) == (1, "")


def test_what_syslog_gets(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr("syslog.openlog", lambda *call: said.append(call))
    monkeypatch.setattr("syslog.syslog", lambda *call: said.append(call))
    assert run("rmmod", ["-s", "no-such-module-here"]) == 1
    assert said == [
        ("rmmod", syslog.LOG_CONS, syslog.LOG_DAEMON),
        (syslog.LOG_ERR, "ERROR: Module no_such_module_here is not currently loaded"),
    ]
    assert capfd.readouterr().err == ""


def test_bytes_that_are_not_utf_8_come_out_as_they_went_in(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log.set_program("x", "x")
    log.error(os.fsdecode(b"\xff\xc3\xa4"))
    assert capfdbinary.readouterr().err == b"x: ERROR: \xff\xc3\xa4\n"
