# SPDX-License-Identifier: MIT
"""`rescue`: diagnose, plan, gate, record, execute, prove; what dies on the way is diagnosed and gone on from.

snapshot → diagnosis → plan → gate → record → (edits → removal → proof), step by step
"""

from __future__ import annotations

import errno
import os
import time
from enum import Enum
from typing import Any, NamedTuple, Optional

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Diagnosis
from lkm.errors import LkmError, NoLoadableModules
from lkm.names import ModuleName
from lkm.rescue.execute import HelperFailure, Removal, RemovalOutcome, execute_removal, execute_step
from lkm.rescue.gate import Refusal, refusals
from lkm.rescue.plan import Plan, Step, differences
from lkm.rescue.planner import plan_rescue
from lkm.rescue.proof import Check, prove_gone
from lkm.rescue.record import Record
from lkm.rescue.signing import Signer, with_signer
from lkm.rescue.table import HelperOutcome
from lkm.root import Root
from lkm.system.capture import capture, capture_modules
from lkm.system.child import run_in_child
from lkm.system.kmsg import KmsgLine, KmsgTail
from lkm.system.snapshot import Snapshot
from lkm.values import encode

__all__ = ["Options", "Outcome", "RescueResult", "plan_only", "rescue"]

MAX_ROUNDS = 3
"""Plans made for one module: the first, one after its exit died, one more for what came then."""
LOCK_TRIES = 20
LOCK_PAUSE = 0.1
LOG_SECONDS = 2.0


class Outcome(Enum):
    """How a rescue ended. The values are part of the JSON contract."""

    PLANNED = "planned"  # nothing was done, on request; the plan would be executed
    RESCUED = "rescued"  # edits, removal, and proved
    REMOVED = "removed"  # plain removal was sound
    NOT_LOADED = "not-loaded"
    REFUSED = "refused"  # nothing was written
    STOPPED = "stopped"  # begun, and then refused: the exit blocks, or it died and something dangles
    FAILED = "failed"

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self in (Outcome.PLANNED, Outcome.RESCUED, Outcome.REMOVED)


class Options(NamedTuple):
    """What the caller decides.

    force            accept a verdict `crash`
    with_dependents  remove the modules that use it first
    recorded         a plan made before: executed only if one made now is the same
    record           the path of the record; "": none is kept
    exit_seconds     how long an exit function may take
    signer           signs the helper; None: it is loaded unsigned
    """

    force: bool = False
    with_dependents: bool = False
    recorded: Optional[Plan] = None
    record: str = ""
    exit_seconds: float = 10.0
    signer: Optional[Signer] = None


class RescueResult(NamedTuple):
    """What was found, planned, done and seen. `later_plans` were made on the way, when something died."""

    module: ModuleName
    outcome: Outcome
    reason: str
    remedy: str
    plan: Optional[Plan]
    before: Diagnosis
    after: Optional[Diagnosis] = None
    kernel_messages: tuple[KmsgLine, ...] = ()
    proof: tuple[Check, ...] = ()
    later_plans: tuple[Plan, ...] = ()
    differs: tuple[str, ...] = ()
    record: str = ""
    needs_root: bool = False


def plan_only(root: Root, name: ModuleName, options: Options) -> RescueResult:
    """What `rescue` would do: the plan, and the first refusal if there is one. Writes nothing."""
    result, _ = _prepare(root, name, options)
    return result


def rescue(root: Root, name: ModuleName, options: Options) -> RescueResult:
    """Get the module out. Whatever happens, the result says what was done and what the state is."""
    result, before = _prepare(root, name, options)
    if result.outcome is not Outcome.PLANNED or result.plan is None:
        return result
    plan = result.plan
    record = Record(options.record, plan, before) if options.record else None
    _log_line(
        f"rescue of {name} begins: verdict {plan.verdict.value}, record {record.path if record else 'none'}"
    )
    with KmsgTail(root) as tail:
        ended = _Execution(root, plan, options, tail).run(result)
    if record:
        record.complete(ended.outcome.value, detail=_record_detail(ended))
        ended = ended._replace(record=record.path)
    _log_line(f"rescue of {name} ended: {ended.outcome.value}: {ended.reason}")
    return ended


def _prepare(root: Root, name: ModuleName, options: Options) -> tuple[RescueResult, Snapshot]:
    snapshot = with_signer(capture(root), options.signer)
    if snapshot.policy.loadable is False:
        raise NoLoadableModules
    diagnosis = diagnose(snapshot, name)
    if diagnosis.state is None:
        nothing = RescueResult(name, Outcome.NOT_LOADED, diagnosis.reason, diagnosis.remedy, None, diagnosis)
        return nothing, snapshot
    plan = plan_rescue(snapshot, name, with_dependents=options.with_dependents)
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


class _Ending(NamedTuple):
    """How the execution ended."""

    outcome: Outcome
    reason: str
    remedy: str = ""
    proof: tuple[Check, ...] = ()
    after: Optional[Snapshot] = None


class _Execution:
    """One run through the steps of a plan."""

    def __init__(self, root: Root, plan: Plan, options: Options, tail: KmsgTail) -> None:
        self._root = root
        self._plan = plan
        self._options = options
        self._tail = tail
        self._messages: list[KmsgLine] = []
        self._explained = 0  # messages of an exit that died: its oops is known, the proof is about later ones
        self._later: list[Plan] = []

    def run(self, result: RescueResult) -> RescueResult:
        """Execute, and complete `result` with what came of it."""
        try:
            ending = self._run_steps() or self._prove()
        except LkmError as error:  # the sibling has gone, or the module itself: say how far it came
            ending = _Ending(Outcome.FAILED, error.message, error.remedy)
        self._collect()
        return result._replace(
            outcome=ending.outcome,
            reason=ending.reason,
            remedy=ending.remedy,
            proof=ending.proof,
            after=diagnose(ending.after or capture(self._root), result.module),
            kernel_messages=tuple(self._messages),
            later_plans=tuple(self._later),
        )

    def _run_steps(self) -> _Ending | None:
        for number, step in enumerate(self._plan.steps):
            ending = (self._changed(step) if number else None) or self._run_step(self._plan, step)
            if ending is not None:
                return ending
        return None

    def _changed(self, step: Step) -> _Ending | None:
        """A later step was planned before the earlier ones were made: it must still be what is to be done."""
        snapshot = with_signer(capture(self._root), self._options.signer)
        if snapshot.module(step.module) is None:
            return _Ending(
                Outcome.FAILED, f"{step.module} is gone before its turn", "lkm list shows what is left"
            )
        now = plan_rescue(snapshot, step.module)
        if now.target.edits == step.edits and now.target.verdict is step.verdict:
            return None
        self._later.append(now)
        reason = f"{step.module} is not as it should be after the others went: {now.target.reason}"
        return _Ending(Outcome.STOPPED, reason, f"lkm why {step.module}")

    def _run_step(self, plan: Plan, step: Step) -> _Ending | None:
        """One module; None when it is gone."""
        for _ in range(MAX_ROUNDS):
            failure = self._help(plan, step) if step.needs_helper else None
            if failure is not None:
                return _Ending(
                    Outcome.FAILED, f"{step.module}: {failure.reason}", "look again, and make a new plan"
                )
            removal = execute_removal(step.module, seconds=self._options.exit_seconds)
            if removal.outcome is RemovalOutcome.REMOVED:
                return None
            self._collect()
            if removal.outcome is not RemovalOutcome.DIED:
                return _unfinished(step, removal)
            self._explained = len(self._messages)
            plan, refusal = self._replan(step.module)
            step = plan.target
            if refusal is not None:
                reason = f"the exit of {step.module} died; {refusal.reason}"
                return _Ending(Outcome.STOPPED, reason, refusal.remedy)
        return _Ending(Outcome.FAILED, f"{step.module}: its removal died again and again", "see dmesg")

    def _help(self, plan: Plan, step: Step) -> HelperFailure | None:
        """The helper's part, with patience where somebody holds its lock for a moment."""
        for _ in range(LOCK_TRIES):
            failure = execute_step(plan, step, signer=self._options.signer)
            if failure is None or failure.outcome is not HelperOutcome.LOCK_HELD:
                return failure
            time.sleep(LOCK_PAUSE)
        return failure

    def _replan(self, name: ModuleName) -> tuple[Plan, Refusal | None]:
        """The exit died: what is left is diagnosed, to go on as for `exit-died` if that is sound."""
        snapshot = with_signer(capture(self._root), self._options.signer)
        plan = plan_rescue(snapshot, name)
        self._later.append(plan)
        return plan, next(refusals(snapshot, plan, force=self._options.force), None)

    def _prove(self) -> _Ending:
        after = capture_modules(self._root)
        if after.module(self._plan.module) is not None:
            after = capture(self._root)
        self._collect()
        lines = [line.text for line in self._messages[self._explained :]]
        proof = prove_gone(after, self._plan.module, lines, unread=self._tail.note)
        for check in proof:
            if not check.holds:
                reason = f"not proved: {check.what}: {check.detail}"
                return _Ending(Outcome.FAILED, reason, "see dmesg", proof, after)
        edited = self._plan.needs_helper or bool(self._later)
        outcome = Outcome.RESCUED if edited else Outcome.REMOVED
        return _Ending(outcome, "the module is gone and its name is free", "", proof, after)

    def _collect(self) -> None:
        self._messages += self._tail.read_new()


def _unfinished(step: Step, removal: Removal) -> _Ending:
    if removal.outcome is RemovalOutcome.BLOCKS:
        return _Ending(
            Outcome.STOPPED,
            f"the exit of {step.module} blocks (pid {removal.pid}): nothing is sound while it lives",
            f"make true what it waits for (/proc/{removal.pid}/stack); then the module goes by itself",
        )
    text = os.strerror(removal.errno)
    if removal.errno == errno.EWOULDBLOCK:
        reason = f"somebody took a reference to {step.module} in the meantime ({text})"
    else:
        reason = f"{step.module} could not be removed: {text}"
    return _Ending(Outcome.FAILED, reason, f"lkm why {step.module}")


def _record_detail(result: RescueResult) -> dict[str, Any]:
    return {
        "reason": result.reason,
        "after": encode(result.after),
        "proof": [check._asdict() for check in result.proof],
        "later_plans": [plan.to_object() for plan in result.later_plans],
        "kernel_messages": [line.text for line in result.kernel_messages],
    }


def _log_line(text: str) -> None:
    """A line to the journal, through syslog(3). Without a daemon it goes nowhere; one that hangs is left alone."""
    import syslog

    def log() -> None:
        syslog.openlog("lkm", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_NOTICE, text)

    run_in_child(log, seconds=LOG_SECONDS, name="lkm-syslog")
