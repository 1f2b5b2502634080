# SPDX-License-Identifier: MIT
"""The step that heals the kernel's table of files being loaded, as text."""

from __future__ import annotations

from typing import Any, Optional

from lkm.cli.render import plain
from lkm.diagnosis.findings import Verdict
from lkm.rescue.heal import Healing
from lkm.rescue.plan import Lock, Step
from lkm.values import encode

__all__ = ["healing_as_object", "render_heal_step"]


def healing_as_object(healing: Optional[Healing]) -> Optional[dict[str, Any]]:
    """What came of the step, for JSON; None where there was none."""
    if healing is None:
        return None
    return {
        "outcome": healing.outcome.value,
        "reason": healing.reason,
        "remedy": healing.remedy,
        "after": encode(healing.after),
        "later_plans": [plan.to_object() for plan in healing.later_plans],
    }


def render_heal_step(step: Step) -> list[str]:
    """What it is for, its writes and calls, and the lock that they are made under."""
    lines = [f"  idem_hash: {plain(step.reason)}"]
    if step.verdict is Verdict.REFUSE:
        return [*lines, "    nothing is done"]
    how = {
        Lock.NONE: ", which its dead holder still has",
        Lock.IDEM_LOCK_INLINE: ", which the helper takes itself",
    }
    lines.append(f"    under {Lock.IDEM_LOCK.symbol}{how.get(step.lock, '')}:")
    lines += [f"    write {edit}" for edit in step.writes]
    return lines + [f"    call {call}" for call in step.after]
