# SPDX-License-Identifier: MIT
"""depmod as a process against kmod's on a whole tree: a full run, and runs after a small change.

Full runs keep nothing for the next one, as is so with -b. Every result is compared with kmod's, or with that of a
full run.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from bench.classic import launchers
from bench.measure import Comparison, progress, time_process

from lkm.lab.module_tree import link_tree, module_tree
from lkm.lab.process import find_tool

__all__ = ["AGAIN", "FULL", "compare_again", "compare_full"]

KERNEL = "6.1-generic"
FULL = {"": 0.70, ".xz": 0.60, ".zst": 0.75, ".gz": 0.60}
"""How modules are compressed, and the greatest part of kmod's time."""

SETTLED = 0.15
"""Seconds after which a changed file counts as known: see lkm.tree.depmod.cache."""


def compare_full(suffix: str) -> Callable[[int], Comparison]:
    """A full run on a tree with modules of one kind."""
    return functools.partial(_compare_full, suffix)


def _compare_full(suffix: str, rounds: int) -> Comparison:
    source, release = module_tree(KERNEL, suffix=suffix, progress=progress)
    name = f"depmod of the 6.1 tree, .ko{suffix}"
    with (
        launchers() as tools,
        tempfile.TemporaryDirectory(prefix="lkm-bench-") as top,
        _peer(suffix) as peer_tool,
    ):
        link_tree(source, top, release)
        ours, peer = [], []
        progress(name)
        for _ in range(rounds):
            ours.append(time_process([f"{tools}/depmod", "-b", top, "-o", f"{top}/ours", release]))
            peer.append(time_process([peer_tool, "-b", top, release]))
        broken = _differences(Path(top) / "ours/lib/modules" / release, Path(top) / "lib/modules" / release)
    return Comparison(name, ours, "kmod's", peer, share_at_most=FULL[suffix], broken=broken)


@contextmanager
def _peer(suffix: str) -> Iterator[str]:
    """kmod's depmod: Debian's, but for gzip, which that cannot read: then one that is built here."""
    if suffix != ".gz":
        yield find_tool("depmod")
        return
    from tests.kmod_suite.build import make_suite

    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as directory:
        os.symlink(make_suite(progress) / "kmod", f"{directory}/depmod")
        yield f"{directory}/depmod"


def _differences(ours: Path, theirs: Path) -> list[str]:
    from tests.depmod import read_files

    expected = read_files(theirs)
    return [
        f"modules.{name} differs" for name, content in read_files(ours).items() if content != expected[name]
    ]


class _Again:
    """A tree of its own, with a cache: what is changed in it, and changed back."""

    def __init__(self, top: str, release: str) -> None:
        self.modules = f"{top}/lib/modules/{release}"
        self.module = f"{self.modules}/kernel/drivers/net/dummy.ko"
        self.exporter = f"{self.modules}/kernel/drivers/net/mii.ko"
        self.added = f"{self.modules}/extra/added.ko"
        with open(self.module, "rb") as file:
            self.content = file.read()
        with open(self.exporter, "rb") as file:
            self.exports = file.read()
        self.turn = 0

    def nothing(self) -> None:
        """No change."""

    def change(self) -> None:
        """Another alias in one module."""
        self.turn += 1
        self._write(self.module, self.content.replace(b"rtnl-link-dummy\0", b"rtnl-link-%05d\0" % self.turn))

    def add(self) -> None:
        """A module that exports what another one does, which then counts no more."""
        os.makedirs(os.path.dirname(self.added), exist_ok=True)
        self._write(self.added, self.exports)

    def delete(self) -> None:
        """A module that others need."""
        os.unlink(self.exporter)

    def undo(self) -> None:
        """All of that."""
        self._write(self.module, self.content)
        self._write(self.exporter, self.exports)
        if os.path.exists(self.added):
            os.unlink(self.added)

    @staticmethod
    def _write(path: str, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)


AGAIN = {
    "nothing changed": (_Again.nothing, 0.10),
    "one module changed": (_Again.change, 0.17),
    "one added": (_Again.add, 0.22),
    "an exporter deleted": (_Again.delete, 0.28),
}
"""What is done before the run, and the greatest part of the time of a full run of kmod's."""


def compare_again(what: str) -> Callable[[int], Comparison]:
    """A run after a change, with the cache of the run before."""
    return functools.partial(_compare_again, what)


def _compare_again(what: str, rounds: int) -> Comparison:
    source, release = module_tree(KERNEL, suffix="", progress=progress)
    act, bound = AGAIN[what]
    name = f"depmod, {what}"
    with launchers() as tools, tempfile.TemporaryDirectory(prefix="lkm-bench-") as top:
        progress(name)
        subprocess.run(["cp", "-r", "--reflink=auto", source, f"{top}/tree"], check=True)
        tree, cache = _Again(f"{top}/tree", release), f"{top}/cache"
        argv = [f"{tools}/depmod", "-b", f"{top}/tree", release]
        kept = [*argv, "--cache", cache]
        ours, peer = [], []
        for _ in range(rounds):
            peer.append(time_process([find_tool("depmod"), "-b", f"{top}/tree", release]))
            time.sleep(SETTLED)
            subprocess.run(kept, check=True)
            act(tree)
            ours.append(time_process(kept))
            broken = _against_full(argv, tree.modules, f"{top}/full", release)
            tree.undo()
    return Comparison(name, ours, "a full run of kmod's", peer, share_at_most=bound, broken=broken)


def _against_full(argv: list[str], modules: str, output: str, release: str) -> list[str]:
    subprocess.run([*argv, "--no-cache", "-o", output], check=True)
    return _differences(Path(modules), Path(output) / "lib/modules" / release)
