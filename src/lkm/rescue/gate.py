# SPDX-License-Identifier: MIT
"""The gate: whether a plan may be executed on this machine. Each refusal has its reason and the way on. Pure.

Policy is a finding (`lkm.diagnosis.policy`), so its verdict is `refuse`, which nothing here overrides. `force`
opens only what is the caller's to decide: a crash that was announced, and a quarantine of what is in use and not
stuck.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lkm.diagnosis.blockers import unseen_findings
from lkm.diagnosis.findings import Verdict
from lkm.diagnosis.policy import edit_policy_findings
from lkm.diagnosis.verdict import REFUSING
from lkm.diagnosis.way_on import or_quarantine
from lkm.rescue.complete import needed_symbols
from lkm.rescue.helper import MACHINES
from lkm.rescue.plan import Plan, Step, StepKind
from lkm.system.snapshot import LoadedModule, Policy, Snapshot

__all__ = ["Refusal", "refusals"]


class Refusal(NamedTuple):
    """Why not, and what to do instead. `needs_root`: as root it could be otherwise."""

    reason: str
    remedy: str
    needs_root: bool = False


def refusals(snapshot: Snapshot, plan: Plan, *, force: bool = False) -> Iterator[Refusal]:
    """Why `plan` may not be executed, the most basic reason first. `force` accepts a verdict `crash`, and
    what a step says of itself."""
    yield from _privilege(snapshot.policy, plan.target.kind)
    yield from _verdicts(plan, force=force)
    if plan.needs_helper:
        yield from _helper_policy(snapshot, plan)
    if plan.needs_helper or any(_wants_edits(step) for step in plan.steps):
        yield from _architecture(snapshot)
        yield from _sibling(snapshot)
        yield from _layout(snapshot)
        for step in plan.steps:
            if step.kind is not StepKind.HEAL:
                yield from _target(snapshot, step)
        yield from _symbols(plan)


def _privilege(policy: Policy, kind: StepKind) -> Iterator[Refusal]:
    if policy.euid != 0 or policy.cap_sys_module is False:
        what = kind.value if kind in (StepKind.QUARANTINE, StepKind.HEAL) else "rescue"
        yield Refusal(f"a {what} needs root with CAP_SYS_MODULE", "run it as root", needs_root=True)


def _verdicts(plan: Plan, *, force: bool) -> Iterator[Refusal]:
    cleaned = {step.module for step in plan.steps if step.kind is StepKind.CLEAN_UP}
    for step in plan.steps:
        if step.kind is StepKind.REMOVE and step.module in cleaned and not _stands(step):
            continue  # judged again after the calls, which may take it away
        if step.verdict is Verdict.REFUSE:
            yield Refusal(f"{step.module}: {step.reason}" if step.module else step.reason, step.remedy)
        elif step.verdict is Verdict.CRASH and not force:
            yield Refusal(
                f"{step.module}: after its removal {step.reason}",
                "take it away first, or accept that with --force" + or_quarantine(step.module),
            )
        elif step.forced and not force:
            yield Refusal(
                f"{step.module}: {step.forced}", f"lkm why {step.module}; or accept that with --force"
            )


def _helper_policy(snapshot: Snapshot, plan: Plan) -> Iterator[Refusal]:
    """What forbids a helper, also where nothing is to be edited: clean-up calls need one too."""
    for finding in edit_policy_findings(snapshot.policy):
        yield Refusal(finding.summary, finding.remedy)
    if any(step.kind is StepKind.CLEAN_UP for step in plan.steps):
        for finding in unseen_findings(snapshot):
            yield Refusal(finding.summary, finding.remedy)


def _stands(step: Step) -> bool:
    """Whether something refuses the removal that no clean-up call takes away."""
    refusing = {code.value for code in REFUSING}
    return step.verdict is Verdict.REFUSE and bool(refusing & set(step.findings))


def _wants_edits(step: Step) -> bool:
    return step.verdict in (Verdict.SAFE, Verdict.LEAKS) or (
        step.verdict is Verdict.CRASH and not step.exit_runs
    )


def _architecture(snapshot: Snapshot) -> Iterator[Refusal]:
    if snapshot.machine not in MACHINES:
        yield Refusal(
            f"there is no helper for {snapshot.machine}, only for {', '.join(MACHINES)}",
            "diagnosis and plain removal work here too",
        )
    sibling = snapshot.sibling
    if snapshot.policy.cfi or (snapshot.policy.cfi is None and sibling is not None and sibling.cfi):
        yield Refusal(
            "this kernel checks the type of every function that it calls by pointer (CONFIG_CFI), and the helper's "
            "init carries no such type",
            "restart when you can",
        )


def _sibling(snapshot: Snapshot) -> Iterator[Refusal]:
    sibling = snapshot.sibling
    if sibling is None:
        yield Refusal(
            f"no module file of this kernel to go by: {snapshot.layout_error or 'none found'}",
            f"install the package of the running kernel ({snapshot.release})",
        )
        return
    if not sibling.intree:
        yield Refusal(f"{sibling.path} is no in-tree module", "install the package of the running kernel")
    if sibling.build_matches is False:
        yield Refusal(
            f"{sibling.path} belongs to another build of {snapshot.release} than the one that runs",
            "install the package of the running build, or restart into the installed one",
        )


def _layout(snapshot: Snapshot) -> Iterator[Refusal]:
    layout = snapshot.layout
    if layout is None:
        yield Refusal(
            f"the layout of struct module is not known: {snapshot.layout_error or 'no source'}",
            "as root, with kernel.kptr_restrict at 1 or 0 and the kernel's module files installed",
        )
        return
    if layout.disagreement:
        yield Refusal(
            f"sibling and BTF disagree: {layout.disagreement}", "do not edit a kernel that is not understood"
        )
    failed = [proof for proof in layout.proofs if not proof.holds]
    if failed:
        yield Refusal(
            f"the layout does not hold for {failed[0].module}: {failed[0].detail}",
            "do not edit a kernel that is not understood",
        )
    elif not layout.proofs:
        yield Refusal(
            "the layout could not be proved on any live module" + _because(snapshot),
            "load a small in-tree module, or set kernel.kptr_restrict to 1 or 0, and try again",
        )


def _because(snapshot: Snapshot) -> str:
    return f" ({snapshot.layout_error})" if snapshot.layout_error else ""


def _symbols(plan: Plan) -> Iterator[Refusal]:
    calls = [call for step in plan.steps for call in (*step.before, *step.after)]
    missing = [
        *(name for name in needed_symbols(plan.steps) if not plan.symbols.get(name)),
        *dict.fromkeys(call.function for call in calls if not call.address),
    ]
    if missing:
        yield Refusal(
            f"/proc/kallsyms hides the address of {', '.join(missing)}",
            "set kernel.kptr_restrict to 1 or 0 and try again",
        )


def _target(snapshot: Snapshot, step: Step) -> Iterator[Refusal]:
    module = snapshot.module(step.module)
    if module is None:
        yield Refusal(f"{step.module} is not loaded any more", "nothing to do")
        return
    if not module.in_sysfs:
        yield Refusal(
            f"{step.module} has no sysfs entry: its removal would wait for ever", "restart when you can"
        )
    if module.raw is None or not module.address:
        yield Refusal(
            f"{step.module}: its struct module cannot be read" + _because(snapshot),
            "be root, and set kernel.kptr_restrict to 1 or 0",
        )
        return
    if module.raw.name != step.module:
        yield Refusal(
            f"at {module.address:#x} stands {module.raw.name!r}, not {step.module}",
            "do not edit a kernel that is not understood",
        )
    if step.hides_exports and module.exports and module.raw.num_syms is None:
        yield Refusal(
            f"{step.module} exports {module.exports[0]}, and it is not known where they are counted: a load "
            "that waits for it could build on it",
            "restart when you can; a kernel with BTF tells that",
        )
    yield from _stray_edits(snapshot, module, step)


def _stray_edits(snapshot: Snapshot, module: LoadedModule, step: Step) -> Iterator[Refusal]:
    size = snapshot.layout.size if snapshot.layout else 0
    for edit in step.writes:
        if not module.address <= edit.address <= module.address + size - edit.width:
            yield Refusal(
                f"the edit of {edit.field} at {edit.address:#x} is outside of {step.module}'s struct module",
                "make a new plan",
            )
