# SPDX-License-Identifier: MIT
"""The lab itself: what a guest offers, and what its user learns when a command or the guest goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lkm.errors import LabError
from lkm.lab.build import BuildFailed, build_modules
from lkm.lab.cache import cache_dir, silent
from lkm.lab.kernels import get_kernel
from lkm.lab.vm import Guest, GuestDied, GuestTimeout

FATAL = """\
#include <linux/delay.h>
#include <linux/module.h>
static int how;
module_param(how, int, 0);
static int __init fatal_init(void)
{
    if (how == 1)
        panic("on request");
    if (how == 2)
        for (;;)
            msleep(1000);
    if (how == 3)
        for (;;)
            cpu_relax();
    *(volatile int *)8 = 1;
    return 0;
}
module_init(fatal_init);
MODULE_LICENSE("GPL");
"""


def _lab(*argv: str, timeout: float = 180) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "lkm", "lab", *argv], capture_output=True, timeout=timeout, check=False
    )


@pytest.fixture
def fatal(tmp_path: Path) -> str:
    """A directory with a module that oopses, panics, sleeps for ever or spins for ever, built for 6.1."""
    (tmp_path / "fatal.c").write_text(FATAL)
    return os.path.dirname(build_modules(str(tmp_path), "6.1")[0])


def test_a_guest_runs_the_kernel_that_was_asked_for(kernel: str) -> None:
    with Guest.clone(kernel) as guest:
        release = guest.run(["uname", "-r"]).stdout.decode().strip()
        assert release == guest.kernel.release
        assert release.startswith(f"{kernel}.")
        assert guest.run(["modprobe", "dummy"]).returncode == 0
        assert guest.run(["sh", "-c", "lsmod | grep -c '^dummy '"]).stdout == b"1\n"
        assert guest.run(["test", "-f", f"/boot/config-{release}"]).returncode == 0
        mounts = {line.split()[1] for line in guest.get("/proc/mounts").decode().splitlines()}
        wanted = {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/mnt"}
        wanted |= {"/sys/kernel/tracing", "/sys/kernel/debug", "/sys/kernel/security"}
        assert wanted <= mounts


def test_the_module_tools_are_kmods_in_a_shell_too() -> None:
    with Guest.clone("6.1") as guest:
        assert b"tainted" not in guest.run(["sh", "-c", "lsmod | head -1"]).stdout  # as busybox has it
        for tool in ("insmod", "rmmod", "modprobe", "modinfo", "depmod"):
            assert b"kmod version" in guest.run(["sh", "-c", f"{tool} --version"]).stdout, tool


def test_lkm_in_the_guest_is_the_one_that_runs_here() -> None:
    with Guest.clone("6.1") as guest:
        import lkm.lab.guest as module

        assert guest.get("/usr/lib/lkm/lkm/lab/guest.py") == Path(module.__file__).read_bytes()
        assert guest.run(["lkm", "--version"]).stdout.startswith(b"lkm ")


def test_the_share_is_a_writable_copy(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("host")
    with Guest.clone("6.1", share=str(tmp_path)) as guest:
        assert guest.run(["sh", "-c", "pwd; cat sub/file; echo guest > sub/file"]).stdout == b"/share\nhost"
        assert guest.get("/share/sub/file") == b"guest\n"
    assert (tmp_path / "sub/file").read_text() == "host"


def test_the_clock_is_the_hosts_and_clones_differ_in_randomness() -> None:
    seen = set()
    for _ in range(2):
        with Guest.clone("6.1") as guest:
            assert abs(float(guest.run(["date", "+%s"]).stdout) - time.time()) < 5
            seen.add(guest.run(["cat", "/proc/sys/kernel/random/uuid"]).stdout)
    assert len(seen) == 2


def test_files_go_in_and_out(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "tool").write_bytes(data)
    (tmp_path / "tool").chmod(0o750)
    with Guest.clone("6.1") as guest:
        guest.put(str(tmp_path / "tool"), "/opt/deep/tool")
        assert guest.get("/opt/deep/tool") == data
        assert guest.run(["stat", "-c", "%a", "/opt/deep/tool"]).stdout == b"750\n"
        with pytest.raises(LabError, match="nonesuch"):
            guest.get("/nonesuch")


def test_an_oops_kills_the_command_and_the_guest_goes_on(fatal: str) -> None:
    with Guest.clone("6.1", share=fatal) as guest:
        assert guest.run(["insmod", "fatal.ko"]).returncode == 128 + 9
        assert guest.run(["true"]).returncode == 0
        assert "NULL pointer dereference" in guest.console()


def test_a_command_that_nothing_can_kill_is_given_up(fatal: str) -> None:
    with Guest.clone("6.1", share=fatal) as guest:
        with pytest.raises(GuestTimeout, match="did not end"):
            guest.run(["sh", "-c", "echo before; insmod fatal.ko how=2; true"], timeout=1)
        pid = guest.run(["insmod", "fatal.ko", "how=2"], background=True)
        assert guest.run(["test", "-d", f"/proc/{pid}"]).returncode == 0


def test_a_guest_that_spins_is_a_timeout(fatal: str) -> None:
    with Guest.clone("6.1", share=fatal) as guest, pytest.raises(GuestTimeout, match="hangs"):
        guest.run(["insmod", "fatal.ko", "how=3"], timeout=1)


def test_a_panic_is_told_at_once_with_the_console(fatal: str) -> None:
    with Guest.clone("6.1", share=fatal) as guest:
        started = time.monotonic()
        with pytest.raises(GuestDied, match="panicked") as caught:
            guest.run(["insmod", "fatal.ko", "how=1"])
        assert time.monotonic() - started < 10
        assert "Kernel panic - not syncing: on request" in caught.value.console


def test_a_cold_boot_takes_arguments() -> None:
    with Guest.boot("6.1", append="lkm.probe=1") as guest:
        assert b"lkm.probe=1" in guest.get("/proc/cmdline")
        assert guest.run(["lkm", "--version"]).returncode == 0


def test_the_commands_streams_and_code_pass_through() -> None:
    done = _lab("run", "--", "sh", "-c", r"printf 'a\0\377'; echo b >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0\377", b"b\n")


def test_a_timeout_is_124_and_a_death_125_with_the_console(fatal: str) -> None:
    assert _lab("run", "--timeout", "1", "--", "sleep", "60").returncode == 124
    done = _lab("run", "--share", fatal, "--", "insmod", "fatal.ko", "how=1")
    assert done.returncode == 125
    assert b"Kernel panic" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["run"],
        ["run", "--timeout", "x", "--", "true"],
        ["run", "--kernel", "1.0", "--", "true"],
        ["nonsense"],
        [],
    ],
)
def test_wrong_usage_is_2(argv: list[str]) -> None:
    assert _lab(*argv).returncode == 2


def test_an_interactive_shell_reads_its_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lkm", "lab", "shell"],
        input=b"uname -s\nexit 5\n",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, b"Linux\n")


def test_a_build_error_is_the_compilers(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int x = nonsense;\n")
    with pytest.raises(BuildFailed) as caught:
        build_modules(str(tmp_path), "6.1")
    assert "wrong.c:1:9: error: " in caught.value.output
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.c"]


@pytest.fixture
def copied_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image of 6.1, with its package in a cache of its own, and a mirror that is not there."""
    image = get_kernel("6.1", progress=silent)
    top = cache_dir()
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("LKM_LAB_MIRROR", f"file://{tmp_path}/no-mirror")
    for name in (f"kernels/{image.release}", "debs", "pins"):
        shutil.copytree(os.path.join(top, name), tmp_path / name)
    return tmp_path / "kernels" / image.release


def test_a_damaged_image_is_made_anew_from_the_cached_package(copied_kernel: Path) -> None:
    image = copied_kernel
    size = (image / "vmlinuz").stat().st_size
    os.truncate(image / "vmlinuz", 1000)
    said: list[str] = []
    assert get_kernel("6.1", progress=said.append).release == image.name
    assert "damaged (vmlinuz has 1000 bytes" in said[0]
    assert (image / "vmlinuz").stat().st_size == size


def test_a_damaged_image_without_package_or_network_is_one_line(copied_kernel: Path) -> None:
    image = copied_kernel
    os.truncate(image / "modules.img", 1000)
    shutil.rmtree(image.parents[1] / "debs")
    with pytest.raises(LabError, match="mirror") as caught:
        get_kernel("6.1", progress=silent)
    assert "\n" not in str(caught.value)
