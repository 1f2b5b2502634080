# SPDX-License-Identifier: MIT
"""What each guest gets of its own: lkm as it is now, and a writable copy of a directory of the host.

Both come as ext4 images on disks that were blank when the template booted: one `mount` each, nothing to unpack.
"""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
import tempfile

import lkm
from lkm.errors import LabError, UsageError
from lkm.lab.cache import cache_dir, content_key, prune, use
from lkm.lab.image import check_readable, make_ext4, paths_below, tree_size

__all__ = ["PACKAGE_SIZE", "SHARE_SIZE", "package_image", "share_image", "sparse_file"]

PACKAGE_SIZE = 32 << 20
SHARE_SIZE = 4 << 30
"""Bytes of the two disks: the same in a template and in all its clones. The files are sparse."""

SHARE_ROOM = 256
"""MB that a guest can write to /share beyond what is there."""


def sparse_file(path: str, size: int) -> str:
    """A file of `size` bytes, all of them zero and none of them stored; returns `path`."""
    with open(path, "wb") as stream:
        os.truncate(stream.fileno(), size)
    return path


def share_image(source: str, path: str) -> str:
    """An image of the directory `source` at `path`. Raises UsageError if it is none or holds what
    cannot be read, LabError if it is too large.
    """
    if not os.path.isdir(source):
        raise UsageError(f"--share: {source} is not a directory")
    check_readable([source, *paths_below(source)])
    if tree_size(source) > SHARE_SIZE * 3 // 4 - (SHARE_ROOM << 20):
        raise LabError(f"{source} does not fit into a guest", remedy="share a smaller directory")
    make_ext4(source, path, room=SHARE_ROOM)
    os.truncate(path, SHARE_SIZE)
    return path


def package_image() -> str:
    """An image of the package with its byte code; made again when a source has changed."""
    top = os.path.dirname(os.path.abspath(lkm.__file__))
    sources = []
    for directory, subdirectories, names in os.walk(top):
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        sources += [os.path.join(directory, name) for name in sorted(names) if not name.startswith(".")]
    # A source may be an editor's, and gone again.
    statuses = [(path, os.stat(path)) for path in sources if os.path.exists(path)]
    states = [(path, status.st_mtime_ns, status.st_size) for path, status in statuses]
    home = cache_dir("package")
    path = os.path.join(home, f"{content_key(__file__, sys.version, states)}.img")
    if not os.path.exists(path) or os.stat(path).st_size != PACKAGE_SIZE:  # cut short: a disk was full
        with tempfile.TemporaryDirectory(prefix="lkm-package-") as stage:
            _stage_package(top, sources, os.path.join(stage, "lkm"))
            descriptor, scratch = tempfile.mkstemp(prefix=".new-", dir=home)
            os.close(descriptor)
            make_ext4(stage, scratch)
            os.truncate(scratch, PACKAGE_SIZE)
            os.replace(scratch, path)
        prune(home)
    return use(path)


def _stage_package(top: str, sources: list[str], stage: str) -> None:
    tag = sys.implementation.cache_tag
    for path in sources:
        relative = os.path.relpath(path, top)
        target = os.path.join(stage, relative)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            shutil.copy(path, target)
        except FileNotFoundError:
            continue
        if path.endswith(".py"):
            directory, name = os.path.split(target)
            compiled = f"{directory}/__pycache__/{name[:-3]}.{tag}.pyc"
            # Unchecked: the guest's interpreter does not look at the source's date.
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            # A source that is being edited may not compile: quiet, the guest will say what is wrong with it.
            py_compile.compile(
                target, compiled, f"/usr/lib/lkm/lkm/{relative}", invalidation_mode=mode, quiet=2
            )
