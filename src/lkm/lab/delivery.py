# SPDX-License-Identifier: MIT
"""What each guest gets of its own, as a tar on a disk: lkm as it is now, and a copy of a host directory."""

from __future__ import annotations

import io
import os
import py_compile
import sys
import tarfile
import tempfile

import lkm
from lkm.errors import LabError, UsageError
from lkm.lab.cache import cache_dir, content_key
from lkm.lab.machine import DELIVERY_SIZE

__all__ = ["write_delivery"]

BLOCK = tarfile.BLOCKSIZE


def write_delivery(path: str, share: str | None) -> int:
    """Write the delivery disk at `path`: the package in `usr/lib/lkm`, the directory `share` in `share`.

    Returns how many bytes it fills.
    """
    if share is not None and not os.path.isdir(share):
        raise UsageError(f"--share: {share} is not a directory")
    with open(path, "wb") as stream:
        with open(_package_tar(), "rb") as package:
            stream.write(package.read())
        if share is not None:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
                archive.add(share, "share", filter=_as_root)
        stream.write(bytes(2 * BLOCK))
        filled = stream.tell()
        if filled > DELIVERY_SIZE:
            raise LabError(
                f"{share} does not fit into a guest", remedy=f"share less than {DELIVERY_SIZE >> 20} MB"
            )
        stream.truncate(DELIVERY_SIZE)
    return filled


def _package_tar() -> str:
    """A tar of the package with its byte code, without the end mark; kept until a source changes."""
    top = os.path.dirname(os.path.abspath(lkm.__file__))
    sources = []
    for directory, subdirectories, names in os.walk(top):
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        sources += [os.path.join(directory, name) for name in sorted(names) if not name.startswith(".")]
    states = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in sources]
    path = os.path.join(cache_dir("package"), content_key(sys.version, states))
    if not os.path.exists(path):
        data = _tar_of_package(top, sources)
        with tempfile.NamedTemporaryFile(dir=cache_dir("package"), delete=False) as stream:
            stream.write(data)
        os.replace(stream.name, path)
        _prune(os.path.dirname(path), keep=8)
    return path


def _tar_of_package(top: str, sources: list[str]) -> bytes:
    buffer = io.BytesIO()
    # Never closed: the share's members follow, and then the end mark.
    archive = tarfile.TarFile(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT)
    tag = sys.implementation.cache_tag
    with tempfile.TemporaryDirectory(prefix="lkm-pyc-") as scratch:
        for path in sources:
            inside = f"usr/lib/lkm/lkm/{os.path.relpath(path, top)}"
            archive.add(path, inside, filter=_as_root)
            if path.endswith(".py"):
                compiled = os.path.join(scratch, "x.pyc")
                # Unchecked: the guest's interpreter never looks at the source.
                mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
                try:
                    py_compile.compile(path, compiled, f"/{inside}", doraise=True, invalidation_mode=mode)
                except py_compile.PyCompileError:
                    continue  # a source that is being edited: the guest will say what is wrong with it
                directory, name = os.path.split(inside)
                archive.add(compiled, f"{directory}/__pycache__/{name[:-3]}.{tag}.pyc", filter=_as_root)
    return buffer.getvalue()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _prune(directory: str, *, keep: int) -> None:
    paths = sorted((entry.path for entry in os.scandir(directory)), key=lambda path: os.stat(path).st_mtime)
    for path in paths[:-keep]:
        os.unlink(path)
