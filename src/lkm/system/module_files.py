# SPDX-License-Identifier: MIT
"""The module files of a kernel's tree."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lkm.root import Root
from lkm.system.files import read_text

__all__ = ["module_paths"]

_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
_SAMPLE = 8


def module_paths(root: Root) -> Iterator[str]:
    """By modules.dep, else by a walk. Those outside `kernel/` (updates) are last."""
    base = root.modules_dir
    lines = (read_text(os.path.join(base, "modules.dep")) or "").splitlines()
    names = [name for name in (line.partition(":")[0] for line in lines) if name.endswith(_SUFFIXES)]
    if not any(os.path.exists(os.path.join(base, name)) for name in names[:_SAMPLE]):
        names = [
            os.path.relpath(os.path.join(directory, name), base)
            for directory, _, found in os.walk(base)
            for name in found
            if name.endswith(_SUFFIXES)
        ]
    for inside in (True, False):
        yield from (os.path.join(base, name) for name in names if name.startswith("kernel/") == inside)
