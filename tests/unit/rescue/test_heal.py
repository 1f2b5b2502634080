# SPDX-License-Identifier: MIT
"""`heal` where there is nothing to read, and how its answers are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.cli.heal_step import healing_as_object, render_heal_step
from lkm.rescue.heal import Healing, HealOutcome, heal
from lkm.rescue.heal_plan import plan_heal
from lkm.rescue.plan import Lock
from tests.unit.rescue.test_heal_plan import dead_load, planned, snapshot_of
from tests.unit.system.loads import Loads
from tests.unit.system.trees import Tree


def test_without_kernel_memory_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/modules", "demo 16384 0 - Live 0x0\n")
    result = heal(tree.root, record=str(tmp_path / "record.json"))
    assert result.outcome is HealOutcome.REFUSED
    assert "kernel memory was not read" in result.reason
    assert result.plan is None
    assert not (tmp_path / "record.json").exists()


def test_a_step_is_shown_with_its_lock_writes_and_calls() -> None:
    loads = Loads()
    node = dead_load(loads, 50, 7)
    lines = render_heal_step(planned(loads))
    assert lines[0].endswith("dangles in idem_hash (bucket 7)")
    assert lines[1:] == [
        "    under idem_lock:",
        f"    write idem_hash[7] at {loads.table + 56:#x}: {node + 8:#x} → 0x0",
    ]


def test_a_lock_that_the_helper_takes_itself_is_shown() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    step = planned(loads)._replace(lock=Lock.IDEM_LOCK_INLINE)
    assert render_heal_step(step)[1] == "    under idem_lock, which the helper takes itself:"


def test_a_dead_lock_and_its_release_are_shown() -> None:
    loads = Loads()
    loads.kernel.put(loads.kernel.symbols["idem_lock"], 1)
    step = planned(loads)
    assert step.lock is Lock.NONE
    text = "\n".join(render_heal_step(step))
    assert "which its dead holder still has" in text
    assert "call copy_to_kernel_nofault(idem_lock = 0x" in text


def test_what_is_refused_writes_nothing_and_says_so() -> None:
    loads = Loads()
    dead_load(loads, 50, 7)
    step = plan_heal(snapshot_of(loads, preempt_rt=True))
    assert step is not None
    assert render_heal_step(step)[-1] == "    nothing is done"


def test_what_came_of_it_is_an_object_or_none() -> None:
    assert healing_as_object(None) is None
    shown = healing_as_object(Healing(HealOutcome.FAILED, "why", "do that"))
    assert json.loads(json.dumps(shown)) == {
        "outcome": "failed", "reason": "why", "remedy": "do that", "after": None, "later_plans": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "done"), [(each, each.value in {"nothing", "planned", "healed"}) for each in HealOutcome]
)
def test_refused_and_failed_are_not_what_was_asked_for(outcome: HealOutcome, done: bool) -> None:
    assert outcome.ok is done
