# SPDX-License-Identifier: MIT
"""Repair what a load that died left in the kernel's table of files being loaded (finit_module, since 6.5)."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lkm.cli.arguments import add_plan_options
from lkm.cli.ending import render_ending
from lkm.cli.heal_step import render_heal_step
from lkm.cli.render import plain, wants_colour
from lkm.cli.signing import add_signing_options, read_signer
from lkm.rescue.heal import HealOutcome, HealResult, heal
from lkm.rescue.record import default_heal_record_path
from lkm.root import Root
from lkm.system.snapshot import LoadTable
from lkm.values import encode

__all__ = ["configure", "run"]

SCHEMA = "lkm.heal/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm heal`."""
    add_plan_options(parser)
    add_signing_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Heal; 0: healed, or nothing to heal, 1: it failed, 3: refused, 4: root would help."""
    root = Root.live()
    result = heal(
        root,
        record=arguments.record or default_heal_record_path(),
        signer=read_signer(arguments, root),
        dry_run=arguments.dry_run,
    )
    if arguments.json:
        print(json.dumps(_as_object(result), indent=1))
    else:
        print("\n".join(_render(result, colour=wants_colour(sys.stdout))))
    if result.outcome is HealOutcome.REFUSED:
        return 4 if result.needs_root else 3
    return 0 if result.outcome.ok else 1


def _as_object(result: HealResult) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "remedy": result.remedy,
        "plan": result.plan.to_object() if result.plan else None,
        "before": encode(result.before),
        "after": encode(result.after),
        "proof": [check._asdict() for check in result.proof],
        "later_plans": [plan.to_object() for plan in result.later_plans],
        "kernel_messages": [{"level": line.level, "text": line.text} for line in result.kernel_messages],
        "record": result.record,
    }


def _render(result: HealResult, *, colour: bool) -> list[str]:
    lines = _render_table(result.before) if result.before else []
    for plan in [*([result.plan] if result.plan else []), *result.later_plans]:
        lines += ["plan:", *render_heal_step(plan.target), *(f"  note: {note}" for note in plan.warnings)]
    return lines + render_ending(result, colour=colour)


def _render_table(table: LoadTable) -> list[str]:
    lines = [
        f"before: idem_hash[{bucket.number}] leads to the entry at {bucket.dead:#x}, which is no live task's"
        for bucket in table.dangling
    ]
    lines += [
        f"  pid {node.pid} ({plain(node.command)}): {node.role.value}, in bucket {node.bucket}"
        for node in table.nodes
    ]
    if table.lock_held:
        lines.append(f"before: idem_lock is held at every look ({table.lock_word:#x})")
    return lines
