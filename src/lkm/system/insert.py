# SPDX-License-Identifier: MIT
"""Puts a module file into the kernel as the classic tools do: by its descriptor if the kernel can read it.

The call is made in this process, without a deadline (`lkm.system.direct_calls` says why).
"""

from __future__ import annotations

import os

from lkm.system.direct_calls import (
    COMPRESSED_FILE,
    IGNORE_MODVERSIONS,
    IGNORE_VERMAGIC,
    finit_module_here,
    init_module_here,
)

__all__ = ["insert_file", "kernel_compression"]

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_SHORTEST = 6  # bytes that tell what a file is
_ENOSYS, _EINVAL = 38, 22


def insert_file(
    path: str, params: str = "", *, force_modversion: bool = False, force_vermagic: bool = False
) -> tuple[int, str]:
    """Load the file; returns the errno, 0 for success, and why it did not even come to the call ("": it did).

    A plain file, and one compressed as this kernel decompresses, go to finit_module(2), so that whoever judges
    files (IMA, LoadPin, SELinux) sees it; another, and any where the kernel has no such call, is decompressed here
    and goes to init_module(2). Forced: the kernel's own flags, or the bytes changed. Source: kmod 34,
    libkmod/libkmod-module.c, kmod_module_insert_module.
    """
    passed = params.encode("utf-8", "surrogateescape")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno or _EINVAL, f"{path} cannot be opened: {error.strerror}"
    try:
        head = os.read(handle, _SHORTEST)
        if len(head) < _SHORTEST:
            return _EINVAL, f"{path} has {len(head)} bytes: it is no module"
        os.lseek(handle, 0, os.SEEK_SET)
        compressed = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
        if not compressed or compressed == kernel_compression():
            flags = COMPRESSED_FILE if compressed else 0
            flags |= IGNORE_MODVERSIONS if force_modversion else 0
            flags |= IGNORE_VERMAGIC if force_vermagic else 0
            errno = finit_module_here(handle, passed, flags)
            if errno != _ENOSYS:
                return errno, ""
        return _insert_image(
            handle, path, passed, force_modversion=force_modversion, force_vermagic=force_vermagic
        )
    except OSError as error:
        return error.errno or _EINVAL, f"{path} cannot be read: {error.strerror}"
    finally:
        os.close(handle)


def _insert_image(
    handle: int, path: str, params: bytes, *, force_modversion: bool, force_vermagic: bool
) -> tuple[int, str]:
    from lkm.errors import ParseError
    from lkm.formats.compression import decompress

    os.lseek(handle, 0, os.SEEK_SET)
    with open(handle, "rb", closefd=False) as stream:
        data = stream.read()
    try:
        image = decompress(data, name=path)
        if force_modversion or force_vermagic:
            from lkm.formats.strip import strip_versions

            image = strip_versions(image, modversions=force_modversion, vermagic=force_vermagic, name=path)
    except ParseError as error:
        return _EINVAL, str(error)
    return init_module_here(image, params), ""


def kernel_compression(sys: str = "/sys") -> str:
    """What the running kernel decompresses itself: `gzip`, `xz`, `zstd`, or "" (before 5.17, or built without)."""
    try:
        with open(f"{sys}/module/compression", "rb", 0) as stream:
            return stream.readall().decode("ascii", "replace").strip()
    except OSError:
        return ""
