# SPDX-License-Identifier: MIT
"""The tools of the host that the lab needs; a missing one is an error that names its Debian package."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from lkm.errors import LabError

__all__ = ["find_tool", "run_tool"]

PACKAGES = {
    "aarch64-linux-gnu-gcc-12": "gcc-12-aarch64-linux-gnu",
    "aarch64-linux-gnu-ld": "binutils-aarch64-linux-gnu",
    "apt-cache": "apt",
    "apt-config": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "kmod": "kmod",
    "ldd": "libc-bin",
    "make": "make",
    "mke2fs": "e2fsprogs",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "strip": "binutils",
}


def find_tool(name: str) -> str:
    """The tool's path, also in the sbin directories; LabError with its Debian package if it is not there."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise LabError(f"{name} is not installed", remedy=f"install the package {PACKAGES.get(name, name)}")
    return path


def run_tool(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: bytes | None = None,
    remedy: str = "",
) -> bytes:
    """Standard output of a tool that must succeed; LabError with its last line of complaint otherwise."""
    done = subprocess.run(
        [find_tool(argv[0]), *argv[1:]],
        env={**os.environ, "LC_ALL": "C", **(env or {})},
        cwd=cwd,
        input=b"" if stdin is None else stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise LabError(f"{argv[0]} failed: {last}", remedy=remedy)
    return done.stdout
