# SPDX-License-Identifier: MIT
"""A plan in execution, step by step; what dies on the way is diagnosed, planned anew, and gone on from.

(helper → removal) for each step → proof
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from typing import NamedTuple, Optional

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.way_on import or_quarantine
from lkm.errors import LkmError
from lkm.names import ModuleName, module_name
from lkm.rescue.at_work import task_obstacle
from lkm.rescue.execute import HelperFailure, Removal, RemovalOutcome, execute_removal, execute_step
from lkm.rescue.gate import Refusal, refusals
from lkm.rescue.heal import Healing, HealOutcome, execute_healing
from lkm.rescue.look import look
from lkm.rescue.plan import Lock, Plan, Step, StepKind
from lkm.rescue.planner import plan_rescue
from lkm.rescue.proof import Check, prove_gone, prove_quarantined
from lkm.rescue.request import Request
from lkm.rescue.result import Options, Outcome, RescueResult
from lkm.rescue.signing import Signer
from lkm.rescue.table import HelperOutcome
from lkm.rescue.turn import sole_turn
from lkm.root import Root
from lkm.system.capture import capture, capture_modules, capture_tasks
from lkm.system.kmsg import KmsgLine, KmsgTail
from lkm.system.snapshot import Snapshot

__all__ = ["Execution", "help_patiently"]

MAX_ROUNDS = 3
"""Plans made for one module: the first, one after its exit died, one more for what came then."""
LOCK_TRIES = 20
LOCK_PAUSE = 0.1


class _Ending(NamedTuple):
    """How the execution ended."""

    outcome: Outcome
    reason: str
    remedy: str = ""
    proof: tuple[Check, ...] = ()
    after: Optional[Snapshot] = None
    module: Optional[ModuleName] = None  # what it is called now, where that has changed


def help_patiently(
    root: Root, plan: Plan, step: Step, *, signer: Optional[Signer] = None, seconds: Optional[float] = None
) -> HelperFailure | None:
    """The helper's part of a step, again where somebody holds its lock for a moment; None: all is done.

    Busy where another lkm is at work.
    """
    with sole_turn(root):
        for _ in range(LOCK_TRIES):
            failure = execute_step(plan, step, signer=signer, seconds=seconds)
            if failure is None or failure.outcome is not HelperOutcome.LOCK_HELD:
                return failure
            time.sleep(LOCK_PAUSE)
        return failure


class Execution:
    """One run through the steps of a plan."""

    def __init__(self, root: Root, plan: Plan, options: Options, tail: KmsgTail) -> None:
        self._root = root
        self._plan = plan
        self._options = options
        self._tail = tail
        self._messages: list[KmsgLine] = []
        self._explained = 0  # messages of what died and was told: the proof is about later ones
        self._later: list[Plan] = []
        self._healing: Optional[Healing] = None

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
            after=diagnose(ending.after or capture(self._root), ending.module or result.module),
            kernel_messages=tuple(self._messages),
            later_plans=tuple(self._later),
            heal=self._healing,
        )

    def _run_steps(self) -> _Ending | None:
        plan = self._plan
        cleaned: set[ModuleName] = set()
        for number, step in enumerate(plan.steps):
            if step.kind is StepKind.HEAL:
                self._healing = self._heal()
                ending = None
            elif step.module in cleaned:
                ending = self._remove_cleaned(step)
            else:
                ending = (self._changed(step) if number else None) or self._run_step(plan, step)
            if ending is not None:
                return ending
            if step.kind is StepKind.CLEAN_UP:
                cleaned.add(step.module)
        return None

    def _changed(self, step: Step) -> _Ending | None:
        """A later step was planned before the earlier ones were made: it must still be what is to be done."""
        own = step.module == self._plan.module
        request = self._plan.request._replace(with_dependents=False) if own else Request()
        snapshot = look(self._root, self._options, step.module, request)
        if snapshot.module(step.module) is None:
            return _Ending(
                Outcome.FAILED, f"{step.module} is gone before its turn", "lkm list shows what is left"
            )
        plan = plan_rescue(snapshot, step.module, request)
        now = next((each for each in plan.steps if each.kind is step.kind), None)
        if now is not None and _work(now) == _work(step):
            return None
        self._later.append(plan)
        reason = f"{step.module} is not as it should be after the others went: {plan.target.reason}"
        return _Ending(Outcome.STOPPED, reason, f"lkm why {step.module}")

    def _heal(self) -> Healing:
        """The table of files being loaded, after the module whose load died; the rescue goes on either way."""
        return execute_healing(self._root, self._plan, signer=self._options.signer)

    def _run_step(self, plan: Plan, step: Step) -> _Ending | None:
        if step.kind is StepKind.CLEAN_UP:
            return self._clean_up(plan, step)
        if step.kind is StepKind.QUARANTINE:
            return self._quarantine(plan, step)
        return self._remove(plan, step)

    def _remove(self, plan: Plan, step: Step) -> _Ending | None:
        """One module; None when it is gone."""
        for _ in range(MAX_ROUNDS):
            failure = self._help(plan, step) if step.needs_helper else None
            if failure is not None:
                return _failed(step, failure)
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

    def _help(self, plan: Plan, step: Step, *, seconds: Optional[float] = None) -> HelperFailure | None:
        return help_patiently(self._root, plan, step, signer=self._options.signer, seconds=seconds)

    def _clean_up(self, plan: Plan, step: Step) -> _Ending | None:
        """The calls that undo what the module set up; None when all have come back."""
        failure = self._help(plan, step, seconds=self._options.exit_seconds)
        if failure is None:
            return None
        self._collect()
        if failure.outcome is HelperOutcome.BLOCKS:
            remedy = (
                f"see /proc/{failure.pid}/stack; the helper {failure.helper} goes when the call comes back"
            )
            return _Ending(Outcome.STOPPED, f"{step.module}: {failure.reason}", remedy)
        if failure.outcome is not HelperOutcome.DIED:
            return _Ending(Outcome.FAILED, f"{step.module}: {failure.reason}", "make a new plan")
        if not os.path.exists(self._root.join(f"/sys/module/{failure.helper}")):
            reason = "somebody killed the helper's loader: whether a call was made is not known"
            return _Ending(Outcome.STOPPED, f"{step.module}: {reason}", "see dmesg, and make a new plan")
        self._explained = len(self._messages)
        left = self._bury(module_name(failure.helper))
        reason = f"{step.module}: {failure.reason}; {left}"
        return _Ending(Outcome.STOPPED, reason, f"see dmesg and lkm why {step.module}, before anything else")

    def _quarantine(self, plan: Plan, step: Step) -> _Ending | None:
        """The name's release; None when all is done. Whoever was asleep in the module must still be."""
        now = capture_tasks(self._root)
        module = now.module(step.module)
        if module is None:
            return _Ending(
                Outcome.FAILED, f"{step.module} has gone by itself", "lkm list shows what is loaded"
            )
        obstacle = task_obstacle(now, module)
        if obstacle is not None:
            return _Ending(
                Outcome.REFUSED, f"{step.module}: {obstacle.reason}; nothing was written", obstacle.remedy
            )
        failure = self._help(plan, step)
        return _failed(step, failure) if failure else None

    def _bury(self, helper: ModuleName) -> str:
        """A helper that died in a call is a module whose init died: it is got out as any other."""
        try:
            plan, refusal = self._replan(helper)
            obstacle = refusal or self._remove(plan, plan.target)
        except LkmError as error:
            return f"its helper {helper} is left: {error.message}"
        if obstacle:
            return f"its helper {helper} is left: {obstacle.reason}"
        return f"its helper {helper} was removed"

    def _remove_cleaned(self, step: Step) -> _Ending | None:
        """The removal after clean-up calls: planned and judged by what they have left."""
        if capture_modules(self._root).module(step.module) is None:
            return None
        plan, refusal = self._replan(step.module)
        if refusal is not None:
            return _Ending(Outcome.STOPPED, f"after the clean-up calls, {refusal.reason}", refusal.remedy)
        return self._remove(plan, plan.target)

    def _replan(self, name: ModuleName) -> tuple[Plan, Refusal | None]:
        """What is left is diagnosed, to go on if that is sound."""
        snapshot = look(self._root, self._options, name, Request())
        plan = plan_rescue(snapshot, name)
        self._later.append(plan)
        return plan, next(refusals(snapshot, plan, force=self._options.force), None)

    def _prove(self) -> _Ending:
        if self._plan.target.kind is StepKind.QUARANTINE:
            return self._prove_quarantine(self._plan.target)
        after = capture_modules(self._root)
        if after.module(self._plan.module) is not None:
            after = capture(self._root)
        self._collect()
        lines = [line.text for line in self._messages[self._explained :]]
        proof = prove_gone(after, self._plan.module, lines, unread=self._tail.note)
        failed = _unproved(proof)
        if failed:
            return _Ending(Outcome.FAILED, failed, "see dmesg", proof, after)
        edited = self._plan.needs_helper or bool(self._later)
        outcome = Outcome.RESCUED if edited else Outcome.REMOVED
        ending = _Ending(outcome, "the module is gone and its name is free", "", proof, after)
        return _with_healing(ending, self._healing)

    def _prove_quarantine(self, step: Step) -> _Ending:
        after = capture(self._root)
        self._collect()
        proof = prove_quarantined(after, step, [line.text for line in self._messages], unread=self._tail.note)
        failed = _unproved(proof)
        if failed:
            return _Ending(Outcome.FAILED, failed, f"lkm why {step.new_name}", proof, after, step.new_name)
        reason = f"the name is free; what had it is called {step.new_name} now, and keeps its memory"
        ending = _Ending(Outcome.QUARANTINED, reason, step.remedy, proof, after, step.new_name)
        return _with_healing(ending, self._healing)

    def _collect(self) -> None:
        self._messages += self._tail.read_new()


def _work(step: Step) -> tuple[object, ...]:
    """What makes a step the same work."""
    return step.verdict, step.edits, step.before, step.after


def _failed(step: Step, failure: HelperFailure) -> _Ending:
    reason = f"{step.module}: {failure.reason}"
    if failure.outcome is HelperOutcome.BLOCKS:
        held = "" if step.lock is Lock.NONE else f"; it holds {step.lock.symbol} meanwhile"
        hangs = ": every load and removal waits too" if step.lock is Lock.MODULE_MUTEX else ""
        return _Ending(
            Outcome.STOPPED, f"{reason}{held}{hangs}", f"see /proc/{failure.pid}/stack, and wait for it"
        )
    if failure.outcome is HelperOutcome.DIED:
        held = f"{step.lock.symbol} may be held by it for good" if step.lock is not Lock.NONE else "see dmesg"
        return _Ending(Outcome.STOPPED, f"{reason}; {held}", "see dmesg; a restart is the sound way now")
    return _Ending(Outcome.FAILED, reason, "look again, and make a new plan")


def _with_healing(ending: _Ending, healing: Healing | None) -> _Ending:
    """The ending, with what came of the entry of a load that died."""
    if healing is None:
        return ending
    if healing.outcome is HealOutcome.HEALED:
        return ending._replace(reason=f"{ending.reason}, and the entry of its load is out of idem_hash")
    return ending._replace(
        reason=f"{ending.reason}; idem_hash is not healed: {healing.reason}",
        remedy="lkm heal tries again; do not load its file before",
    )


def _unproved(proof: Iterable[Check]) -> str:
    """The first check that does not hold, in words; "" where all do."""
    failed = next((check for check in proof if not check.holds), None)
    return f"not proved: {failed.what}: {failed.detail}" if failed else ""


def _unfinished(step: Step, removal: Removal) -> _Ending:
    if removal.outcome is RemovalOutcome.BLOCKS:
        return _Ending(
            Outcome.STOPPED,
            f"the exit of {step.module} blocks (pid {removal.pid}): nothing is sound while it lives",
            f"make true what it waits for (/proc/{removal.pid}/stack); then the module goes by itself"
            + or_quarantine(step.module),
        )
    text = os.strerror(removal.errno)
    if removal.errno == errno.ENOENT:
        return _Ending(
            Outcome.FAILED,
            f"somebody else removed {step.module} in the meantime",
            "lkm list shows what is loaded",
        )
    if removal.errno == errno.EWOULDBLOCK:
        reason = f"somebody took a reference to {step.module} in the meantime ({text})"
    else:
        reason = f"{step.module} could not be removed: {text}"
    return _Ending(Outcome.FAILED, reason, f"lkm why {step.module}")
