# SPDX-License-Identifier: MIT
"""Snapshot → Plan of a quarantine: the name is released, the memory stays. Pure.

    1. num_syms, num_gpl_syms = 0: nobody finds its exports any more (find_symbol), nor trips over them
       (verify_exported_symbols)
    2. name = "X.dead1" (find_module)
    3. where init died: refcnt - 2, state = GOING, so that nobody takes a reference (try_module_get)
    4. kobject_rename         /sys/module/X becomes /sys/module/X.dead1
    5. sysfs_rename_link_ns   its links in the holders/ of the modules that it uses, likewise

What can fail comes before what cannot be undone: where the count has changed, or kobject_rename fails, the writes
are undone, and nothing is done. Whoever goes by the name in between (load, removal) waits for module_mutex.

What the kernel does with the module later goes by its address, or by its new name: free_module,
mod_sysfs_teardown, del_usage_links, mod_kobject_put, module_remove_driver (5.10 to 7.3). So an exit, or an init,
that comes back ends as it would have. (kobject_del instead of kobject_rename would end in a NULL pointer then.)
Two things go by the old name, and are refused: a live patch's changes (klp_module_going), and symbol_put.

kobject_rename must not meet a kobject that is being taken apart (its sysfs directory is gone, and kernfs_get_parent
follows that pointer): `sysfs` is checked under the lock, and a task in the load or the removal must be asleep in the
module's own code.
"""

from __future__ import annotations

from typing import Optional

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Diagnosis, FindingCode, Verdict
from lkm.diagnosis.policy import edit_policy_findings
from lkm.diagnosis.references import idle_refcnt
from lkm.diagnosis.verdict import EDITABLE, Decision
from lkm.errors import LkmError
from lkm.names import ModuleName, quarantine_name, quarantine_number
from lkm.rescue.at_work import task_obstacle
from lkm.rescue.complete import complete_plan
from lkm.rescue.edits import Editor
from lkm.rescue.heal_plan import plan_healing_after
from lkm.rescue.plan import Argument, Call, Edit, Plan, Step, StepKind
from lkm.rescue.request import Request
from lkm.system.snapshot import Layout, LoadedModule, ModuleState, RawModule, Snapshot

__all__ = ["free_name", "plan_quarantine"]

REFUSING = (
    FindingCode.POLICY, FindingCode.MUTEX_HELD, FindingCode.UNFORMED, FindingCode.NO_SYSFS, FindingCode.ASYNC_STUCK,
    FindingCode.LIVE_PATCH, FindingCode.LIVE_PATCHED,
)  # fmt: skip
"""What stands in the way here too, in the order in which it is best told."""

USED = (FindingCode.DEPENDENTS, FindingCode.REFERENCED)

STUCK = (
    *EDITABLE, FindingCode.THREAD, FindingCode.INIT_RUNNING, FindingCode.EXIT_RUNNING,
    FindingCode.OPEN_WITHOUT_REFERENCE,
)  # fmt: skip
"""What tells that a live module may never go as others do, when its users have let go."""

LAYOUT = ("kobject", "kobject_name", "sysfs", "holders_dir", "num_syms")
"""What only BTF tells."""

RAW_BASE = 2
"""Raw count of an idle COMING module; that of a GOING one is 0."""


def plan_quarantine(snapshot: Snapshot, name: ModuleName, request: Request) -> Plan:
    """The plan to release `name` and keep its memory. LkmError if it is not loaded.

    A plan is made whatever stands in the way; then its verdict is `refuse`.
    """
    module = snapshot.module(name)
    if module is None:
        raise LkmError(f"{name} is not loaded", remedy="lkm list shows what is")
    step = _plan_step(snapshot, module)
    kept = [f"{item.kind.value} {item.name}" for item in snapshot.registrations if item.module == name]
    healing, warnings = plan_healing_after(snapshot, [step])
    if step.verdict is not Verdict.REFUSE:
        warnings.append(
            f"udev, modprobe or the kernel may load {name} from disk at once: replace the file, or blacklist {name}, "
            "first"
        )
        if diagnose(snapshot, name).verdict is Verdict.SAFE:
            warnings.append(f"lkm rescue {name} would free it, memory and all")
        if kept:
            warnings.append(
                "what it has registered stays its own, and a build that registers the same fails: "
                + ", ".join(kept)
            )
    return complete_plan(snapshot, name, [step, *healing], request, warnings=warnings)


def free_name(snapshot: Snapshot, name: ModuleName) -> ModuleName:
    """`NAME.dead1`, or the first number that no module has."""
    taken = {module.name for module in snapshot.modules} | set(snapshot.builtin)
    number = 1
    while quarantine_name(name, number) in taken:
        number += 1
    return quarantine_name(name, number)


def _plan_step(snapshot: Snapshot, module: LoadedModule) -> Step:
    diagnosis = diagnose(snapshot, module.name)
    new = free_name(snapshot, module.name)
    decision = _obstacle(snapshot, module, diagnosis) or Decision(
        Verdict.LEAKS,
        f"its name, its sysfs entry and its exports are released, its memory stays: it is called {new} then",
        _later(diagnosis, new),
    )
    step = Step(
        module=module.name,
        address=module.address,
        findings=tuple(dict.fromkeys(finding.code.value for finding in diagnosis.findings)),
        verdict=decision.verdict,
        reason=decision.reason,
        remedy=decision.remedy,
        exit_runs=False,
        kind=StepKind.QUARANTINE,
        new_name=new,
        forced="" if decision.verdict is Verdict.REFUSE else _in_use(module, diagnosis),
    )
    layout, raw = snapshot.layout, module.raw
    if decision.verdict is Verdict.REFUSE or layout is None or raw is None or not module.address:
        return step
    dead = diagnosis.has(FindingCode.INIT_DIED)
    return step._replace(
        edits=_edits(Editor(module.address, layout, raw), new, raw, dead=dead),
        after=_calls(snapshot, module, layout, new),
    )


def _in_use(module: LoadedModule, diagnosis: Diagnosis) -> str:
    """That nothing is wrong with it but that it is used; "" where something is."""
    used = [finding for finding in diagnosis.findings if finding.code in USED]
    if module.state is not ModuleState.LIVE or not used or diagnosis.has(*STUCK):
        return ""
    return f"nothing is wrong with it, it is in use: {'; '.join(finding.summary for finding in used)}"


def _later(diagnosis: Diagnosis, new: ModuleName) -> str:
    if diagnosis.has(FindingCode.EXIT_RUNNING, FindingCode.INIT_RUNNING):
        return f"should what it waits for come, {new} goes on and ends as it would have"
    return f"lkm why {new} tells when its memory can be freed, and lkm rescue {new} frees it then"


def _obstacle(snapshot: Snapshot, module: LoadedModule, diagnosis: Diagnosis) -> Optional[Decision]:
    """Why it cannot be done, or need not; None where it can."""
    findings = [*edit_policy_findings(snapshot.policy), *diagnosis.findings]
    for code in REFUSING:
        for finding in findings:
            if finding.code is code:
                return Decision(Verdict.REFUSE, finding.summary, finding.remedy)
    if quarantine_number(module.name):
        return Decision(Verdict.REFUSE, "it is in quarantine", f"lkm why {module.name}")
    if diagnosis.verdict is Verdict.REMOVABLE:
        return Decision(Verdict.REFUSE, "plain removal is sound", f"lkm unload {module.name}")
    return task_obstacle(snapshot, module) or _unknown(snapshot, module) or _got_by_name(module)


def _unknown(snapshot: Snapshot, module: LoadedModule) -> Optional[Decision]:
    """What memory does not tell. (Without a layout or a struct module at all, the gate says why.)"""
    layout, raw = snapshot.layout, module.raw
    if layout is None or raw is None:
        return None
    missing = [field for field in LAYOUT if getattr(layout, field) is None]
    if missing:
        return Decision(
            Verdict.REFUSE,
            f"it is not known where this kernel's struct module has {', '.join(missing)}",
            "a kernel with BTF (CONFIG_DEBUG_INFO_BTF) tells that",
        )
    if raw.kobject_name != module.name or not raw.sysfs:
        return _without_its_kobject(raw)
    for used in _uses(snapshot, module.name):
        if not used.raw or not used.raw.holders_dir:
            return Decision(
                Verdict.REFUSE,
                f"the holders directory of {used.name}, which it uses, is not found in memory",
                f"look again; lkm why {used.name}",
            )
    return None


def _without_its_kobject(raw: RawModule) -> Decision:
    if raw.kobject_name and raw.kobject_name != raw.name:
        return Decision(
            Verdict.REFUSE,
            f"its kobject is called {raw.kobject_name}: somebody has renamed /sys/module/{raw.name}",
            f"that does not pass by itself; see /sys/module/{raw.kobject_name}, and restart when you can",
        )
    what = "has no directory in sysfs" if raw.kobject_name else "has no name that can be read"
    return Decision(
        Verdict.REFUSE,
        f"its kobject {what}: it is being made or taken apart",
        "look again in a moment; if that stays, restart when you can",
    )


def _got_by_name(module: LoadedModule) -> Optional[Decision]:
    """symbol_put looks its symbol up by name, and is a BUG where it finds none (__symbol_put, 5.10 to 7.3): who may
    have got one must still find it."""
    raw = module.raw
    if raw is None or not (raw.num_syms or raw.num_gpl_syms):
        return None
    held = (module.refcnt or 0) - idle_refcnt(module) - len(module.holders)
    if held <= 0:
        return None
    return Decision(
        Verdict.REFUSE,
        f"it exports symbols, and has {held} reference{'' if held == 1 else 's'} beside those of the modules that "
        "use it: got by symbol_get, they are given back by a symbol's name, which is a BUG where it is not found",
        f"lkm why {module.name} tells who holds it; a count that has leaked is put right by lkm rescue {module.name}",
    )


def _uses(snapshot: Snapshot, name: ModuleName) -> list[LoadedModule]:
    """The modules that it uses: those which have it in their holders/."""
    return [module for module in snapshot.modules if name in module.holders]


def _calls(snapshot: Snapshot, module: LoadedModule, layout: Layout, new: ModuleName) -> tuple[Call, ...]:
    kobject = Argument(module.address + (layout.kobject or 0), shown=f"/sys/module/{module.name}")
    old_text, new_text = Argument(text=module.name), Argument(text=new)
    links = [
        Call(
            "sysfs_rename_link_ns",
            snapshot.symbols.get("sysfs_rename_link_ns", 0),
            (
                Argument(used.raw.holders_dir or 0, shown=f"/sys/module/{used.name}/holders"),
                kobject,
                old_text,
                new_text,
                Argument(0),
            ),
        )
        for used in _uses(snapshot, module.name)
        if used.raw
    ]
    rename = Call(
        "kobject_rename",
        snapshot.symbols.get("kobject_rename", 0),
        (kobject, new_text),
        must_return_zero=True,
    )
    return (rename, *links)


def _edits(edit: Editor, new: ModuleName, raw: RawModule, *, dead: bool) -> tuple[Edit, ...]:
    """`dead`: its init died, and nobody but the loader that is gone takes it out of COMING."""
    writes = [*edit.hide_exports(), *edit.rename(new)]
    if dead and raw.refcnt >= RAW_BASE:
        writes.append(edit.change_refcnt(raw.refcnt - RAW_BASE))
    if dead:
        writes.append(edit.change_state(ModuleState.GOING))
    state = [] if dead else [edit.state()]
    return (*state, edit.sysfs(), *writes)
