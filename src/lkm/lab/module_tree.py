# SPDX-License-Identifier: MIT
"""A kernel's whole module tree as files, for tools that work on one: unpacked once, then in the cache.

trees/RELEASE/lib/modules/RELEASE        as Debian has it
trees/RELEASE.xz/lib/modules/RELEASE     the same with every module compressed (also .zst, .gz)
"""

from __future__ import annotations

import os
import shutil

from lkm.errors import LabError
from lkm.formats.compression import decompress
from lkm.lab.cache import Progress, cache_dir, locked, publish, use
from lkm.lab.kernels import get_kernel
from lkm.lab.process import run_tool

__all__ = ["SUFFIXES", "compress", "link_tree", "module_tree"]

SUFFIXES = ("", ".xz", ".zst", ".gz")
_XZ_DICTIONARY = 1 << 20
"""As the kernel's own `make modules_install` has it (scripts/Makefile.modinst, 6.x)."""


def module_tree(name: str, *, suffix: str | None = None, progress: Progress) -> tuple[str, str]:
    """The directory that has `lib/modules/RELEASE`, and RELEASE, of a series or an exact release.

    suffix  how modules are compressed: one of SUFFIXES; None: as the kernel came

    What is in it is shared: nobody changes it. LabError if the kernel cannot be had or there is no room.
    """
    kernel = get_kernel(name, progress=progress)
    top = cache_dir("trees")
    plain = os.path.join(top, kernel.release)
    with locked(f"tree-{kernel.release}"):
        if not os.path.isdir(plain):
            progress(f"unpacking the modules of {kernel.release}")
            with publish(plain) as scratch:
                _unpack(kernel.file("modules.img"), scratch, kernel.release)
    if suffix is None or suffix == _suffix_of(plain):
        return use(plain), kernel.release
    chosen = f"{plain}{suffix or '.plain'}"
    with locked(f"tree-{kernel.release}-compressed"):
        if not os.path.isdir(chosen):
            progress(f"making a tree of {kernel.release} with modules as .ko{suffix}")
            with publish(chosen) as scratch:
                _convert(plain, scratch, suffix)
    return use(chosen), kernel.release


def _suffix_of(top: str) -> str:
    """How the modules of a tree are compressed, by the first one; all are alike."""
    for _, _, names in os.walk(top):
        for name in names:
            if ".ko" in name:
                return name.partition(".ko")[2]
    raise LabError(f"{top} has no modules", remedy="remove that directory")


def _unpack(image: str, destination: str, release: str) -> None:
    """debugfs reads an ext4 image without mounting it, and so without root."""
    run_tool(["debugfs", "-R", f"rdump /lib {destination}", image])
    if not os.path.isdir(os.path.join(destination, "lib/modules", release, "kernel")):
        raise LabError(f"{image} has no modules of {release}", remedy="is there room in the cache?")


def _convert(source: str, destination: str, suffix: str) -> None:
    """Copy a tree; modules are compressed anew. Indexes, which name files, are for depmod to make."""
    for folder, _, names in os.walk(source):
        into = os.path.join(destination, os.path.relpath(folder, source))
        os.makedirs(into, exist_ok=True)
        for name in names:
            path = os.path.join(folder, name)
            module, mark, _ = name.partition(".ko")
            if not mark:
                shutil.copy2(path, into)
                continue
            with open(path, "rb") as file:
                data = decompress(file.read(), name=path)
            with open(os.path.join(into, f"{module}.ko{suffix}"), "wb") as file:
                file.write(compress(data, suffix))


def link_tree(source: str, top: str, release: str) -> str:
    """Make `lib/modules/RELEASE` below `top`, with links to the modules below `source`, for a depmod of its own."""
    tree = os.path.join(top, "lib/modules", release)
    os.makedirs(tree)
    for entry in os.scandir(os.path.join(source, "lib/modules", release)):
        if entry.is_dir():
            os.symlink(entry.path, os.path.join(tree, entry.name))
        else:
            shutil.copy(entry.path, tree)
    return tree


def compress(data: bytes, suffix: str) -> bytes:
    """As `make modules_install` does, for one of SUFFIXES."""
    if suffix == ".xz":
        import lzma

        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": _XZ_DICTIONARY}]
        return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compress(data)
    if suffix == ".gz":
        import gzip

        return gzip.compress(data, mtime=0)
    return data
