# SPDX-License-Identifier: MIT
"""A module's file as it comes to the kernel: opened, read and unpacked, or what is said to it before that.

Sources: kernel_read_file (fs/kernel_read_file.c, 5.10 to 7.3), copy_module_from_user (kernel/module.c,
kernel/module/main.c); how insmod answers was seen of kmod 30.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.compression import Compression, CompressionError, compression_of, decompress
from lkm.preflight.values import Cause, Problem
from lkm.system.files import read_bytes

__all__ = ["FileFault", "GivenFile", "read_module_file"]

_MAX_FILE = 1 << 29
_MAX_KERNEL = (1 << 31) - 1
"""INT_MAX: what finit_module reads at most."""
_KINDS = (
    (stat.S_ISDIR, "is a directory", "Is a directory"),
    (stat.S_ISFIFO, "is a FIFO", "nothing, and waits for who writes into it"),
)


class GivenFile(NamedTuple):
    """The content; `unpacked`: the file is compressed, so that the tool unpacks it and calls init_module."""

    data: bytes
    unpacked: bool


class FileFault(LkmError):
    """A file with which nothing comes to be looked at; `problem` has the errno."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.words, remedy=problem.remedy)
        self.problem = problem


def read_module_file(path: str) -> GivenFile:
    """The module in `path`, decompressed. FileFault where the load would end before that, LkmError for what is
    too large to be looked at."""
    size = _check_kind(path)
    if size > _MAX_FILE:
        raise LkmError(f"{path} has {size} bytes: too many to be looked at")
    data = read_bytes(path, limit=_MAX_FILE)
    if data is None:
        raise _fault(errno.EIO, f"{path} cannot be read to its end", "copy it anew", "kernel_read_file")
    packed = compression_of(data) is not Compression.NONE
    try:
        return GivenFile(decompress(data, name=path), packed)
    except CompressionError as error:
        raise _fault(
            errno.EINVAL, f"{error.message}: insmod cannot unpack it, and says Invalid parameters",
            error.remedy or "copy or compress it anew", "kmod_file_load_contents",
        ) from error  # fmt: skip


def _check_kind(path: str) -> int:
    """Its size. FileFault for what is no file that can be read."""
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        number = error.errno or errno.EIO
        raise _fault(
            number, f"{path} cannot be opened: {os.strerror(number)}", "name a file that can be read", "open"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        said = next((each[1:] for each in _KINDS if each[0](status.st_mode)), ("is a device or a socket", ""))
        tool = f"; insmod itself says {said[1]}" if said[1] else ""
        raise _fault(errno.EINVAL, f"{path} {said[0]}, and no file{tool}", "name a module file (.ko)")
    if status.st_size > _MAX_KERNEL:
        raise _fault(
            errno.EFBIG, f"{path} has {status.st_size} bytes: more than the kernel reads", "name a module"
        )
    return status.st_size


def _fault(number: int, words: str, remedy: str, source: str = "kernel_read_file") -> FileFault:
    return FileFault(Problem(Cause.FILE, number, words, remedy, source))
