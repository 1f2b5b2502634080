# SPDX-License-Identifier: MIT
"""Which kernel `--kernel` and `--tree` mean."""

from __future__ import annotations

import os

from lkm.errors import UsageError
from lkm.preflight.read import find_releases
from lkm.root import Root

__all__ = ["choose_kernel"]


def choose_kernel(kernel: str, tree: str) -> tuple[Root, bool]:
    """The root and release that are meant, and whether that is the running kernel.

    kernel  a release, or its beginning up to a dot; "": the running one, or the only one of `tree`
    tree    a directory that holds lib/modules; "": this machine
    """
    base = tree or "/"
    running = os.uname().release
    if not tree and kernel in ("", running):
        return Root.live(), True
    releases = find_releases(Root(base, ""))
    matching = [r for r in releases if r == kernel or r.startswith(f"{kernel}.")] if kernel else releases
    if len(matching) != 1:
        known = ", ".join(sorted(releases)) or "none"
        what = f"kernel {kernel}" if kernel else "one kernel"
        raise UsageError(f"no {what} below {base}", remedy=f"--kernel names one of: {known}")
    return Root(base, matching[0]), False
