# SPDX-License-Identifier: MIT
"""Which live tasks load, remove or wait for a module, or run in it. A dead loader has none.

The functions named are those of kernel/module.c (until 5.17) and kernel/module/main.c (since); a static one
may be inlined into load_module.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from lkm.names import ModuleName, module_name, quarantine_name, quarantine_number
from lkm.system.snapshot import LoadedModule, ModuleState, Snapshot, Task

__all__ = ["Activity", "Role", "activity_of", "waits_for"]

REMOVAL = ("__do_sys_delete_module", "__se_sys_delete_module", "__x64_sys_delete_module",
           "__arm64_sys_delete_module", "free_module")  # fmt: skip
INIT = ("do_init_module", "do_one_initcall")

# Where a load sleeps that waits for another one: for the name, in add_unformed_module (until 6.3) or
# module_patient_check_exists (since 6.4); for a symbol of a coming module, in resolve_symbol_wait; for the
# first load of the same file, in idempotent_init_module (since 6.5).
WAITING = (
    "load_module", "add_unformed_module", "module_patient_check_exists", "resolve_symbol_wait",
    "simplify_symbols", "idempotent_init_module", "idempotent_wait_for_completion",
    "__do_sys_init_module", "__do_sys_finit_module", "__se_sys_finit_module", "__x64_sys_finit_module",
    "__arm64_sys_finit_module",
)  # fmt: skip
# What the scheduler leaves on top of a sleeper's stack on some kernels.
SLEEPING = ("schedule", "__schedule", "schedule_timeout", "wait_for_completion",
            "wait_for_completion_interruptible", "wait_for_completion_killable", "__wait_for_common",
            "prepare_to_wait_event")  # fmt: skip


class Role(Enum):
    """What a live task does with a module; MAYBE_…: whose load or removal it is could not be told."""

    LOADER = "loader"
    MAYBE_LOADER = "maybe-loader"
    WAITER = "waiter"
    REMOVER = "remover"
    MAYBE_REMOVER = "maybe-remover"
    INSIDE = "inside"
    MAYBE_INSIDE = "maybe-inside"


class Activity(NamedTuple):
    """The live tasks that have to do with one module, each with its role."""

    tasks: tuple[tuple[Task, Role], ...] = ()

    def by(self, *roles: Role) -> tuple[Task, ...]:
        """The tasks in one of these roles."""
        return tuple(task for task, role in self.tasks if role in roles)


def activity_of(snapshot: Snapshot, module: LoadedModule) -> Activity:
    """Sort the snapshot's tasks by what they do with `module`."""
    roles = ((task, _role(task, module, _subjects(snapshot, task))) for task in snapshot.tasks)
    return Activity(tuple((task, role) for task, role in roles if role is not None))


def _role(task: Task, module: LoadedModule, subjects: tuple[ModuleName, ...]) -> Role | None:
    if task.unreadable:
        return _UNREADABLE[module.state]
    inside = task.is_in(module.name)
    if _is_removing(task):
        certain, perhaps = Role.REMOVER, Role.MAYBE_REMOVER
    elif _is_loading(task):
        if _is_waiting(task):
            return Role.WAITER if waits_for(task, module) else None
        certain, perhaps = Role.LOADER, Role.MAYBE_LOADER
    else:
        return Role.INSIDE if inside else None
    if subjects == (module.name,) or (not subjects and inside):
        return certain
    if not subjects or module.name in subjects:
        return perhaps
    return Role.INSIDE if inside else None


_UNREADABLE = {
    ModuleState.LIVE: Role.MAYBE_INSIDE,
    ModuleState.COMING: Role.MAYBE_LOADER,
    ModuleState.GOING: Role.MAYBE_REMOVER,
    ModuleState.UNFORMED: Role.MAYBE_LOADER,
}
"""What a task that spins in the kernel may be doing."""


def _subjects(snapshot: Snapshot, task: Task) -> tuple[ModuleName, ...]:
    """What the call of a task can be about: empty where its argument could not be read.

    A quarantine leaves the calls in progress with the old name: they are about the renamed module or about a
    new one of that name, and the code that they run tells which.
    """
    if not task.subject:
        return ()
    name = _subject(task)
    meant = [module.name for module in snapshot.modules if _is_or_was(name, module.name)]
    running = [each for each in meant if task.is_in(each)]
    return tuple(running or meant or [name])


def _is_or_was(name: ModuleName, now: ModuleName) -> bool:
    number = quarantine_number(now)
    return name == now or bool(number and quarantine_name(name, number) == now)


def _subject(task: Task) -> ModuleName:
    return module_name(task.subject)


def _is_removing(task: Task) -> bool:
    return task.call == "delete_module" or task.has_frame(*REMOVAL)


def _is_loading(task: Task) -> bool:
    return task.call in ("init_module", "finit_module") or task.has_frame("load_module", "do_init_module")


def _is_waiting(task: Task) -> bool:
    """Asleep in the loader itself: what runs an init or a notifier has deeper frames."""
    if task.has_frame(*INIT) or task.state == "R":
        return False
    deepest = next((frame for frame in task.stack if frame.function not in SLEEPING), None)
    return deepest is not None and deepest.module is None and deepest.function in WAITING


def waits_for(task: Task, module: LoadedModule) -> str:
    """What of `module` the task waits for; empty if it waits for something else."""
    if module.state is ModuleState.LIVE:
        return ""
    if _subject(task) == module.name:
        return "its name"
    common = [symbol for symbol in task.subject_imports if symbol in module.exports]
    if common:
        return f"its symbol {common[0]}"
    if not task.subject:
        return "its name or one of its symbols, perhaps"
    return ""
