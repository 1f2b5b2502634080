# SPDX-License-Identifier: MIT
"""Who holds a module's references: the arithmetic of the count, and the holders that can be named."""

from __future__ import annotations

from lkm.diagnosis.activity import Activity, Role
from lkm.diagnosis.findings import Certainty, Finding, FindingCode, Holder, HolderKind
from lkm.names import ModuleName
from lkm.system.snapshot import (
    LoadedModule,
    ModuleState,
    Mount,
    OpenFile,
    RegistrationKind,
    Snapshot,
    Task,
)

__all__ = [
    "dependent_holders",
    "idle_refcnt",
    "is_corrupt",
    "named_holders",
    "reference_findings",
    "removal_order",
]

ABSURD = 1_000_000
"""No machine has this many users of one module without showing one of them."""

_MOST = {HolderKind.OPEN_FILE: 2, HolderKind.USERS: 2}
"""References that one such holder may have: an open character device has two (chrdev_open takes one by
cdev_get and one by fops_get), and so has an AF_ALG socket."""

IDLE = {ModuleState.LIVE: 0, ModuleState.COMING: 1, ModuleState.GOING: -1, ModuleState.UNFORMED: 0}


def idle_refcnt(module: LoadedModule) -> int:
    """The count shown when nobody uses the module: the base is 1, a load holds one more, a removal takes the
    base (MODULE_REF_BASE, kernel/module.c, since 3.19)."""
    return IDLE[module.state]


def is_corrupt(module: LoadedModule) -> bool:
    """A count that no sequence of gets and puts leads to. Plain removal of a LIVE module whose count is below
    zero dies in BUG while it holds module_mutex (try_release_module_ref)."""
    return module.refcnt is not None and (
        module.refcnt < idle_refcnt(module) or module.refcnt >= ABSURD + idle_refcnt(module)
    )


def reference_findings(snapshot: Snapshot, module: LoadedModule, activity: Activity) -> list[Finding]:
    """The findings `dependents`, `referenced`, `unexplained-references`, `refcnt-corrupt`."""
    if module.refcnt is None or module.state is ModuleState.UNFORMED:
        return []
    dependents = dependent_holders(snapshot, module)
    named = named_holders(snapshot, module, activity)
    extra = module.refcnt - idle_refcnt(module)
    findings = []
    if dependents:
        findings.append(_dependents_finding(snapshot, module, dependents))
    if is_corrupt(module):
        findings.append(_corrupt_finding(module))
    unnamed = extra - len(dependents)
    if is_corrupt(module):
        unnamed = len(named)
    if unnamed <= 0:
        return findings
    if named:
        findings.append(
            Finding(
                FindingCode.REFERENCED,
                f"{unnamed} reference{_s(unnamed)} held; in sight: {', '.join(h.name for h in named)}",
                evidence=(f"refcnt {module.refcnt}", *(holder.name for holder in named)),
                remedy="; ".join(dict.fromkeys(holder.release for holder in named)),
                certainty=_certainty(named),
                holders=tuple(named),
            )
        )
        unnamed -= sum(holder.users * _MOST.get(holder.kind, 1) for holder in named)
    if unnamed > 0:
        findings.append(_unexplained_finding(module, unnamed, others=bool(named)))
    return findings


def _dependents_finding(snapshot: Snapshot, module: LoadedModule, dependents: list[Holder]) -> Finding:
    order = [snapshot.module(name) for name in removal_order(snapshot, module.name)]
    chain = " → ".join(f"{user.name} ({user.state.value})" for user in order if user)
    return Finding(
        FindingCode.DEPENDENTS,
        f"used by {', '.join(f'{holder.module} ({holder.state})' for holder in dependents)}",
        evidence=(
            *(f"/sys/module/{module.name}/holders/{holder.module}" for holder in dependents),
            f"order of removal: {chain}",
        ),
        remedy="; ".join(holder.release for holder in dependents)
        + f"; lkm rescue {module.name} --with-dependents takes them out first: {chain}",
        holders=tuple(dependents),
    )


def _corrupt_finding(module: LoadedModule) -> Finding:
    below = module.refcnt is not None and module.refcnt < idle_refcnt(module)
    return Finding(
        FindingCode.REFCNT_CORRUPT,
        f"the reference count is {'below its base' if below else 'absurd'}: {module.refcnt}",
        evidence=(f"/sys/module/{module.name}/refcnt: {module.refcnt}, idle is {idle_refcnt(module)}",)
        + (("one module_put too many is enough",) if below else ()),
        remedy="do not run rmmod: with a count below zero it dies holding module_mutex, and nothing can be "
        f"loaded any more; lkm rescue {module.name} repairs the count first"
        if below
        else f"lkm rescue {module.name} resets the count and lets the module's own exit run",
    )


def _unexplained_finding(module: LoadedModule, unnamed: int, *, others: bool) -> Finding:
    return Finding(
        FindingCode.UNEXPLAINED_REFERENCES,
        f"{unnamed} {'more ' if others else ''}reference{_s(unnamed)} that nobody in sight holds",
        evidence=(f"refcnt {module.refcnt}, idle is {idle_refcnt(module)}",),
        remedy=f"wait a moment and look again; if it stays, it is a leak: lkm rescue {module.name}",
        certainty=Certainty.LIKELY,
    )


def removal_order(snapshot: Snapshot, name: ModuleName) -> list[ModuleName]:
    """`name` and everything that uses it, users first. The kernel has no cycles here; a snapshot might."""
    order: list[ModuleName] = []
    on_path: set[ModuleName] = set()

    def visit(module: ModuleName) -> None:
        if module in order or module in on_path:
            return
        on_path.add(module)
        loaded = snapshot.module(module)
        for user in loaded.holders if loaded else ():
            visit(user)
        order.append(module)

    visit(name)
    return order


def dependent_holders(snapshot: Snapshot, module: LoadedModule) -> list[Holder]:
    """The modules that use this one, each with its own state."""
    holders = []
    for name in module.holders:
        user = snapshot.module(name)
        state = user.state.value if user else "unknown"
        live = user is not None and user.state is ModuleState.LIVE
        holders.append(
            Holder(
                HolderKind.MODULE,
                f"module {name}",
                f"unload {name} first" if live else f"{name} is stuck: lkm why {name}",
                module=name,
                state=state,
            )
        )
    return holders


def named_holders(snapshot: Snapshot, module: LoadedModule, activity: Activity) -> list[Holder]:
    """Everybody in sight who may hold one of its references, the surest first."""
    return [
        *(_file_holder(item) for item in snapshot.open_files if item.module == module.name),
        *(_mount_holder(item) for item in snapshot.mounts if item.module == module.name),
        *(_thread_holder(task) for task in activity.by(Role.INSIDE)),
        *_registered_holders(snapshot, module),
    ]


def _file_holder(item: OpenFile) -> Holder:
    where = f"fd {item.fd}" if item.fd is not None else "mapped"
    return Holder(
        HolderKind.OPEN_FILE,
        f"{item.command} (pid {item.pid}) has {item.path} open ({where})",
        f"close {item.path} or end pid {item.pid}",
        pid=item.pid,
        command=item.command,
        path=item.path,
    )


def _mount_holder(item: Mount) -> Holder:
    return Holder(
        HolderKind.MOUNT,
        f"{item.source} mounted on {item.mount_point} ({item.fstype})",
        f"umount {item.mount_point}"
        + (f" (in the mount namespace of pid {item.pid})" if item.pid != 1 else ""),
        pid=item.pid,
        mount_point=item.mount_point,
        path=item.source,
    )


def _thread_holder(task: Task) -> Holder:
    inner = next((frame for frame in task.stack if frame.module), task.stack[0])
    return Holder(
        HolderKind.THREAD,
        f"{task.kind} {task.command} (pid {task.tid}) is in {inner.symbol} [{inner.module}]",
        f"wait for {task.command} (pid {task.tid}) to leave the module, or stop what it does",
        pid=task.tid,
        command=task.command,
        state=task.state,
    )


def _registered_holders(snapshot: Snapshot, module: LoadedModule) -> list[Holder]:
    holders = []
    for item in snapshot.registrations:
        if item.module != module.name:
            continue
        if item.kind is RegistrationKind.INTERFACE and item.users != 0:
            holders.append(
                Holder(
                    HolderKind.NETDEV,
                    f"network interface {item.name}",
                    f"ip link set {item.name} down",
                    interface=item.name,
                )
            )
        elif item.kind is RegistrationKind.TRACE_EVENT:
            holders.append(
                Holder(
                    HolderKind.TRACE_EVENT,
                    f"the trace event {item.name} is used by {item.source}",
                    item.detail,
                    path=item.source,
                )
            )
        elif item.kind is RegistrationKind.DEVICE:
            holders.append(
                Holder(
                    HolderKind.BOUND_DEVICE,
                    f"device {item.name} is bound to its driver",
                    f"unbind it: {item.detail}" if item.detail else "unbind it",
                    path=item.source,
                )
            )
        elif item.users and item.kind is not RegistrationKind.INTERFACE:
            holders.append(
                Holder(
                    HolderKind.USERS,
                    f"{item.users} user{_s(item.users)} of the {item.kind.value} {item.name}",
                    f"end the users of {item.name}",
                    path=item.source,
                    users=item.users,
                )
            )
    return holders


def _certainty(holders: list[Holder]) -> Certainty:
    """A file, a mount or a trace event in use does hold a reference; a device or an interface may."""
    sure = (HolderKind.OPEN_FILE, HolderKind.MOUNT, HolderKind.TRACE_EVENT)
    return Certainty.CERTAIN if any(holder.kind in sure for holder in holders) else Certainty.LIKELY


def _s(count: int) -> str:
    return "" if count == 1 else "s"
