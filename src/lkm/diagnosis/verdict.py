# SPDX-License-Identifier: MIT
"""The verdict: what a removal would mean, from the findings. Rules in order; the first that fits decides."""

from __future__ import annotations

from lkm.diagnosis.activity import Activity, Role
from lkm.diagnosis.findings import Certainty, Finding, FindingCode, Verdict
from lkm.system.snapshot import LoadedModule, ModuleState, RegistrationKind, Snapshot

__all__ = ["decide", "exit_runs"]

C = FindingCode

# Nothing is sound while one of these stands, in the order in which it is best told.
REFUSING = (
    C.POLICY, C.MUTEX_HELD, C.UNFORMED, C.INIT_RUNNING, C.EXIT_RUNNING, C.NO_SYSFS, C.ASYNC_STUCK,
    C.DEPENDENTS, C.REFERENCED,
)  # fmt: skip

# These are taken away by edits.
EDITABLE = (C.INIT_DIED, C.EXIT_DIED, C.NO_EXIT, C.REFCNT_CORRUPT, C.UNEXPLAINED_REFERENCES)


def exit_runs(module: LoadedModule) -> bool:
    """Whether a removal would run the module's own exit: where it crashed, or init never finished, it must
    not; where only the count is wrong, it must."""
    return module.state is ModuleState.LIVE and not module.permanent


def decide(
    snapshot: Snapshot, module: LoadedModule, activity: Activity, findings: list[Finding]
) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    for code in REFUSING:
        first = next((finding for finding in findings if finding.code is code), None)
        if first is not None:
            return Verdict.REFUSE, f"{first.summary}: {first.remedy}" if first.remedy else first.summary
    sound = exit_runs(module)
    inside = activity.by(Role.INSIDE)
    # A thread that nobody counts is the business of an exit that runs; with a count, it may be its holder.
    if inside and not sound:
        return (
            Verdict.REFUSE,
            f"{inside[0].command} (pid {inside[0].tid}) runs in the module, and would return into freed code",
        )
    if not sound:
        timers = [
            i
            for i in snapshot.registrations
            if i.module == module.name and i.kind is RegistrationKind.HRTIMER
        ]
        if timers:
            return (
                Verdict.REFUSE,
                f"the timer {timers[0].name} is armed: the machine would die as soon as the module is gone",
            )
    dangling = _dangling(findings, sound=sound)
    if dangling:
        return Verdict.CRASH, dangling[0].event
    edits = [finding for finding in findings if finding.code in EDITABLE]
    if edits:
        then = "its own exit runs" if sound else "its exit is not called"
        return Verdict.SAFE, f"{edits[0].summary}; that can be undone, and then {then}"
    return Verdict.REMOVABLE, "nothing is in the way"


def _dangling(findings: list[Finding], *, sound: bool) -> list[Finding]:
    """Findings whose event would come: a file open without a reference always, registrations where no exit
    takes them away. The certain ones first."""
    events = [f for f in findings if f.code is C.OPEN_WITHOUT_REFERENCE]
    if not sound:
        events += [f for f in findings if f.code is C.REGISTERED]
    return sorted(events, key=lambda finding: finding.certainty is not Certainty.CERTAIN)
