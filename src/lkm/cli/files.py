# SPDX-License-Identifier: MIT
"""Files that a command line names."""

from __future__ import annotations

from lkm.errors import LkmError

__all__ = ["read_named_file"]


def read_named_file(path: str, *, remedy: str) -> str:
    """The text of `path`. LkmError if it cannot be read or is no text; `remedy` says how to make one."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise LkmError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LkmError(f"{path} is no text", remedy=remedy) from error
