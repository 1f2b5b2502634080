# SPDX-License-Identifier: MIT
"""The classic tools as processes, against kmod's: interpreter start included, on a kernel's whole module tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.listing import MODULES, make_machine
from bench.measure import Comparison, progress, time_process

from lkm.lab.module_tree import link_tree, module_tree
from lkm.lab.process import find_tool

__all__ = ["compare_lsmod", "compare_modinfo", "compare_modinfo_xz", "compare_modprobe_show", "launchers"]

KERNEL = "6.1-generic"
START = 0.025
"""Seconds that a short tool may take; Python alone takes ten milliseconds of them."""


@contextmanager
def launchers() -> Iterator[str]:
    """A directory with the tools as `lkm links` makes them."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as directory:
        subprocess.run([sys.executable, "-m", "lkm", "links", directory], check=True, capture_output=True)
        yield directory


def compare_lsmod(rounds: int) -> Comparison:
    """A machine of 150 modules; kmod's lsmod has the running kernel's, which are seldom more."""
    from tests.machine.fake import preload

    with launchers() as tools, tempfile.TemporaryDirectory(prefix="lkm-bench-") as root:
        make_machine(root)
        ours, peer = [], []
        fake = ["env", f"LD_PRELOAD={preload()}", f"FAKE_ROOT={root}", find_tool("lsmod")]
        progress(f"lsmod, {MODULES} modules")
        for _ in range(rounds):
            ours.append(time_process([f"{tools}/lsmod", "--root", root]))
            peer.append(time_process(fake))
    return Comparison(f"lsmod, {MODULES} modules", ours, "kmod's lsmod", peer, at_most=START)


def compare_modprobe_show(rounds: int) -> Comparison:
    """`modprobe -D ext4`: a look-up in the indexes, four modules long."""
    source, release = module_tree(KERNEL, progress=progress)
    with launchers() as tools, tempfile.TemporaryDirectory(prefix="lkm-bench-") as top:
        link_tree(source, top, release)
        subprocess.run([find_tool("depmod"), "-b", top, release], check=True)
        ours, peer = [], []
        what = ["-D", "-d", top, "-S", release, "ext4"]
        progress("modprobe -D ext4")
        for _ in range(rounds):
            ours.append(time_process([f"{tools}/modprobe", *what]))
            peer.append(time_process([find_tool("modprobe"), *what]))
    return Comparison("modprobe -D ext4", ours, "kmod's", peer, at_most=START)


def compare_modinfo(rounds: int) -> Comparison:
    """All modules of a tree, not compressed, in one call."""
    return _compare_modinfo(rounds, "", at_most=0.9)


def compare_modinfo_xz(rounds: int) -> Comparison:
    """The same tree with every module as .ko.xz."""
    return _compare_modinfo(rounds, ".xz", at_most=0.65)


def _compare_modinfo(rounds: int, suffix: str, *, at_most: float) -> Comparison:
    top, release = module_tree(KERNEL, suffix=suffix or None, progress=progress)
    paths = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(f"{top}/lib/modules/{release}")
        for name in names
        if name.endswith(f".ko{suffix}")
    )
    if not paths:
        raise RuntimeError(f"{top} has no modules of the kind .ko{suffix}")
    with launchers() as tools:
        ours, peer = [], []
        progress(f"modinfo of {len(paths)} modules .ko{suffix}")
        for _ in range(rounds):
            ours.append(time_process([f"{tools}/modinfo", *paths]))
            peer.append(time_process([find_tool("modinfo"), *paths]))
    name = f"modinfo of {len(paths)} modules .ko{suffix}"
    return Comparison(name, ours, "kmod's", peer, share_at_most=at_most)
