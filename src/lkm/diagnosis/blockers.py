# SPDX-License-Identifier: MIT
"""The findings that are not about the count: state, exit, asynchronous calls, registrations."""

from __future__ import annotations

from lkm.diagnosis.activity import Activity, Role, waits_for
from lkm.diagnosis.events import event_of
from lkm.diagnosis.findings import Certainty, Finding, FindingCode, Holder, HolderKind
from lkm.diagnosis.references import idle_refcnt
from lkm.diagnosis.way_on import or_quarantine
from lkm.names import MAX_NAME, ModuleName, quarantine_number
from lkm.system.snapshot import AsyncEntry, LoadedModule, ModuleState, RegistrationKind, Snapshot, Task

__all__ = [
    "async_findings", "exit_findings", "live_patch_findings", "machine_findings", "not_loaded_finding",
    "registered_findings", "state_findings", "unseen_findings", "waiter_findings",
]  # fmt: skip


def not_loaded_finding(snapshot: Snapshot, name: ModuleName) -> Finding:
    """An absent module is a finding: whoever asks wants to know what the name is."""
    if name in snapshot.builtin:
        return Finding(
            FindingCode.NOT_LOADED,
            f"{name} is built into the kernel: it cannot be unloaded",
            evidence=(f"modules.builtin of {snapshot.release}",),
            remedy="nothing to do",
        )
    return Finding(
        FindingCode.NOT_LOADED,
        f"{name} is not loaded",
        evidence=(f"no /sys/module/{name}/initstate",),
        remedy="nothing to unload; lkm list shows what is loaded",
    )


def machine_findings(snapshot: Snapshot) -> list[Finding]:
    """What stands in the way of every removal on this machine: module_mutex held for good."""
    mutex = snapshot.module_mutex
    if mutex is None or not mutex.held:
        if not snapshot.proc_modules_error.startswith("module_mutex"):
            return []
        evidence, owner = snapshot.proc_modules_error, "somebody"
    elif mutex.owner_pid is None:
        evidence, owner = "module_mutex.owner is a task that is gone, at every sample", "a dead task"
    else:
        owner = f"{mutex.owner_command} (pid {mutex.owner_pid})"
        evidence = f"module_mutex.owner is {owner} at every sample"
    return [
        Finding(
            FindingCode.MUTEX_HELD,
            f"module_mutex is held by {owner}: every load and removal hangs, a helper's load too",
            evidence=(evidence,),
            remedy="nothing can be loaded or unloaded until the machine is restarted"
            if owner == "a dead task"
            else f"wait for {owner} to let go, then look again",
        )
    ]


def state_findings(module: LoadedModule, activity: Activity) -> list[Finding]:
    """`init-died`, `init-running`, `exit-died`, `exit-running`, `unformed`, `no-sysfs`."""
    findings = []
    if module.state is ModuleState.COMING:
        findings.append(_init_finding(module, activity))
    elif module.state is ModuleState.GOING:
        findings.append(_exit_finding(module, activity))
    elif module.state is ModuleState.UNFORMED:
        findings.append(_unformed_finding(activity))
    elif activity.by(Role.REMOVER):
        findings.append(_exit_finding(module, activity))
    elif _still_loading(module, activity):
        findings.append(_init_finding(module, activity))
    if quarantine_number(module.name):
        findings.append(_quarantined_finding(module))
    if not module.in_sysfs and module.state is not ModuleState.UNFORMED:
        findings.append(
            Finding(
                FindingCode.NO_SYSFS,
                "its sysfs entry was never made: a removal would wait for it for ever (mod_kobject_put)",
                evidence=(f"no /sys/module/{module.name}/sections",),
                remedy="its load died too early to be undone; only a restart frees the name",
            )
        )
    return findings


def _still_loading(module: LoadedModule, activity: Activity) -> bool:
    """A LIVE module may have its loader still: do_init_module sets the state, then waits for asynchronous calls,
    and gives the reference of the load back last."""
    held = module.refcnt != idle_refcnt(module)
    return bool(activity.by(Role.LOADER) or (held and activity.by(Role.MAYBE_LOADER)))


def _init_finding(module: LoadedModule, activity: Activity) -> Finding:
    live = activity.by(Role.LOADER)
    perhaps = activity.by(Role.MAYBE_LOADER)
    if live or perhaps:
        task = (live or perhaps)[0]
        return Finding(
            FindingCode.INIT_RUNNING,
            f"its init is still running, in {_who(task)}" + ("" if live else ", perhaps"),
            evidence=_stack_lines(task),
            remedy=f"wait for pid {task.tid}; see what it waits for in /proc/{task.tid}/stack"
            + or_quarantine(module.name),
            certainty=Certainty.CERTAIN if live else Certainty.POSSIBLE,
            holders=(_task_holder(task),),
        )
    return Finding(
        FindingCode.INIT_DIED,
        "its init never finished, and no live task is in its load: the loader died",
        evidence=(f"/sys/module/{module.name}/initstate: coming", "no live task with its load on the stack"),
        remedy=f"lkm rescue {module.name} removes it without its exit; dmesg has the oops",
    )


def _exit_finding(module: LoadedModule, activity: Activity) -> Finding:
    """A load whose init has failed takes its module out by itself: it is GOING, and its loader is at it."""
    going = module.state is ModuleState.GOING
    live = activity.by(Role.REMOVER, Role.LOADER, Role.WAITER) if going else activity.by(Role.REMOVER)
    perhaps = activity.by(Role.MAYBE_REMOVER, Role.MAYBE_LOADER) if going else ()
    if live or perhaps:
        task = (live or perhaps)[0]
        return Finding(
            FindingCode.EXIT_RUNNING,
            f"its removal is in progress, in {_who(task)}" + ("" if live else ", perhaps"),
            evidence=_stack_lines(task),
            remedy=f"make true what it waits for (the top of /proc/{task.tid}/stack); "
            "while it lives nothing else is sound" + or_quarantine(module.name),
            certainty=Certainty.CERTAIN if live else Certainty.POSSIBLE,
            holders=(_task_holder(task),),
        )
    return Finding(
        FindingCode.EXIT_DIED,
        f"its {'init or ' if quarantine_number(module.name) else ''}exit died, and no live task is in its removal",
        evidence=(
            f"/sys/module/{module.name}/initstate: going",
            "no live task with its removal on the stack",
        ),
        remedy=f"lkm rescue {module.name} removes it without calling its exit again; dmesg has the oops",
    )


def _quarantined_finding(module: LoadedModule) -> Finding:
    former = module.name.rpartition(".")[0]
    if len(module.name.encode()) == MAX_NAME:
        former = f"which begins with {former}"
    return Finding(
        FindingCode.QUARANTINED,
        f"it is in quarantine: its former name, {former}, and its exports were released, and its memory kept",
        evidence=(f"its name, {module.name}",),
        remedy=f"once nothing runs in it and nothing points to it any more, lkm rescue {module.name} frees it",
    )


def _unformed_finding(activity: Activity) -> Finding:
    tasks = activity.by(Role.LOADER, Role.REMOVER, Role.WAITER, Role.MAYBE_LOADER, Role.MAYBE_REMOVER)
    whose = f": {_who(tasks[0])} is at it" if tasks else ""
    return Finding(
        FindingCode.UNFORMED,
        f"it is being set up or taken apart{whose}; no edit is sound in this state",
        evidence=("in the kernel's list in state UNFORMED, which /proc/modules leaves out",)
        + (_stack_lines(tasks[0]) if tasks else ()),
        remedy=f"wait for pid {tasks[0].tid}, or end it"
        if tasks
        else "look again; if it stays, only a restart helps",
        holders=tuple(_task_holder(task) for task in tasks),
    )


def waiter_findings(module: LoadedModule, activity: Activity) -> list[Finding]:
    """Loads that wait for this one: neither its loader nor its remover, but they wake when it changes. One
    that waits while it makes this module itself is told with the state."""
    if module.state in (ModuleState.UNFORMED, ModuleState.GOING):
        return []
    return [
        Finding(
            FindingCode.WAITER,
            f"{_who(task)} waits for {waits_for(task, module)}"
            + (f", to load {task.subject}" if task.subject and task.subject != module.name else ""),
            evidence=_stack_lines(task),
            remedy=f"it gives up by itself, or end pid {task.tid}; a rescue hides the exports from it",
            holders=(_task_holder(task),),
        )
        for task in activity.by(Role.WAITER)
    ]


def exit_findings(module: LoadedModule) -> list[Finding]:
    """`no-exit`: init but no exit function, shown as [permanent]."""
    if module.state is not ModuleState.LIVE or not module.permanent:
        return []
    return [
        Finding(
            FindingCode.NO_EXIT,
            "it has no exit function ([permanent])",
            evidence=("/proc/modules: [permanent]",),
            remedy=f"lkm rescue {module.name} removes it without one; "
            "if its source has one, it was built with the wrong headers",
        )
    ]


def async_findings(snapshot: Snapshot) -> list[Finding]:
    """`async-stuck`: every removal waits for all asynchronous calls (async_synchronize_full), whose ever."""
    stuck = [entry for entry in snapshot.async_entries if not entry.running]
    return [
        Finding(
            FindingCode.ASYNC_STUCK,
            f"the asynchronous call {entry.function}{_of(entry)} never ended: "
            "every removal, of whatever module, would wait for it for ever",
            evidence=("async_global_pending in kernel memory", "no live worker is in async_run_entry_fn"),
            remedy="no edit of a module repairs that; restart when you can",
        )
        for entry in stuck
    ]


def registered_findings(snapshot: Snapshot, module: LoadedModule) -> list[Finding]:
    """`registered`: what the kernel's tables hold on the module's behalf, one finding each."""
    return [
        Finding(
            FindingCode.REGISTERED,
            f"{item.kind.value} {item.name}",
            evidence=(item.source,) + ((item.detail,) if item.detail else ()),
            remedy=item.detail
            if item.kind is RegistrationKind.TRACE_EVENT
            else "its own exit takes that away, where it can run",
            certainty=Certainty.CERTAIN if item.certain else Certainty.LIKELY,
            event=event_of(item),
        )
        for item in snapshot.registrations
        if item.module == module.name
    ]


def live_patch_findings(module: LoadedModule) -> list[Finding]:
    """`live-patch`: it is one, and enabled, so that the kernel runs its code and holds its reference for that
    (klp_enable_patch). `live-patched`: one changes it; a removal undoes that by the module's name (klp_module_going,
    klp_cleanup_module_patches_limited, 5.10 to 7.3)."""
    return [
        Finding(
            FindingCode.LIVE_PATCH if patch == module.name else FindingCode.LIVE_PATCHED,
            "it is an enabled live patch: its code runs in place of what it patches"
            if patch == module.name
            else f"the live patch {patch} has changes for it",
            evidence=(f"/sys/kernel/livepatch/{patch}{'' if patch == module.name else f'/{module.name}'}",),
            remedy=f"disable the patch first: echo 0 >/sys/kernel/livepatch/{patch}/enabled"
            if patch == module.name
            else "a removal undoes them by itself; for a quarantine disable the patch first: "
            f"echo 0 >/sys/kernel/livepatch/{patch}/enabled",
        )
        for patch in module.live_patches
    ]


def unseen_findings(snapshot: Snapshot) -> list[Finding]:
    """`unseen`: who could be in the way was not looked for, on a machine that is too busy, or without root."""
    if not snapshot.unread:
        return []
    evidence = tuple(f"{unread.reader.value}: {unread.why}" for unread in snapshot.unread)
    return [
        Finding(
            FindingCode.UNSEEN,
            f"not all was seen that could be in the way: {evidence[0]}",
            evidence=evidence,
            remedy="look again as root, when the machine is less busy",
        )
    ]


def _of(entry: AsyncEntry) -> str:
    return f" [{entry.module}]" if entry.module else ""


def _who(task: Task) -> str:
    return f"{task.command} (pid {task.tid})"


def _task_holder(task: Task) -> Holder:
    return Holder(
        HolderKind.THREAD,
        _who(task),
        f"wait for pid {task.tid}",
        pid=task.tid,
        command=task.command_line or task.command,
        state=task.state,
    )


def _stack_lines(task: Task) -> tuple[str, ...]:
    frames = [f"{f.symbol}+{f.offset:#x}{f' [{f.module}]' if f.module else ''}" for f in task.stack[:6]]
    return (f"/proc/{task.tid}/stack: {' < '.join(frames)}",) if frames else (f"/proc/{task.tid}/syscall",)
