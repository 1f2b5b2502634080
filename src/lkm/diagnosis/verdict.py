# SPDX-License-Identifier: MIT
"""The verdict: what a removal would mean, from the findings. Rules in order; the first that fits decides."""

from __future__ import annotations

from typing import NamedTuple

from lkm.diagnosis.activity import Activity, Role
from lkm.diagnosis.findings import Certainty, Finding, FindingCode, Verdict
from lkm.diagnosis.scanned import kept_objects
from lkm.diagnosis.way_on import or_quarantine
from lkm.names import quarantine_number
from lkm.system.snapshot import LoadedModule, ModuleState, RegistrationKind, Snapshot, Task

__all__ = ["EDITABLE", "REFUSING", "Decision", "decide", "exit_runs"]

C = FindingCode

REFUSING = (
    C.POLICY, C.MUTEX_HELD, C.UNFORMED, C.INIT_RUNNING, C.EXIT_RUNNING, C.NO_SYSFS, C.ASYNC_STUCK,
    C.LIVE_PATCH, C.DEPENDENTS, C.REFERENCED, C.UNSEEN,
)  # fmt: skip
"""Nothing is sound while one of these stands; in the order in which it is best told."""

EDITABLE = (C.INIT_DIED, C.EXIT_DIED, C.NO_EXIT, C.REFCNT_CORRUPT, C.UNEXPLAINED_REFERENCES)
"""What edits take away."""


def exit_runs(module: LoadedModule) -> bool:
    """Whether a removal would run the module's own exit: where it crashed, or init never finished, it must
    not; where only the count is wrong, it must. One whose pointer was cleared does not, whatever else it shows."""
    exits = module.raw is None or module.raw.exit != 0
    return module.state is ModuleState.LIVE and not module.permanent and exits


class Decision(NamedTuple):
    """The verdict, its reason in a sentence, and the way on ("" where there is none to give)."""

    verdict: Verdict
    reason: str
    remedy: str = ""


def decide(snapshot: Snapshot, module: LoadedModule, activity: Activity, findings: list[Finding]) -> Decision:
    """What a removal of `module` would mean."""
    for code in REFUSING:
        for finding in findings:
            if finding.code is code:
                return Decision(Verdict.REFUSE, finding.summary, finding.remedy)
    sound = exit_runs(module)
    refusal = None if sound else _runs_on(snapshot, module, activity)
    if refusal:
        return refusal
    for finding in _dangling(findings, sound=sound):
        return Decision(
            Verdict.CRASH, finding.event, f"{finding.summary}: undo that first{or_quarantine(module.name)}"
        )
    kept = [] if sound else kept_objects(snapshot, module.name)
    if kept:
        few = f"{len(kept)} object" + ("s" if len(kept) > 1 else "")
        return Decision(
            Verdict.LEAKS,
            f"its exit is not called, and {few} that it points to would stay allocated for ever",
            "",
        )
    for finding in findings:
        if finding.code in EDITABLE:
            then = "its own exit runs" if sound else "its exit is not called"
            return Decision(
                Verdict.SAFE, f"{finding.summary}; that can be undone, and {then}", finding.remedy
            )
    # kmod cuts a name at its dot: its rmmod would remove the new module of the old name.
    rmmod = "" if quarantine_number(module.name) else f"rmmod {module.name}, or "
    return Decision(Verdict.REMOVABLE, "nothing is in the way", f"{rmmod}lkm unload {module.name}")


def _runs_on(snapshot: Snapshot, module: LoadedModule, activity: Activity) -> Decision | None:
    """What would kill the machine at once, where no exit stops it. (Where one runs, that is its business; a
    thread that may hold a reference has been told as a holder.)"""
    for task in activity.by(Role.INSIDE, Role.MAYBE_INSIDE):
        return Decision(
            Verdict.REFUSE,
            f"{task.kind} {task.command} (pid {task.tid}) {_runs(task)}, and would return into freed code",
            f"make it leave the module, or end pid {task.tid}" + or_quarantine(module.name),
        )
    for item in snapshot.registrations:
        if item.module == module.name and item.kind is RegistrationKind.HRTIMER:
            return Decision(
                Verdict.REFUSE,
                f"its timer {item.name} is armed: the machine would die as soon as the module is gone",
                "only the module's own code can cancel it; restart when you can" + or_quarantine(module.name),
            )
    return None


def _runs(task: Task) -> str:
    return "spins in the kernel, perhaps in it" if task.unreadable else "runs in it"


def _dangling(findings: list[Finding], *, sound: bool) -> list[Finding]:
    """Findings whose event would come: a file open without a reference always, registrations where no exit
    takes them away, and what a scan found in live objects. The certain ones first."""
    events = [f for f in findings if f.code is C.OPEN_WITHOUT_REFERENCE]
    if not sound:
        events += [f for f in findings if f.code is C.REGISTERED]
        events += [f for f in findings if f.code is C.POINTED_AT and f.event]
    return sorted(events, key=lambda finding: finding.certainty is not Certainty.CERTAIN)
