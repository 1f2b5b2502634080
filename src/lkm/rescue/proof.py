# SPDX-License-Identifier: MIT
"""The proof after a removal: the module is gone from everywhere, and the kernel has not complained. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lkm.names import ModuleName
from lkm.system.snapshot import Snapshot

__all__ = ["Check", "is_crash", "prove_gone"]

CRASH_MARKS = (
    "Oops:", "Oops[", "BUG:", "kernel BUG at", "general protection fault", "Internal error:", "Kernel panic",
    "Unable to handle kernel", "invalid opcode:", "stack segment:", "double fault:",
)  # fmt: skip


class Check(NamedTuple):
    """One thing that was looked at. `detail` says what was seen."""

    what: str
    holds: bool
    detail: str = ""


def is_crash(line: str) -> bool:
    """Whether a kernel message announces an oops, a BUG or a panic."""
    return any(mark in line for mark in CRASH_MARKS)


def prove_gone(
    after: Snapshot, name: ModuleName, messages: Iterable[str], *, unread: str = ""
) -> tuple[Check, ...]:
    """Look for `name` in a snapshot taken afterwards, and for crashes in the kernel's new messages; `unread`
    says why messages are missing."""
    module = after.module(name)
    crashes = [line for line in messages if is_crash(line)]
    return (
        Check(
            "gone from /proc/modules and /sys/module",
            module is None,
            "" if module is None else f"still there, {module.state.value}",
        ),
        Check(
            "the name can be loaded again",
            module is None and not after.proc_modules_error,
            after.proc_modules_error,
        ),
        Check("no new oops", not crashes and not unread, crashes[0] if crashes else unread),
    )
