# SPDX-License-Identifier: MIT
"""Small reads of /proc, /sys and recorded trees, where a file may vanish or refuse at any moment.

Errors are answers here: a module that goes gives ENOENT or ENODEV, a process that ends ESRCH, a hidden file
EACCES or EPERM. Each reader returns None (or nothing) for all of them; who needs the reason opens the file.
"""

from __future__ import annotations

import os
from typing import Optional

from lkm.root import Root

__all__ = ["list_directory", "process_ids", "read_bytes", "read_link", "read_number", "read_text"]

_CHUNK = 1 << 16


def read_bytes(path: str, limit: int = 1 << 26) -> Optional[bytes]:
    """The content of `path`, at most `limit` bytes, or None if it cannot be opened or read to its end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    pieces = []
    try:
        # A file on disk is read at once, and not copied again; /proc gives no size, /sys one that is not so.
        chunk = max(_CHUNK, os.fstat(handle).st_size)
        while limit > 0:
            piece = os.read(handle, min(chunk, limit))
            if not piece:
                break
            chunk = _CHUNK
            pieces.append(piece)
            limit -= len(piece)
    except OSError:
        return None
    finally:
        os.close(handle)
    return b"".join(pieces)


def read_text(path: str) -> Optional[str]:
    """The text of `path` without the white space at its ends, or None. Other bytes than UTF-8 are escaped."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "backslashreplace").strip()


def read_number(path: str) -> Optional[int]:
    """The number in `path`, decimal or `0x…`, or None if it cannot be read or is no number."""
    text = read_text(path)
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def read_link(path: str) -> str:
    """What the symbolic link `path` says, or ""."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def list_directory(path: str) -> list[str]:
    """The sorted names in `path`; none if it cannot be listed."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def process_ids(root: Root) -> list[int]:
    """The processes of /proc, by number."""
    return sorted(int(name) for name in list_directory(root.join("/proc")) if name.isdigit())
