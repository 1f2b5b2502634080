# SPDX-License-Identifier: MIT
"""`lkm check`: a whole tree against the time that kmod's depmod takes for it, and one module as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from bench.measure import Comparison, progress, time_process

from lkm.lab.kernels import get_kernel
from lkm.lab.module_tree import link_tree, module_tree
from lkm.lab.process import find_tool

__all__ = ["compare_check_all", "compare_check_one"]

KERNEL = "6.1-generic"
TIMES_DEPMOD = 8.0
SECONDS = 0.15


def compare_check_all(rounds: int) -> Comparison:
    """Every module of the 6.1 tree. What the image exports is kept from one run to the next, as it is for users."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as top:
        release = _make_tree(top)
        argv = [sys.executable, "-m", "lkm", "check", "--tree", top, "--all"]
        said = subprocess.run(argv, check=False, capture_output=True, text=True)
        progress("lkm check of the 6.1 tree")
        ours, peer = [], []
        for _ in range(rounds):
            ours.append(time_process(argv))
            peer.append(time_process([find_tool("depmod"), "-n", "-b", top, release]))
    broken = [] if said.returncode == 0 else [said.stdout[-500:] + said.stderr[-500:]]
    return Comparison(
        "check of the 6.1 tree", ours, "kmod's depmod", peer, times_slower=TIMES_DEPMOD, broken=broken
    )


def compare_check_one(rounds: int) -> Comparison:
    """One module as a process, against modinfo of it."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as top:
        release = _make_tree(top)
        path = f"{top}/lib/modules/{release}/kernel/drivers/net/dummy.ko"
        argv = [sys.executable, "-m", "lkm", "check", "--tree", top, path]
        said = subprocess.run(argv, check=False, capture_output=True, text=True)
        progress("lkm check of one module")
        ours, peer = [], []
        for _ in range(rounds):
            ours.append(time_process(argv))
            peer.append(time_process([find_tool("modinfo"), path]))
    broken = [] if said.returncode == 0 else [said.stdout[-500:] + said.stderr[-500:]]
    return Comparison("check of one module", ours, "modinfo", peer, at_most=SECONDS, broken=broken)


def _make_tree(top: str) -> str:
    """The tree with its indexes, and the image and configuration in boot."""
    source, release = module_tree(KERNEL, suffix="", progress=progress)
    link_tree(source, top, release)
    subprocess.run([find_tool("depmod"), "-b", top, release], check=True)
    os.mkdir(f"{top}/boot")
    image = get_kernel(KERNEL, progress=progress)
    for name in ("vmlinuz", "config"):
        os.symlink(image.file(name), f"{top}/boot/{name}-{release}")
    return release
