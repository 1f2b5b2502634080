# SPDX-License-Identifier: MIT
"""One module as /sys/module has it, in a few small reads: what a tool asks before it loads or removes."""

from __future__ import annotations

import os

__all__ = ["COMING", "GOING", "LIVE", "read_attribute", "read_holders", "read_refcnt", "read_state"]

_PAGE = 4096  # bytes: sysfs gives no more

LIVE, COMING, GOING = "live", "coming", "going"


def read_state(name: str, sys: str = "/sys") -> str:
    """`live`, `coming` or `going`; "" if it is not loaded.

    A directory without an initstate is one that the kernel is still making, or a built-in's with parameters,
    which is for the caller to know; kmod takes it for `coming`, and so does this.
    """
    folder = f"{sys}/module/{name}"
    text = read_attribute(f"{folder}/initstate")
    if text is not None:
        return text.strip()
    try:
        return COMING if os.stat(folder).st_mode & 0o170000 == 0o040000 else ""
    except OSError:
        return ""


def read_refcnt(name: str, sys: str = "/sys") -> int | None:
    """How many references it has: users and holders; None if it is not loaded or the kernel cannot unload."""
    text = read_attribute(f"{sys}/module/{name}/refcnt")
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_holders(name: str, sys: str = "/sys") -> list[str]:
    """The modules that use it, in no order."""
    try:
        return os.listdir(f"{sys}/module/{name}/holders")
    except OSError:
        return []


def read_attribute(path: str) -> str | None:
    """A short file of sysfs, None if it cannot be read. Three system calls: open() would make seven."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(handle, _PAGE).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    finally:
        os.close(handle)
