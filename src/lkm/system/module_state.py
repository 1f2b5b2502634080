# SPDX-License-Identifier: MIT
"""One module as /sys/module has it, in a few small reads: what a tool asks before it loads or removes."""

from __future__ import annotations

import os

__all__ = ["COMING", "GOING", "LIVE", "read_holders", "read_refcnt", "read_state"]

LIVE, COMING, GOING = "live", "coming", "going"


def read_state(name: str, sys: str = "/sys") -> str:
    """`live`, `coming` or `going`; "" if it is not loaded.

    A directory without an initstate is one that the kernel is still making, or a built-in's with parameters,
    which is for the caller to know; kmod takes it for `coming`, and so does this.
    """
    folder = f"{sys}/module/{name}"
    text = _read(f"{folder}/initstate")
    if text is not None:
        return text.strip()
    try:
        return COMING if os.stat(folder).st_mode & 0o170000 == 0o040000 else ""
    except OSError:
        return ""


def read_refcnt(name: str, sys: str = "/sys") -> int | None:
    """How many references it has: users and holders; None if it is not loaded or the kernel cannot unload."""
    text = _read(f"{sys}/module/{name}/refcnt")
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


def _read(path: str) -> str | None:
    try:
        with open(path, "rb", 0) as stream:
            return stream.readall().decode("ascii", "replace")
    except OSError:
        return None
