# SPDX-License-Identifier: MIT
"""The proof after a removal or a quarantine: the module, or its name, is gone from everywhere, and the kernel has
not complained. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lkm.names import ModuleName
from lkm.rescue.plan import Step
from lkm.system.snapshot import LoadedModule, Snapshot

__all__ = ["Check", "is_crash", "prove_gone", "prove_quarantined"]

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
        _no_oops(messages, unread),
    )


def prove_quarantined(
    after: Snapshot, step: Step, messages: Iterable[str], *, unread: str = ""
) -> tuple[Check, ...]:
    """Look, in a full snapshot taken afterwards, for the old name and the new one. What blocked may have come
    back meanwhile: then the module is gone by itself."""
    named, now = after.module(step.module), after.module(step.new_name or step.module)
    links = [module.name for module in after.modules if step.module in module.holders]
    still = ""
    if named is not None and named.address == step.address:
        still = f"it is still called {step.module}"
    elif named is None and links:
        still = f"/sys/module/{links[0]}/holders/{step.module} is still there"
    return (
        Check("the name is released", not still, still),
        Check("the name can be loaded again", not after.proc_modules_error, after.proc_modules_error),
        *((_renamed(now, step), _exports_nothing(now)) if now else ()),
        _no_oops(messages, unread),
    )


def _renamed(now: LoadedModule, step: Step) -> Check:
    raw = now.raw
    if now.address != step.address:
        detail = f"its struct module is at {now.address:#x}, and was at {step.address:#x}"
    elif not now.in_sysfs or raw is None or raw.kobject_name != now.name:
        detail = f"/sys/module/{now.name} is not its own"
    elif not now.owns(now.address):
        detail = "its memory is not what it was"
    else:
        return Check(f"it is {now.name}, in its memory", holds=True)
    return Check(f"it is {now.name}, in its memory", holds=False, detail=detail)


def _exports_nothing(now: LoadedModule) -> Check:
    counts = (now.raw.num_syms, now.raw.num_gpl_syms) if now.raw else (None, None)
    detail = ""
    if counts[0] is None:
        detail = "how many symbols it exports could not be read"
    elif any(counts):
        detail = f"it still exports {sum(count or 0 for count in counts)} symbols"
    return Check("it exports nothing any more", not detail, detail)


def _no_oops(messages: Iterable[str], unread: str) -> Check:
    crashes = [line for line in messages if is_crash(line)]
    return Check("no new oops", not crashes and not unread, crashes[0] if crashes else unread)
