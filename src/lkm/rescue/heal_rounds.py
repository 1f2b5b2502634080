# SPDX-License-Identifier: MIT
"""The rounds of a heal: look, plan, gate, edits; until nothing is to be healed, or it does not get better.

Each round is planned from a look of its own, right before its edits. Loads come and go, and what was read a minute
ago may look the same by now and be another's: an entry at the same address on a stack that is used again, a lock
that somebody has released and a live task has taken.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import Callable, NamedTuple, Optional

from lkm.rescue.execute import HelperFailure
from lkm.rescue.gate import refusals
from lkm.rescue.heal_plan import describe_table, plan_healing
from lkm.rescue.plan import Plan
from lkm.rescue.table import HelperOutcome
from lkm.system.snapshot import LoadTable, Snapshot

__all__ = ["HealOutcome", "Healing", "heal_in_rounds", "look_again"]

TRIES = 5
"""Rounds that may leave it as it was, or worse, because loads come and go in between."""
PAUSE = 0.2
AGAIN = {
    HelperOutcome.LOCK_HELD,
    HelperOutcome.DIFFERS,
    HelperOutcome.UNREADABLE,
    HelperOutcome.CHANGED,
}
"""What a load that came or went in between leads to: nothing was written."""


class HealOutcome(Enum):
    """How it ended. The values are part of the JSON contract."""

    NOTHING = "nothing"  # nothing is to be healed
    PLANNED = "planned"  # nothing was done, on request; the plan would be executed
    HEALED = "healed"
    REFUSED = "refused"  # nothing was written
    FAILED = "failed"

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self not in (HealOutcome.REFUSED, HealOutcome.FAILED)


class Healing(NamedTuple):
    """What came of the edits. `later_plans` are those that differ from the one that was announced."""

    outcome: HealOutcome
    reason: str
    remedy: str = ""
    after: Optional[LoadTable] = None
    later_plans: tuple[Plan, ...] = ()


def look_again(look: Callable[[], Snapshot], *, pause: float = PAUSE) -> Snapshot:
    """A look at which no task is just on its way into or out of a load in a sick bucket, or the last of `TRIES`."""
    for _ in range(TRIES - 1):
        snapshot = look()
        if snapshot.load_table is None or not snapshot.load_table.unclear:
            return snapshot
        time.sleep(pause)
    return look()


def heal_in_rounds(
    announced: Plan,
    look: Callable[[], Snapshot],
    make: Callable[[Plan], Optional[HelperFailure]],
    *,
    pause: float = PAUSE,
) -> Healing:
    """`make` the heal step of a plan made from a new `look`, again and again; None from `make`: all is done.

    It ends: each round either leaves less to be healed, or uses up one of the `TRIES`.
    """
    later: list[Plan] = []
    step, tries, reason = announced.steps[-1], TRIES, ""
    amount = 0
    while True:
        snapshot = look_again(look, pause=pause)
        table, plan = snapshot.load_table, plan_healing(snapshot)
        ended = Healing(HealOutcome.FAILED, reason, "try again", table, tuple(later))
        if table is None:
            return ended._replace(reason="kernel memory was not read", remedy="lkm heal tries again")
        if plan is None:
            return ended._replace(outcome=HealOutcome.HEALED, reason="nothing dangles any more", remedy="")
        if plan.target != step:
            later.append(plan)
            ended = ended._replace(later_plans=tuple(later))
        refusal = next(refusals(snapshot, plan), None)
        if refusal is not None:
            return ended._replace(reason=refusal.reason, remedy=refusal.remedy)
        if reason and _amount(table) >= amount:
            tries -= 1
        if not tries:
            return ended
        step, amount = plan.target, _amount(table)
        failure = make(plan)
        if failure is not None and failure.outcome not in AGAIN:
            return ended._replace(reason=failure.reason, remedy="see dmesg", after=None)
        reason = failure.reason if failure else describe_table(table)
        if failure is not None:
            time.sleep(pause)


def _amount(table: LoadTable) -> int:
    """How much is to be healed."""
    return len(table.dangling) + len(table.orphans) + table.lock_held
