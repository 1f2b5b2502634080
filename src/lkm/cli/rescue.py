# SPDX-License-Identifier: MIT
"""Get a stuck module out without a reboot: diagnosis, plan, gate, conditional edits, removal, proof.

The plan is shown first, and every edit is made only if the old value is the expected one. What is refused is
refused with its reason and the way on.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lkm.cli.arguments import add_plan_options, named_module, seconds
from lkm.cli.ending import render_ending
from lkm.cli.files import read_named_file
from lkm.cli.heal_step import healing_as_object, render_heal_step
from lkm.cli.render import plain, wants_colour
from lkm.cli.scan_progress import ScanProgress
from lkm.cli.signing import add_signing_options, read_signer
from lkm.cli.why import as_object
from lkm.diagnosis.findings import Verdict
from lkm.errors import UsageError
from lkm.names import ModuleName
from lkm.rescue.plan import Plan, StepKind
from lkm.rescue.record import default_record_path
from lkm.rescue.request import Request, parse_call
from lkm.rescue.rescue import plan_only, rescue
from lkm.rescue.result import Options, Outcome, RescueResult
from lkm.root import Root

__all__ = ["configure", "exit_code", "read_plan", "render_result", "result_as_object", "run"]

SCHEMA = "lkm.rescue/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm rescue`."""
    parser.add_argument("name", metavar="NAME", help="the module to get out")
    add_plan_options(parser)
    parser.add_argument("--plan", metavar="FILE", help="do what --dry-run --json printed, if it still fits")
    parser.add_argument("--force", action="store_true", help="accept the verdict crash: the event will come")
    parser.add_argument("--with-dependents", action="store_true", help="first remove the modules that use it")
    parser.add_argument(
        "--call",
        metavar="CALL",
        action="append",
        default=[],
        help="before the removal call a kernel function: 'misc_deregister(&my_misc)' with an address, "
        "'kfree(*my_buffer)' with the value there; repeatable, in order",
    )
    parser.add_argument(
        "--run-exit", action="store_true", help="call the module's own exit, where its removal would not"
    )
    parser.add_argument(
        "--exit-wait", metavar="S", type=seconds, default=10.0, help="seconds that an exit may take (10)"
    )
    add_signing_options(parser)
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Rescue, or plan; 0: it is gone, 1: it failed, 3: refused, 4: root would help."""
    name = named_module(arguments.name)
    options = Options(
        request=_request(arguments),
        force=arguments.force,
        recorded=read_plan(arguments.plan, name) if arguments.plan else None,
        record=arguments.record or default_record_path(name),
        exit_seconds=arguments.exit_wait,
        signer=read_signer(arguments, Root.live()),
    )
    progress = ScanProgress()
    options = options._replace(progress=progress)
    try:
        result = (plan_only if arguments.dry_run else rescue)(Root.live(), name, options)
    finally:
        progress.end()
    if arguments.json:
        print(json.dumps(result_as_object(result, schema=SCHEMA), indent=1))
    else:
        print("\n".join(render_result(result, colour=wants_colour(sys.stdout))))
    return exit_code(result)


def _request(arguments: argparse.Namespace) -> Request:
    request = Request(arguments.with_dependents, tuple(arguments.call), arguments.run_exit)
    if arguments.plan and request != Request():
        raise UsageError(
            "--plan has its own calls and dependents",
            remedy="leave --call, --run-exit, --with-dependents out",
        )
    for call in request.calls:
        parse_call(call)
    return request


def exit_code(result: RescueResult) -> int:
    """0: done, 1: it failed, 3: refused, 4: refused, and root would help."""
    if result.outcome.ok:
        return 0
    if result.outcome is Outcome.REFUSED:
        return 4 if result.needs_root else 3
    return 1


def read_plan(path: str, module: ModuleName, *, quarantine: bool = False) -> Plan:
    """A recorded plan for `module`. UsageError for a plan for another one, or of another kind."""
    plan = Plan.from_json(read_named_file(path, remedy="make a plan with --dry-run --json"), name=path)
    if plan.module != module:
        raise UsageError(f"{path} is a plan for {plan.module}, not for {module}")
    if plan.request.quarantine is not quarantine:
        command = "quarantine" if plan.request.quarantine else "rescue"
        raise UsageError(f"{path} is a plan of lkm {command}", remedy=f"lkm {command} {module} --plan {path}")
    return plan


def result_as_object(result: RescueResult, *, schema: str) -> dict[str, Any]:
    """The JSON object of a rescue, or of what is done as one."""
    return {
        "schema": schema,
        "module": result.module,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "remedy": result.remedy,
        "plan": result.plan.to_object() if result.plan else None,
        "differs": list(result.differs),
        "before": as_object(result.before),
        "after": as_object(result.after) if result.after else None,
        "proof": [check._asdict() for check in result.proof],
        "later_plans": [plan.to_object() for plan in result.later_plans],
        "heal": healing_as_object(result.heal),
        "kernel_messages": [{"level": line.level, "text": line.text} for line in result.kernel_messages],
        "record": result.record,
    }


def render_result(result: RescueResult, *, colour: bool) -> list[str]:
    """What was found, planned, done and proved, as lines of text."""
    lines = []
    before = result.before
    if before.state is not None:
        lines.append(f"before: {before.module} is {before.state}, refcnt {before.refcnt}")
        lines += [f"  {finding.code.value}: {plain(finding.summary)}" for finding in before.findings]
        lines += [f"  not scanned: {plain(item)}" for item in before.not_scanned]
    for plan in [*([result.plan] if result.plan else []), *result.later_plans]:
        lines += _render_plan(plan)
    lines += [f"differs: {line}" for line in result.differs]
    return lines + render_ending(result, colour=colour)


def _render_plan(plan: Plan) -> list[str]:
    lines = [f"plan: verdict {plan.verdict.value}"]
    for step in plan.steps:
        if step.kind is StepKind.HEAL:
            lines += render_heal_step(step)
            continue
        lines.append(f"  {step.module}: {plain(step.reason)}")
        if step.verdict is Verdict.REFUSE:
            lines.append("    nothing is done")
            continue
        lines += [f"    call {plain(str(call))}" for call in step.before]
        lines += [f"    write {edit}" for edit in step.writes]
        lines += [f"    call {plain(str(call))}" for call in step.after]
        if step.kind is not StepKind.REMOVE:
            continue
        lines.append(
            f"    delete_module({step.module}), its exit {'runs' if step.exit_runs else 'is not called'}"
        )
    return lines + [f"  note: {warning}" for warning in plan.warnings]
