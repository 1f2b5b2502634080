# SPDX-License-Identifier: MIT
"""What a user of `lkm lab` gets wrong, or the machine: one line that says what to do, and the right exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lkm.cli.lab import _report_death
from lkm.cli.main import run
from lkm.errors import UsageError
from lkm.lab import image
from lkm.lab.session import GuestDied


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LKM_LAB_MIRROR", f"file://{tmp_path}/no-mirror")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    top = tmp_path / "sources"
    top.mkdir()
    (top / "one.c").write_text("int x;\n")
    return top


def _complaint(argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error of a command that ends with `code`; the lines before it are progress."""
    assert run(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    *progress, last = captured.err.splitlines()
    assert all(line.startswith("lab: ") for line in progress)
    assert last.startswith("lkm: ")
    return last


GUEST = ["run", "shell", "demo"]


def _argv(action: str, *options: str) -> list[str]:
    return ["lab", action, *options, *(["--", "true"] if action == "run" else [])]


@pytest.mark.parametrize("action", ["run", "shell"])
def test_a_share_is_looked_at_before_a_guest_is_made(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_argv(action, "--share", "/nowhere")) == 2
    assert capsys.readouterr().err == "lkm: --share: '/nowhere' is not a directory\n"


def test_a_package_that_is_not_here_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "lkm.lab.vm", raising=False)
    for name in [name for name in sys.modules if name.startswith(("lkm.lab.", "qemu"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qemu", None)
    assert "takes the Python package qemu" in _complaint(_argv("run"), 1, capsys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a guest is not left behind."""
    unwound = []

    def wait(_arguments: object) -> int:
        try:
            signal.raise_signal(number)
        finally:
            unwound.append(number)
        return 0

    monkeypatch.setattr("lkm.cli.lab._kernels", wait)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_DFL)
    with pytest.raises(SystemExit) as raised:
        run(["lab", "kernels"])
    assert (raised.value.code, unwound) == (128 + number, [number])


@pytest.mark.parametrize("action", GUEST)
def test_a_kernel_that_is_not_there(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "series are 5.10, 6.1" in _complaint(_argv(action, "--kernel", "9.9"), 2, capsys)


@pytest.mark.parametrize("what", ["fetch", "remove"])
def test_a_kernel_that_is_not_there_is_neither_fetched_nor_removed(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "series are 5.10, 6.1" in _complaint(["lab", "kernels", what, "9.9"], 2, capsys)
    assert f"lkm lab kernels {what} 6.1" in _complaint(["lab", "kernels", what], 2, capsys)


@pytest.mark.parametrize("action", GUEST)
def test_without_a_network(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "check the network and the mirror" in _complaint(_argv(action), 1, capsys)


def test_a_build_without_a_network(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "check the network and the mirror" in _complaint(["lab", "build", str(sources)], 1, capsys)


@pytest.mark.parametrize("action", [*GUEST, "kernels"])
def test_a_cache_that_cannot_be_made(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "file"))
    complaint = _complaint(_argv(action), 1, capsys)
    assert f"{tmp_path}/file" in complaint
    assert complaint.endswith("Not a directory; name another directory with LKM_LAB_CACHE")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--timeout", "soon"], "'soon' is not a positive number of seconds"),
        (["--timeout", "nan"], "'nan' is not a positive number of seconds"),
        (["--memory", "1G"], "'1G' is not a number of megabytes from 256 on"),
        (["--memory", "1"], "'1' is not a number of megabytes from 256 on"),
    ],
)
def test_a_number_that_is_none(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_argv("run", *options)) == 2
    assert said in capsys.readouterr().err


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in _complaint(["lab", "run"], 2, capsys)


def test_a_build_of_what_is_no_directory_or_has_nothing_to_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a directory" in _complaint(["lab", "build", str(tmp_path / "none")], 2, capsys)
    assert "neither a Kbuild file nor C files" in _complaint(["lab", "build", str(tmp_path)], 2, capsys)


def test_what_cannot_be_read_is_named(sources: Path) -> None:
    """Root can read everything; without the capabilities for that, it cannot."""
    secret = sources / "secret.c"
    secret.write_text("int y;\n")
    secret.chmod(0)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"] if os.getuid() == 0 else []
    assert not drop or shutil.which("setpriv")
    done = subprocess.run(
        [*drop, sys.executable, "-m", "lkm", "lab", "build", str(sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        f"lkm: {secret} cannot be read; leave it out, or change its permissions\n",
    )


def test_a_symbolic_link_that_leads_nowhere_can_be_shared(sources: Path) -> None:
    (sources / "link").symlink_to("nowhere")
    image.check_readable([str(sources), *image.paths_below(str(sources))])
    with pytest.raises(UsageError, match="none cannot be read"):
        image.check_readable([str(sources / "none")])


def test_a_guest_that_died_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report_death(GuestDied("QEMU did not start", "")) == 125
    assert capsys.readouterr().err == "lkm: the guest died: QEMU did not start\n"
    assert _report_death(GuestDied("the kernel panicked", "one\ntwo\n")) == 125
    assert capsys.readouterr().err.endswith("; the end of its console:\none\ntwo\n")
