# SPDX-License-Identifier: MIT
"""Module trees of real kernels with the indexes that kmod's depmod makes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator

from lkm.lab.module_tree import link_tree, module_tree
from tests.machine.fake import kmod_path

__all__ = ["KERNELS", "indexed_tree", "modules_of"]

KERNELS = ("6.1-generic", "6.12", "7.3")


@contextlib.contextmanager
def indexed_tree(kernel: str) -> Iterator[tuple[str, str]]:
    """A directory with `lib/modules/RELEASE`, and RELEASE; the modules themselves are those in the cache."""
    source, release = module_tree(kernel, progress=print)
    with tempfile.TemporaryDirectory(prefix="lkm-compare-") as top:
        link_tree(source, top, release)
        subprocess.run([kmod_path("depmod"), "-b", top, release], check=True)
        yield top, release


def modules_of(top: str) -> list[str]:
    """The module files below `top`, sorted."""
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(top, followlinks=True)
        for name in names
        if ".ko" in name
    )
