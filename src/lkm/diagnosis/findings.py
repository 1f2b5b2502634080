# SPDX-License-Identifier: MIT
"""What a diagnosis is made of: findings, holders, verdicts."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

from lkm.names import ModuleName

__all__ = ["Certainty", "Diagnosis", "Finding", "FindingCode", "Holder", "HolderKind", "Verdict"]


class FindingCode(Enum):
    """What can stand in the way of a removal. The values are part of the JSON contract."""

    NOT_LOADED = "not-loaded"
    DEPENDENTS = "dependents"
    INIT_DIED = "init-died"
    INIT_RUNNING = "init-running"
    WAITER = "waiter"
    EXIT_DIED = "exit-died"
    EXIT_RUNNING = "exit-running"
    UNFORMED = "unformed"
    NO_EXIT = "no-exit"
    REFERENCED = "referenced"
    UNEXPLAINED_REFERENCES = "unexplained-references"
    REFCNT_CORRUPT = "refcnt-corrupt"
    ASYNC_STUCK = "async-stuck"
    REGISTERED = "registered"
    OPEN_WITHOUT_REFERENCE = "open-without-reference"
    POINTED_AT = "pointed-at"
    THREAD = "thread"
    MUTEX_HELD = "module-mutex-held"
    NO_SYSFS = "no-sysfs"
    QUARANTINED = "quarantined"
    LIVE_PATCH = "live-patch"
    LIVE_PATCHED = "live-patched"
    POLICY = "policy"
    UNSEEN = "unseen"


class Certainty(Enum):
    """How well a finding is founded."""

    CERTAIN = "certain"  # the kernel's own word, or a pointer in its memory
    LIKELY = "likely"  # names agree, or it follows from what else was seen
    POSSIBLE = "possible"  # cannot be ruled out


class Verdict(Enum):
    """What a removal would mean; ordered from harmless to impossible."""

    REMOVABLE = "removable"  # plain deletion is sound
    SAFE = "safe"  # edits are needed, nothing would dangle
    LEAKS = "leaks"  # memory that nothing points to any more stays allocated
    CRASH = "crash"  # something live still points in; the event that triggers it is named
    REFUSE = "refuse"  # no sound way now; the reason and the way on are given

    @property
    def rank(self) -> int:
        """0 for removable … 4 for refuse."""
        return list(Verdict).index(self)


class HolderKind(Enum):
    """Who can hold a reference."""

    MODULE = "module"
    OPEN_FILE = "open-file"
    MOUNT = "mount"
    NETDEV = "netdev"
    BOUND_DEVICE = "bound-device"
    THREAD = "thread"
    TRACE_EVENT = "trace-event"
    USERS = "users"


class Holder(NamedTuple):
    """Somebody who uses the module. `name` says it in short, `release` how to make them let go.

    `users`: how many there are of them, where one line stands for several users.
    """

    kind: HolderKind
    name: str
    release: str
    pid: Optional[int] = None
    command: str = ""
    path: str = ""
    interface: str = ""
    mount_point: str = ""
    module: str = ""
    state: str = ""
    users: int = 1


class Finding(NamedTuple):
    """One thing in the way. `event`: what would trigger the crash if the module went without its exit."""

    code: FindingCode
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    certainty: Certainty = Certainty.CERTAIN
    holders: tuple[Holder, ...] = ()
    event: str = ""


class Diagnosis(NamedTuple):
    """The answer to "why can it not be unloaded?".

    state, refcnt  as the kernel shows them; None for a module that is not loaded
    verdict        None for a module that is not loaded
    reason         the verdict in a sentence
    remedy         the way on, where there is one
    exit_runs      whether a removal would run the module's own exit function
    not_scanned    what nobody looked at, so that the verdict does not cover it
    """

    module: ModuleName
    state: Optional[str]
    refcnt: Optional[int]
    verdict: Optional[Verdict]
    reason: str
    findings: tuple[Finding, ...]
    remedy: str = ""
    exit_runs: bool = False
    not_scanned: tuple[str, ...] = ()

    def finding(self, code: FindingCode) -> Optional[Finding]:
        """The first finding of that code, or None."""
        return next((finding for finding in self.findings if finding.code is code), None)

    def has(self, *codes: FindingCode) -> bool:
        """Whether one of these codes was found."""
        return any(finding.code in codes for finding in self.findings)
