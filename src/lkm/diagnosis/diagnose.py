# SPDX-License-Identifier: MIT
"""`diagnose`: a Snapshot and a name → the Diagnosis. Pure: a recorded snapshot gives the same answer."""

from __future__ import annotations

from lkm.diagnosis.activity import Activity, Role, activity_of
from lkm.diagnosis.blockers import (
    async_findings,
    exit_findings,
    live_patch_findings,
    machine_findings,
    not_loaded_finding,
    registered_findings,
    state_findings,
    unseen_findings,
    waiter_findings,
)
from lkm.diagnosis.findings import Certainty, Diagnosis, Finding, FindingCode, Verdict
from lkm.diagnosis.policy import edit_policy_findings, removal_policy_findings
from lkm.diagnosis.references import named_holders, reference_findings
from lkm.diagnosis.scanned import kept_objects, pointed_at_findings, scan_of
from lkm.diagnosis.verdict import EDITABLE, decide, exit_runs
from lkm.names import ModuleName
from lkm.system.snapshot import LoadedModule, Snapshot

__all__ = ["diagnose", "without_module"]

NOT_SCANNED = (
    "pointers into the module in the rest of kernel memory: debugfs, callbacks, objects of other modules (--scan)",
)
_SHOWN = 4
NOT_FREED = ("memory that its init allocated: it stays allocated, as its exit does not run",)


def diagnose(snapshot: Snapshot, name: ModuleName) -> Diagnosis:
    """Why `name` cannot be unloaded, and what a removal would mean."""
    module = snapshot.module(name)
    if module is None:
        finding = not_loaded_finding(snapshot, name)
        return Diagnosis(name, None, None, None, finding.summary, (finding,), finding.remedy)
    activity = activity_of(snapshot, module)
    references = reference_findings(snapshot, module, activity)
    findings = [
        *removal_policy_findings(snapshot.policy),
        *machine_findings(snapshot),
        *state_findings(module, activity),
        *waiter_findings(module, activity),
        *async_findings(snapshot),
        *exit_findings(module),
        *live_patch_findings(module),
        *references,
        *([] if references else _open_findings(snapshot, module, activity)),
        *_thread_findings(module, activity),
        *registered_findings(snapshot, module),
        *pointed_at_findings(
            snapshot, name, referenced=any(f.code is FindingCode.REFERENCED for f in references)
        ),
    ]
    edited = any(finding.code in EDITABLE for finding in findings)
    if edited:
        findings += edit_policy_findings(snapshot.policy)
        findings = _with_unseen(snapshot, findings)
    decision = decide(snapshot, module, activity, findings)
    covered = decision.verdict is Verdict.REFUSE or (exit_runs(module) and not edited)
    return Diagnosis(
        module=name,
        state=module.state.value,
        refcnt=module.refcnt,
        verdict=decision.verdict,
        reason=decision.reason,
        remedy=decision.remedy,
        findings=tuple(findings),
        exit_runs=exit_runs(module),
        not_scanned=_not_scanned(snapshot, module, covered=covered),
    )


def _not_scanned(snapshot: Snapshot, module: LoadedModule, *, covered: bool) -> tuple[str, ...]:
    """What nobody looked at. `covered`: a removal would leave nothing behind, or there is none; then only what a
    scan could not see is told."""
    name, scan = module.name, scan_of(snapshot, module.name)
    failed = [each.error for each in snapshot.scans if each.module == name and each.error]
    said = (*(f"kernel memory: {error}" for error in failed), *(scan.notes if scan else ()))
    if covered:
        return said
    dark = () if exit_runs(module) else (*(() if scan else NOT_SCANNED), *_not_freed(snapshot, name))
    return (*dark, *said, *snapshot.notes)


def _not_freed(snapshot: Snapshot, name: ModuleName) -> tuple[str, ...]:
    kept = kept_objects(snapshot, name)
    return (f"{NOT_FREED[0]}: {', '.join(kept[:_SHOWN])}",) if kept else NOT_FREED


def _with_unseen(snapshot: Snapshot, findings: list[Finding]) -> list[Finding]:
    """What follows from seeing nobody is only possible where not everybody was looked at."""
    unseen = unseen_findings(snapshot)
    if not unseen:
        return findings
    inferred = (FindingCode.INIT_DIED, FindingCode.EXIT_DIED, FindingCode.UNEXPLAINED_REFERENCES)
    return [
        *(f._replace(certainty=Certainty.POSSIBLE) if f.code in inferred else f for f in findings),
        *unseen,
    ]


def without_module(snapshot: Snapshot, name: ModuleName) -> Snapshot:
    """The snapshot as it would be after the removal of `name`: gone, and its references given back
    (free_module → module_unload_free)."""

    def released(module: LoadedModule) -> LoadedModule:
        if name not in module.holders:
            return module
        raw = module.raw._replace(refcnt=module.raw.refcnt - 1) if module.raw else None
        refcnt = None if module.refcnt is None else module.refcnt - 1
        holders = tuple(holder for holder in module.holders if holder != name)
        return module._replace(holders=holders, refcnt=refcnt, raw=raw)

    return snapshot._replace(
        modules=tuple(released(module) for module in snapshot.modules if module.name != name),
        registrations=tuple(item for item in snapshot.registrations if item.module != name),
        open_files=tuple(item for item in snapshot.open_files if item.module != name),
        mounts=tuple(item for item in snapshot.mounts if item.module != name),
        scans=tuple(
            scan._replace(hits=tuple(hit for hit in scan.hits if hit.place.module != name))
            for scan in snapshot.scans
            if scan.module != name
        ),
    )


def _open_findings(snapshot: Snapshot, module: LoadedModule, activity: Activity) -> list[Finding]:
    """Files open on the module's code that no reference covers: a driver without .owner."""
    files = [item for item in snapshot.open_files if item.module == module.name and item.how == "f_op"]
    named = named_holders(snapshot, module, activity)
    return [
        Finding(
            FindingCode.OPEN_WITHOUT_REFERENCE,
            f"{item.command} (pid {item.pid}) has {item.path} open, and no reference covers it",
            evidence=(f"/proc/{item.pid}/fd/{item.fd}: its operations lie in the module",),
            remedy=f"close {item.path} or end pid {item.pid} first",
            holders=tuple(holder for holder in named if holder.pid == item.pid),
            event=f"the next use of {item.path} by pid {item.pid}, its close too, calls freed code",
        )
        for item in files
    ]


def _thread_findings(module: LoadedModule, activity: Activity) -> list[Finding]:
    return [
        Finding(
            FindingCode.THREAD,
            f"{task.kind} {task.command} (pid {task.tid}) runs in the module",
            evidence=(f"/proc/{task.tid}/stack has [{module.name}]",),
            remedy="its own exit stops it, where it can run",
            certainty=Certainty.CERTAIN,
            event=f"{task.command} (pid {task.tid}) returns into freed code and oopses",
        )
        for task in activity.by(Role.INSIDE)
    ]
