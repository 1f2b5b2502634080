# SPDX-License-Identifier: MIT
"""The guest's root: busybox, kmod, CPython with its libraries, and the agent, as one initramfs.

They are this machine's own; those of a guest of another architecture come from Debian packages. The root is
the same for every kernel and does not hold lkm itself, which each guest gets from its delivery disk.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable

from lkm.errors import LabError
from lkm.lab.architecture import Architecture, host_architecture
from lkm.lab.cache import (
    Progress,
    cache_dir,
    content_key,
    intact,
    locked,
    prune,
    publish,
    use,
    write_manifest,
)
from lkm.lab.foreign import FOREIGN_PYTHON, add_foreign_programs, fetch_foreign_packages
from lkm.lab.image import make_cpio
from lkm.lab.process import find_tool, run_tool

__all__ = ["base_initramfs", "guest_python"]

KMOD_TOOLS = ("depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod")
"""Debian's, never busybox's: its insmod runs a failing init function twice."""

NOT_FOR_GUESTS = {
    "__phello__", "config", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "test", "tests", "tkinter", "turtledemo",
}  # fmt: skip
EXTRA_LIBRARIES = ("libzstd.so.1", "liblzma.so.5", "libz.so.1")
"""Libraries that lkm opens through ctypes, so that no ldd sees them."""

DIRECTORIES = (
    "boot", "dev", "etc", "mnt", "proc", "root", "run", "share", "sys", "tmp", "usr/bin", "usr/lib/lkm",
    "usr/lib/lkm-lab/lkm/lab", "usr/lib/modules", "usr/lib64", "usr/local/bin", "usr/local/sbin", "usr/sbin",
    "var/lib",
)  # fmt: skip
LKM_SCRIPT = """\
#!/usr/bin/python3 -sS
import sys
sys.path[0] = "/usr/lib/lkm"
from lkm.__main__ import main
sys.exit(main())
"""
AGENT = ("agent.py", "port.py")
"""What the agent is made of; it runs before lkm itself is there."""

HERE = os.path.dirname(os.path.abspath(__file__))


def guest_python() -> str:
    """The interpreter of guests of this architecture: this one, outside any virtual environment, links resolved."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return os.path.realpath(base)


def base_initramfs(architecture: Architecture, progress: Progress) -> str:
    """The path of the initramfs in the cache; made if the agent, the interpreter or a tool has changed."""
    foreign = architecture != host_architecture()
    inputs = [f"{HERE}/{name}" for name in (*AGENT, "init.sh", "foreign.py", "rootfs.py")]
    inputs += [find_tool("busybox")] if foreign else [guest_python(), find_tool("busybox"), find_tool("kmod")]
    states = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in inputs]
    key = content_key(architecture.name, sys.version, states)
    home = os.path.join(cache_dir("guest"), key)
    path = os.path.join(home, "initramfs.cpio")
    if intact(home):
        use(home)
        return path
    with locked("guest"):
        if intact(home):
            return path
        progress("making the guest's root")
        prune(cache_dir("guest"))
        packages = fetch_foreign_packages(architecture.name, progress=progress) if foreign else []
        with tempfile.TemporaryDirectory(prefix="lkm-root-") as stage, publish(home) as scratch:
            _make_directories(stage)
            if foreign:
                add_foreign_programs(stage, packages)
                _add_applets(stage)
            else:
                _add_tools(stage)
                _add_python(stage)
            _add_files(stage)
            make_cpio(stage, os.path.join(scratch, "initramfs.cpio"))
            python = f"Debian's {FOREIGN_PYTHON}" if foreign else guest_python()
            write_manifest(scratch, {"python": python, "architecture": architecture.name})
    return path


def _make_directories(stage: str) -> None:
    for name in DIRECTORIES:
        os.makedirs(os.path.join(stage, name), exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        os.symlink(f"usr/{name}", os.path.join(stage, name))


def _add_files(stage: str) -> None:
    for name in AGENT:
        shutil.copyfile(f"{HERE}/{name}", f"{stage}/usr/lib/lkm-lab/lkm/lab/{name}")
    _write(f"{stage}/init", _read(f"{HERE}/init.sh"), mode=0o755)
    _write(f"{stage}/usr/local/bin/lkm", LKM_SCRIPT, mode=0o755)
    if os.path.isdir("/lib/terminfo"):
        shutil.copytree("/lib/terminfo", f"{stage}/usr/lib/terminfo", dirs_exist_ok=True)
    _write(f"{stage}/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _write(f"{stage}/etc/group", "root:x:0:\n")
    _write(f"{stage}/etc/hosts", "127.0.0.1 localhost lab\n")


def _add_tools(stage: str) -> None:
    busybox = find_tool("busybox")
    if b"=>" in _ldd(busybox):
        raise LabError("busybox is linked dynamically", remedy="install the package busybox-static")
    shutil.copy(busybox, f"{stage}/usr/bin/busybox")
    # Debian's busybox shell takes its own applets before what is on PATH, also insmod: so it is not /bin/sh.
    shells = [os.path.realpath(find_tool(name)) for name in ("sh", "bash")]
    for name, shell in zip(("sh", "bash"), shells):
        shutil.copy(shell, f"{stage}/usr/bin/{name}")
    kmod = os.path.realpath(find_tool("kmod"))
    shutil.copy(kmod, f"{stage}/usr/bin/kmod")
    for tool in KMOD_TOOLS:
        os.symlink("../bin/kmod", f"{stage}/usr/sbin/{tool}")
    _add_applets(stage)
    _add_libraries(stage, [kmod, *shells])


def _add_applets(stage: str) -> None:
    """Links to busybox, for what this machine's can do; a foreign one is of the same make."""
    for applet in run_tool(["busybox", "--list"]).decode().split():
        link = f"{stage}/usr/bin/{applet}"
        if applet not in KMOD_TOOLS and not os.path.lexists(link):
            os.symlink("busybox", link)


def _add_python(stage: str) -> None:
    """The interpreter and its library at the paths they have on the host, and `/usr/bin/python3`."""
    python = guest_python()
    prefix = sys.base_prefix
    library = sysconfig.get_path(
        "stdlib", vars={"base": prefix, "platbase": prefix, "installed_base": prefix}
    )
    target = _inside(stage, library)
    shutil.copytree(
        library, target, ignore=_unwanted, symlinks=False, ignore_dangling_symlinks=True, dirs_exist_ok=True
    )
    subprocess.run([python, "-m", "compileall", "-q", target, "-s", stage], check=False, capture_output=True)
    os.makedirs(os.path.dirname(_inside(stage, python)), exist_ok=True)
    shutil.copy(python, _inside(stage, python))
    for name in ("python3", "python"):
        if not os.path.lexists(f"{stage}/usr/bin/{name}"):
            os.symlink(python, f"{stage}/usr/bin/{name}")
    extensions = [
        os.path.join(top, name) for top, _, names in os.walk(target) for name in names if ".so" in name
    ]
    _add_libraries(stage, [python, *extensions])
    _strip(stage)


def _unwanted(directory: str, names: list[str]) -> set[str]:
    unwanted = {name for name in names if name in NOT_FOR_GUESTS or name.startswith("config-")}
    unwanted |= {name for name in names if name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a", ".exe"))}
    if os.path.basename(directory) == "lib-dynload":
        unwanted |= {name for name in names if name.startswith(("_test", "_tkinter", "xxlimited", "_xx"))}
    return unwanted


def _add_libraries(stage: str, binaries: Iterable[str]) -> None:
    """Copy every library that ldd names, where the loader will look for it."""
    wanted: set[str] = set()
    for binary in binaries:
        wanted.update(re.findall(r"(/\S+) \(0x", _ldd(binary).decode()))
    directories = {os.path.dirname(path) for path in wanted}
    wanted |= {
        f"{top}/{name}" for top in directories for name in EXTRA_LIBRARIES if os.path.exists(f"{top}/{name}")
    }
    for path in wanted:
        target = _inside(stage, path)
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(os.path.realpath(path), target)


def _inside(stage: str, path: str) -> str:
    """Where an absolute path lies in the stage, in which /usr is merged."""
    return stage + re.sub(r"^/(bin|sbin|lib64|lib)/", r"/usr/\1/", os.path.normpath(path))


def _ldd(path: str) -> bytes:
    return subprocess.run([find_tool("ldd"), path], capture_output=True, check=False).stdout


def _strip(stage: str) -> None:
    """Debug information would only take the guest's memory; without binutils it stays."""
    if shutil.which("strip") is None:
        return
    files = [os.path.join(top, name) for top, _, names in os.walk(stage) for name in names]
    files = [path for path in files if not os.path.islink(path) and _is_elf(path)]
    subprocess.run(["strip", "--strip-unneeded", *files], check=False, capture_output=True)


def _is_elf(path: str) -> bool:
    with open(path, "rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _write(path: str, text: str, *, mode: int = 0o644) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(path, mode)
