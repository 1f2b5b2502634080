# SPDX-License-Identifier: MIT
"""depmod's files are replaced whole: killed, on a full disk, beside another run."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lkm.cli.kmod.main import run
from lkm.tree.depmod import write
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.run import DepmodError, run_depmod
from tests.depmod import RELEASE, make_tree, module_bytes, read_files, rows_of

SOURCE = Path(__file__).parents[3] / "src"
KILLS = int(os.environ.get("LKM_DEPMOD_KILLS", "20"))
MODULES = 100


def some_files(version: str) -> dict[str, bytes]:
    """Modules of which each needs the one before it, and says which version it is of."""
    return {
        f"kernel/m{number}.ko": module_bytes(
            f"m{number}",
            exports=[f"{version}_{number}"],
            imports=[f"{version}_{number - 1}"] if number % 5 else [],
            info=[("alias", f"{version}:{number}*"), ("softdep", f"pre: {version}")],
        )
        for number in range(MODULES)
    }


def command(top: Path, *options: str) -> list[str]:
    """depmod as a process; the interpreter's start is most of what there is to kill, so not more than needed."""
    start = "import sys; from lkm.cli.kmod.main import run; sys.exit(run('depmod', sys.argv[1:]))"
    cache = str(top.parent / "cache")
    return [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r}); {start}",
            "-b", str(top), "--cache", cache, *options, RELEASE]  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("modules.*")}


def contents_of_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("modules.*") if path.is_file()}


def test_killed_at_any_moment_it_leaves_old_or_new_files_and_the_next_run_is_right(tmp_path: Path) -> None:
    """Both with -A and without: the next run sees that the set is not one."""
    chance = random.Random(KILLS)
    top = tmp_path / "tree"
    versions = {}
    for version in ("new", "old"):
        directory = make_tree(top, some_files(version), order=some_files(version))
        start = time.monotonic()
        subprocess.run(command(top, "--no-cache"), check=True)
        duration = time.monotonic() - start
        versions[version] = contents(directory)
    meaning = {name: read_files_of(tmp_path / name, content) for name, content in versions.items()}
    meanings = [
        {name: rows_of(content) if name.endswith(".bin") else content for name, content in files.items()}
        for files in versions.values()
    ]
    halfway = 0
    for turn in range(KILLS):
        goal = "new" if turn % 2 == 0 else "old"
        make_tree(top, some_files(goal))
        process = subprocess.Popen(command(top))
        time.sleep(chance.uniform(0.2, 1.1) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = contents(directory)
        for name, content in now.items():
            said = rows_of(content) if name.endswith(".bin") else content  # an index may be patched
            assert said in [says[name] for says in meanings]
        halfway += any(name.startswith(".lkm") for name in os.listdir(directory))
        subprocess.run(command(top, *["-A"] * (turn % 3 == 0)), check=True)
        assert read_files(directory) == meaning[goal], f"turn {turn}"
        assert not [name for name in os.listdir(directory) if name.startswith(".lkm")]
    print(f"{KILLS} kills, {halfway} while the files were written")


def read_files_of(directory: Path, content: dict[str, bytes]) -> dict[str, object]:
    directory.mkdir()
    for name, data in content.items():
        (directory / name).write_bytes(data)
    return read_files(directory)


@pytest.mark.parametrize("at", range(2, 24))
def test_killed_at_each_step_of_the_writing(tmp_path: Path, at: int) -> None:
    """Eleven files are opened and eleven renamed: killed before the one with this number."""
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("old"), order=some_files("old"))
    assert run("depmod", ["-b", str(top), RELEASE]) == 0
    old = contents(directory)
    make_tree(top, some_files("new"))
    script = (
        "import os, sys; sys.path.insert(0, sys.argv.pop(1)); at = int(sys.argv.pop(1))\n"
        "from lkm.tree.depmod import write\n"
        "count = 0\n"
        "def counted(call):\n"
        "    def stand_in(*arguments, **named):\n"
        "        global count\n"
        "        count += b'.lkm-depmod' in arguments[0]\n"
        "        if count == at: os.kill(os.getpid(), 9)\n"
        "        return call(*arguments, **named)\n"
        "    return stand_in\n"
        "class Os:\n"
        "    def __getattr__(self, name): return getattr(os, name)\n"
        "    open, rename = staticmethod(counted(os.open)), "
        "staticmethod(counted(os.rename))\n"
        "write.os = Os()\n"
        "from lkm.cli.kmod.main import run\n"
        "sys.exit(run('depmod', sys.argv[1:]))"
    )
    command_line = [sys.executable, "-S", "-c", script, str(SOURCE), str(at), "-b", str(top), RELEASE]
    died = subprocess.run(command_line, check=False).returncode
    assert died == (-9 if at <= 22 else 0)
    now = contents(directory)
    make = tmp_path / "anew"
    assert run("depmod", ["-b", str(top), "-o", str(make), RELEASE]) == 0
    new = contents(make / "lib/modules" / RELEASE)
    same_as_new = [name for name in new if now[name] == new[name]]
    assert all(now[name] == old[name] for name in new if name not in same_as_new)
    # Nobody may believe that the files are those of the modules.
    later = time.time() + 5
    os.utime(directory / "modules.dep", (later, later))
    assert run("depmod", ["-A", "-b", str(top), RELEASE]) == 0
    assert {name: contents(directory)[name] for name in new} == new
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for it: no file may grow beyond a few KiB."""
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("old"), order=some_files("old"))
    subprocess.run(command(top), check=True)
    before = contents(directory)
    make_tree(top, some_files("new"))
    limited = ["/bin/sh", "-c", 'ulimit -f 4; trap "" XFSZ; exec "$@"', "sh", *command(top)]
    done = subprocess.run(limited, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("depmod: FATAL: could not write ")
    assert done.stderr.endswith("File too large\n")
    assert contents(directory) == before
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


def test_two_runs_wait_for_each_other(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("new"), order=some_files("new"))
    runs = [subprocess.Popen(command(top, "--no-cache")) for _ in range(4)]
    assert [process.wait(timeout=60) for process in runs] == [0] * 4
    assert not [name for name in os.listdir(directory) if name.startswith(".")]
    assert len((directory / "modules.dep").read_text().splitlines()) == MODULES


def test_a_directory_that_cannot_be_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    top = tmp_path / "tree"
    make_tree(top, some_files("new"))
    (tmp_path / "file").write_bytes(b"")
    assert run("depmod", ["-b", str(top), "-o", str(tmp_path / "file"), RELEASE]) == 1
    assert "FATAL: could not create directory" in capfd.readouterr().err


def test_nothing_that_lies_in_wait_is_written_to(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("new"))
    (tmp_path / "precious").write_bytes(b"kept")
    (directory / ".lkm-depmod.modules.dep").symlink_to(tmp_path / "precious")
    os.link(tmp_path / "precious", directory / ".lkm-depmod.modules.alias")
    os.mkfifo(directory / ".lkm-depmod.modules.symbols")
    (directory / "modules.softdep").symlink_to(tmp_path / "precious")
    subprocess.run(command(top, "--no-cache"), check=True, timeout=60)
    assert (tmp_path / "precious").read_bytes() == b"kept"
    assert not (directory / "modules.softdep").is_symlink()


def test_what_is_there_in_place_of_a_file_is_told_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("new"))
    assert run("depmod", ["-b", str(top), RELEASE]) == 0
    (directory / "modules.alias").unlink()
    (directory / "modules.alias").mkdir()
    before = contents_of_files(directory)
    make_tree(top, some_files("old"))
    assert run("depmod", ["-b", str(top), RELEASE]) == 1
    assert contents_of_files(directory) == before
    assert f"FATAL: could not write {directory}/modules.alias: Is a directory" in capfd.readouterr().err
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


def _ignore(*_: object) -> None:
    pass


@pytest.mark.parametrize("at", [1, 4, 11])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_rename_that_fails(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    kind: type[BaseException],
) -> None:
    """At the first one the old files are as they were; later the next run sees that they are of two sets."""
    top = tmp_path / "tree"
    directory = make_tree(top, some_files("old"), order=some_files("old"))
    assert run("depmod", ["-b", str(top), RELEASE]) == 0
    before = contents(directory)
    make_tree(top, some_files("new"))
    count = 0

    def rename(*arguments: object, **named: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise kind(errno.EIO, os.strerror(errno.EIO))
        os_rename(*arguments, **named)  # type: ignore[arg-type]

    os_rename = os.rename
    request = DepmodRequest(RELEASE, root=str(top))
    with monkeypatch.context() as failing:
        failing.setattr(os, "rename", rename)
        with pytest.raises(DepmodError if kind is OSError else kind) as failed:
            run_depmod(request, _ignore, _ignore)
    assert (contents(directory) == before) == (at == 1)
    assert bool([name for name in os.listdir(directory) if name.startswith(".lkm")]) == (at > 1)
    if kind is OSError:
        assert ("run depmod again" in str(failed.value)) == (at > 1)
    if at > 1:
        later = time.time() + 5
        os.utime(directory / "modules.dep", (later, later))
    assert run("depmod", ["-A", "-b", str(top), RELEASE]) == 0
    assert "alias new:99* m99" in (directory / "modules.alias").read_text()
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


def test_a_lock_that_somebody_keeps_is_told_of_and_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read the directory may lock it."""
    monkeypatch.setattr(write, "_PATIENCE", 0.0)
    told: list[str] = []
    other = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / ".lkm-depmod.of-another").write_bytes(b"")
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        place = write.Place(os.fsencode(tmp_path), told.append, wait=0.2)
        place.replace({b"modules.dep": b"new"})
        place.close()
    finally:
        os.close(other)
    assert [text.partition("; ")[2] for text in told] == [
        "waiting for up to 0 s", "going on without the lock",
    ]  # fmt: skip
    assert (tmp_path / "modules.dep").read_bytes() == b"new"
    assert (tmp_path / ".lkm-depmod.of-another").exists()  # a run that is at it needs it
