# SPDX-License-Identifier: MIT
"""Files that a command line names: what is in them, or in one sentence why they cannot be read."""

from __future__ import annotations

import errno
import os
from itertools import islice

from lkm.errors import LkmError, NeedsRoot, UsageError

__all__ = ["check_named_file", "is_path", "read_named_bytes", "read_named_file"]

_LIMIT = 1 << 29
_PIECE = 1 << 20
_MISNAMED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)


def is_path(word: str) -> bool:
    """Whether `word`, which may name a module or a file, is a path: no module is called so."""
    return "/" in word or ".ko" in word


def read_named_file(path: str, *, remedy: str) -> str:
    """The text of `path`; `remedy` says how to make one. Errors as of `read_named_bytes`; LkmError for no text."""
    try:
        return read_named_bytes(path, remedy=remedy).decode("utf-8")
    except UnicodeDecodeError as error:
        raise LkmError(f"{path} is no text", remedy=remedy) from error


def read_named_bytes(path: str, *, remedy: str) -> bytes:
    """The content of `path`, at most 512 MiB of it.

    UsageError where there is no such file, with `remedy`; NeedsRoot where the caller may not; else LkmError.
    """
    try:
        with open(path, "rb") as stream:  # in pieces: memory for what is asked for is taken before it is read
            return b"".join(islice(iter(lambda: stream.read(_PIECE), b""), _LIMIT // _PIECE))
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def check_named_file(path: str, *, remedy: str) -> None:
    """The errors of `read_named_bytes`, without reading it all."""
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def _unreadable(path: str, error: OSError, remedy: str) -> LkmError:
    what = f"{path or repr(path)} cannot be read: {error.strerror}"
    if error.errno in _MISNAMED:
        return UsageError(what, remedy=remedy)
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return NeedsRoot(what, remedy="run it as root, or change its permissions")
    return LkmError(what)
