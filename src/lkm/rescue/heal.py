# SPDX-License-Identifier: MIT
"""`heal`: the kernel's table of files being loaded, repaired after a load that died (`lkm.rescue.heal_plan`).

table → plan → gate → record → (table → plan → gate → edits under idem_lock) in rounds → the table again
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from lkm.errors import LkmError, NoLoadableModules
from lkm.rescue.execute import execute_step
from lkm.rescue.gate import refusals
from lkm.rescue.heal_plan import describe_table, plan_healing
from lkm.rescue.heal_rounds import Healing, HealOutcome, heal_in_rounds, look_again
from lkm.rescue.plan import Plan
from lkm.rescue.proof import Check, is_crash
from lkm.rescue.record import Record
from lkm.rescue.signing import Signer, with_signer
from lkm.rescue.turn import sole_turn
from lkm.root import Root
from lkm.system.capture import capture_loads
from lkm.system.kmsg import KmsgLine, KmsgTail
from lkm.system.snapshot import LoadTable, Snapshot

__all__ = ["HealOutcome", "HealResult", "Healing", "execute_healing", "heal"]


class HealResult(NamedTuple):
    """What was found, planned, done and seen."""

    outcome: HealOutcome
    reason: str
    remedy: str
    plan: Optional[Plan]
    before: Optional[LoadTable]
    after: Optional[LoadTable] = None
    later_plans: tuple[Plan, ...] = ()
    proof: tuple[Check, ...] = ()
    kernel_messages: tuple[KmsgLine, ...] = ()
    record: str = ""
    needs_root: bool = False


def heal(root: Root, *, record: str, signer: Optional[Signer] = None, dry_run: bool = False) -> HealResult:
    """Repair the table, or with `dry_run` only say what would be done.

    `record` is the path of the record, "" for none; it is written before the helper loads.
    """
    snapshot = look_again(lambda: with_signer(capture_loads(root), signer))
    if snapshot.policy.loadable is False:
        raise NoLoadableModules
    result = _plan(snapshot)
    if dry_run or result.outcome is not HealOutcome.PLANNED or result.plan is None:
        return result
    kept = Record(record, result.plan, snapshot) if record else None
    with KmsgTail(root) as tail:
        healing = execute_healing(root, result.plan, signer=signer)
        lines = tuple(tail.read_new())
    result = _prove(result, healing, lines, tail.note)
    if kept:
        unwritten = kept.complete(result.outcome.value, detail=_record_detail(result))
        reason = "; ".join(filter(None, (result.reason, unwritten)))
        result = result._replace(record=kept.path, reason=reason)
    return result


def execute_healing(root: Root, plan: Plan, *, signer: Optional[Signer] = None) -> Healing:
    """Make the plan's heal step, as a new look shows that it is to be made, and look at the table again.

    Another lkm is kept out from the look on: what one heals, the other must not heal once more.
    """
    try:
        with sole_turn(root):
            return heal_in_rounds(
                plan,
                lambda: with_signer(capture_loads(root), signer),
                lambda now: execute_step(now, now.target, signer=signer),
            )
    except LkmError as error:
        return Healing(HealOutcome.FAILED, error.message, error.remedy or "lkm heal tries again")


def _plan(snapshot: Snapshot) -> HealResult:
    """The plan and the first refusal, or that there is nothing to do."""
    table = snapshot.load_table
    plan = plan_healing(snapshot)
    if plan is None and table is not None:
        what = describe_table(table) if table.present else "this kernel has no idem_hash (it came with 6.5)"
        return HealResult(HealOutcome.NOTHING, what, "", None, table)
    if plan is None:
        hidden = next(
            (note for note in snapshot.notes if "kernel memory" in note), "kernel memory was not read"
        )
        root = snapshot.policy.euid == 0
        return HealResult(
            HealOutcome.REFUSED, hidden, "run it as root" if not root else "restart when you can", None, None,
            needs_root=not root,
        )  # fmt: skip
    result = HealResult(HealOutcome.PLANNED, plan.target.reason, "", plan, table)
    refusal = next(refusals(snapshot, plan), None)
    if refusal is None:
        return result
    return result._replace(
        outcome=HealOutcome.REFUSED,
        reason=refusal.reason,
        remedy=refusal.remedy,
        needs_root=refusal.needs_root,
    )


def _prove(result: HealResult, healing: Healing, lines: tuple[KmsgLine, ...], unread: str) -> HealResult:
    crashes = [line.text for line in lines if is_crash(line.text)]
    after = healing.after
    proof = (
        Check("nothing dangles in idem_hash", after is not None and not after.dangling),
        Check("nobody waits for a dead load", after is not None and not after.orphans),
        Check("idem_lock is free", after is not None and not after.lock_held),
        Check("no new oops", not crashes and not unread, crashes[0] if crashes else unread),
    )
    outcome, reason, remedy = healing.outcome, healing.reason, healing.remedy
    failed = [check for check in proof if not check.holds]
    if outcome is HealOutcome.HEALED and failed:
        outcome, reason = HealOutcome.FAILED, f"not proved: {failed[0].what}: {failed[0].detail}"
        remedy = "see dmesg"
    return result._replace(
        outcome=outcome, reason=reason, remedy=remedy, after=after, proof=proof, kernel_messages=lines,
        later_plans=healing.later_plans,
    )  # fmt: skip


def _record_detail(result: HealResult) -> dict[str, Any]:
    return {
        "reason": result.reason,
        "proof": [check._asdict() for check in result.proof],
        "later_plans": [plan.to_object() for plan in result.later_plans],
        "kernel_messages": [line.text for line in result.kernel_messages],
    }
