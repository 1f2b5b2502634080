# SPDX-License-Identifier: MIT
"""`rescue`: diagnose, plan, gate, record, execute, prove; what dies on the way is diagnosed and gone on from.

snapshot → diagnosis → plan → gate → record → (edits → removal → proof), step by step
"""

from __future__ import annotations

import os
from typing import Any

from lkm.diagnosis.diagnose import diagnose
from lkm.errors import NoLoadableModules
from lkm.names import ModuleName
from lkm.rescue.execution import Execution
from lkm.rescue.gate import refusals
from lkm.rescue.look import look
from lkm.rescue.plan import Plan, differences
from lkm.rescue.planner import plan_rescue
from lkm.rescue.record import Record
from lkm.rescue.result import Options, Outcome, RescueResult
from lkm.root import Root
from lkm.system.child import run_in_child
from lkm.system.kmsg import KmsgTail
from lkm.system.snapshot import Snapshot
from lkm.values import encode

__all__ = ["plan_only", "rescue"]

LOG_SECONDS = 2.0
LOG_SOCKET = "/dev/log"
"""Where syslog(3) writes to, and the journal listens."""


def plan_only(root: Root, name: ModuleName, options: Options) -> RescueResult:
    """What `rescue` would do: the plan, and the first refusal if there is one. Writes nothing."""
    result, _ = _prepare(root, name, options)
    return result


def rescue(root: Root, name: ModuleName, options: Options) -> RescueResult:
    """Get the module out, or do what is requested in place of that. Whatever happens, the result says what was
    done and what the state is."""
    result, before = _prepare(root, name, options)
    if result.outcome is not Outcome.PLANNED or result.plan is None:
        return result
    plan = result.plan
    record = Record(options.record, plan, before) if options.record else None
    what = "quarantine" if plan.request.quarantine else "rescue"
    _log_line(
        f"{what} of {name} begins: verdict {plan.verdict.value}, record {record.path if record else 'none'}"
    )
    with KmsgTail(root) as tail:
        ended = Execution(root, plan, options, tail).run(result)
    if record:
        unwritten = record.complete(ended.outcome.value, detail=_record_detail(ended))
        reason = "; ".join(filter(None, (ended.reason, unwritten)))
        ended = ended._replace(record=record.path, reason=reason)
    _log_line(f"{what} of {name} ended: {ended.outcome.value}: {ended.reason}")
    return ended


def _prepare(root: Root, name: ModuleName, options: Options) -> tuple[RescueResult, Snapshot]:
    request = options.recorded.request if options.recorded else options.request
    snapshot = look(root, options, name, request)
    if snapshot.policy.loadable is False:
        raise NoLoadableModules
    diagnosis = diagnose(snapshot, name)
    if diagnosis.state is None:
        nothing = RescueResult(name, Outcome.NOT_LOADED, diagnosis.reason, diagnosis.remedy, None, diagnosis)
        return nothing, snapshot
    plan = plan_rescue(snapshot, name, request)
    result = RescueResult(name, Outcome.PLANNED, plan.target.reason, "", plan, diagnosis)
    if options.recorded is not None:
        differs = differences(options.recorded, plan)
        if differs:
            return _outdated(result, options.recorded, differs), snapshot
    refusal = next(refusals(snapshot, plan, force=options.force), None)
    if refusal is not None:
        result = result._replace(
            outcome=Outcome.REFUSED,
            reason=refusal.reason,
            remedy=refusal.remedy,
            needs_root=refusal.needs_root,
        )
    return result, snapshot


def _outdated(result: RescueResult, recorded: Plan, differs: tuple[str, ...]) -> RescueResult:
    return result._replace(
        outcome=Outcome.REFUSED,
        reason=f"the plan no longer fits, nothing was written; {len(differs)} differ, first {differs[0]}",
        remedy="make a new one with --dry-run",
        plan=recorded,
        differs=differs,
    )


def _record_detail(result: RescueResult) -> dict[str, Any]:
    return {
        "reason": result.reason,
        "after": encode(result.after),
        "proof": [check._asdict() for check in result.proof],
        "later_plans": [plan.to_object() for plan in result.later_plans],
        "heal": encode(result.heal),
        "kernel_messages": [line.text for line in result.kernel_messages],
    }


def _log_line(text: str) -> None:
    """A line to the journal, through syslog(3). Without a daemon it goes nowhere; one that hangs is left alone."""
    import syslog

    if not os.path.exists(LOG_SOCKET):
        return  # nobody listens, and a child takes its time

    def log() -> None:
        syslog.openlog("lkm", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_NOTICE, text)

    run_in_child(log, seconds=LOG_SECONDS, name="lkm-syslog")
