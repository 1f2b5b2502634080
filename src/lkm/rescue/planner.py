# SPDX-License-Identifier: MIT
"""Snapshot → Plan. Pure. The edits per situation, in the order in which they are written:

    init died (coming)     exports hidden, init = exit = NULL, refcnt = 1, state = LIVE
    exit died (going)      the same
    no exit                init = NULL, so that delete_module does not ask for one; refcnt = 1 if it leaked
    count leaked, corrupt  refcnt = 1; the module's own exit runs

Pointers come first, then refcnt, then state: a LIVE module whose raw count is 0 makes the next removal BUG
(try_release_module_ref). Exports are hidden because a load that waits for one of them would, in the moment
when the module is LIVE, take a reference and build on it (resolve_symbol_wait).
"""

from __future__ import annotations

from lkm.diagnosis.diagnose import diagnose, without_module
from lkm.diagnosis.findings import Diagnosis, FindingCode, Verdict
from lkm.diagnosis.references import removal_order
from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.rescue.clean_up import plan_clean_up
from lkm.rescue.complete import complete_plan
from lkm.rescue.edits import IDLE_RAW, Editor
from lkm.rescue.heal_plan import plan_healing_after
from lkm.rescue.plan import Edit, Plan, Step
from lkm.rescue.quarantine import plan_quarantine
from lkm.rescue.request import Request
from lkm.system.snapshot import Layout, LoadedModule, ModuleState, Snapshot

__all__ = ["plan_rescue"]


def plan_rescue(snapshot: Snapshot, name: ModuleName, request: Request = Request()) -> Plan:  # noqa: B008
    """The plan to remove `name`, with what else is asked for, or to put it in quarantine. LkmError if it is not
    loaded.

    A plan is made for every verdict; the gate decides whether it may be executed.
    """
    if request.quarantine:
        return plan_quarantine(snapshot, name, request)
    order = removal_order(snapshot, name) if request.with_dependents else [name]
    steps: list[Step] = []
    state = snapshot
    for module in order:
        steps += _plan_module(state, module, request if module == name else Request())
        state = without_module(state, module)
    healing, warnings = plan_healing_after(snapshot, steps)
    return complete_plan(snapshot, name, [*steps, *healing], request, warnings=warnings)


def _plan_module(snapshot: Snapshot, name: ModuleName, request: Request) -> list[Step]:
    module = snapshot.module(name)
    if module is None:
        raise LkmError(f"{name} is not loaded", remedy="lkm list shows what is")
    diagnosis = diagnose(snapshot, name)
    clean_up = plan_clean_up(snapshot, module, diagnosis, request, _identity(snapshot.layout, module))
    removal = Step(
        module=name,
        address=module.address,
        findings=tuple(dict.fromkeys(finding.code.value for finding in diagnosis.findings)),
        verdict=diagnosis.verdict or Verdict.REFUSE,
        reason=diagnosis.reason,
        remedy=diagnosis.remedy,
        exit_runs=diagnosis.exit_runs,
        edits=_plan_edits(snapshot.layout, module, diagnosis),
    )
    return [clean_up, removal] if clean_up else [removal]


def _identity(layout: Layout | None, module: LoadedModule) -> list[Edit]:
    """That the module is still the one that was diagnosed."""
    if layout is None or module.raw is None or not module.address:
        return []
    edit = Editor(module.address, layout, module.raw)
    return [*edit.identity(), *edit.unchanged([])]


def _plan_edits(layout: Layout | None, module: LoadedModule, diagnosis: Diagnosis) -> tuple[Edit, ...]:
    """None where plain removal is sound, where nothing is, and where the gate will say what is missing."""
    raw = module.raw
    if diagnosis.verdict is Verdict.REFUSE or layout is None or raw is None or not module.address:
        return ()
    edit = Editor(module.address, layout, raw)
    dead = diagnosis.has(FindingCode.INIT_DIED, FindingCode.EXIT_DIED)
    if dead:
        writes = [
            *edit.hide_exports(),
            *edit.clear_exit(),
            *edit.clear_init(),
            edit.change_refcnt(IDLE_RAW),
            edit.change_state(ModuleState.LIVE),
        ]
    else:
        writes = edit.clear_init() if diagnosis.has(FindingCode.NO_EXIT) else []
        if diagnosis.has(FindingCode.UNEXPLAINED_REFERENCES, FindingCode.REFCNT_CORRUPT):
            writes.append(edit.change_refcnt(IDLE_RAW))
    if not writes:
        return ()
    return (*edit.identity(), *edit.unchanged(writes), *writes)
