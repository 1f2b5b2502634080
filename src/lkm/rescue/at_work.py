# SPDX-License-Identifier: MIT
"""Whether tasks leave a module's sysfs entry alone for long enough to rename it. Pure.

A task in the load or the removal has no use of the name while it sleeps in the module's own code; elsewhere it may be
about to make the sysfs entry, or to take it apart. Judged by the last look alone: that it was in the module before
says nothing.
"""

from __future__ import annotations

from typing import Optional

from lkm.diagnosis.activity import Activity, Role, activity_of
from lkm.diagnosis.findings import Verdict
from lkm.diagnosis.verdict import Decision
from lkm.names import ModuleName
from lkm.system.snapshot import LoadedModule, ModuleState, Reader, Snapshot, Task, TaskFrame
from lkm.system.tasks import SYSFS_FUNCTIONS

__all__ = ["task_obstacle"]

SEEN = (Reader.TASKS, Reader.STACKS)
"""What must have been read: a live loader or remover is told from a dead one by its stack alone."""

WAITS = frozenset((
    "__switch_to", "schedule", "__schedule", "schedule_timeout", "schedule_timeout_uninterruptible",
    "schedule_timeout_interruptible", "schedule_timeout_killable", "io_schedule", "schedule_preempt_disabled",
    "__wait_for_common", "wait_for_common", "wait_for_completion", "wait_for_completion_timeout",
    "wait_for_completion_interruptible", "wait_for_completion_killable", "wait_for_completion_state",
    "prepare_to_wait_event", "wait_woken", "__wait_on_bit", "out_of_line_wait_on_bit",
    "msleep", "msleep_interruptible", "usleep_range", "usleep_range_state", "fsleep",
    "mutex_lock", "__mutex_lock", "__mutex_lock_slowpath", "mutex_lock_interruptible", "mutex_lock_killable",
    "down", "__down", "__down_common", "down_interruptible", "down_read", "down_write", "rwsem_down_read_slowpath",
    "rwsem_down_write_slowpath", "kthread_stop", "flush_work", "__flush_work", "flush_workqueue",
    "__flush_workqueue", "drain_workqueue", "destroy_workqueue", "cancel_work_sync", "__cancel_work_timer",
    "__cancel_work_sync", "cancel_delayed_work_sync", "del_timer_sync", "timer_delete_sync",
    "__timer_delete_sync", "hrtimer_cancel", "synchronize_rcu", "synchronize_rcu_expedited", "__wait_rcu_gp",
    "wait_rcu_gp", "rcu_barrier", "synchronize_srcu", "__synchronize_srcu", "synchronize_irq",
))  # fmt: skip
"""Functions that only wait, whoever calls them, 5.10 to 7.3."""


def task_obstacle(snapshot: Snapshot, module: LoadedModule) -> Optional[Decision]:
    """Why the sysfs entry of `module` must not be renamed now; None where it may."""
    for unread in snapshot.unread:
        if unread.reader in SEEN:
            return Decision(
                Verdict.REFUSE,
                f"whether a task is at work in it was not seen ({unread.reader.value}: {unread.why})",
                "look again as root, when the machine is less busy",
            )
    return _at_work(module, activity_of(snapshot, module)) or _blocked_in_sysfs(snapshot)


def _at_work(module: LoadedModule, activity: Activity) -> Optional[Decision]:
    passing = module.state in (ModuleState.COMING, ModuleState.GOING)
    others = activity.by(Role.MAYBE_LOADER, Role.MAYBE_REMOVER)
    if module.state is ModuleState.GOING:
        others += activity.by(Role.WAITER)
    for task in (*activity.by(Role.LOADER, Role.REMOVER, *([Role.INSIDE] if passing else [])), *others):
        if task in others or not _sleeps_in(task, module.name):
            who = f"{task.command} (pid {task.tid}) {'may be' if task in others else 'is'} at"
            return Decision(
                Verdict.REFUSE,
                f"{who} its load or removal, and not asleep in the module's own code",
                f"look again in a moment; should it stay where it is (/proc/{task.tid}/stack), make true what it "
                "waits for, or restart when you can",
            )
    return None


def _sleeps_in(task: Task, name: ModuleName) -> bool:
    """What waits is called from the module, as of the last look."""
    deepest = _deepest(task.now)
    left = any(frame.function == "free_module" for frame in task.now)
    return deepest is not None and deepest.module == name and task.state in "SD" and not left


def _blocked_in_sysfs(snapshot: Snapshot) -> Optional[Decision]:
    """kobject_rename waits for kernfs_rwsem (kernfs_mutex until 5.14) and uevent_sock_mutex, and the helper has
    module_mutex meanwhile: who sleeps with one of them for good would stop every load and removal."""
    for task in snapshot.tasks:
        deepest = _deepest(task.now)
        if task.state == "D" and not task.older and deepest and deepest.function.startswith(SYSFS_FUNCTIONS):
            return Decision(
                Verdict.REFUSE,
                f"{task.command} (pid {task.tid}) is blocked in sysfs ({deepest.function}): a rename may have to "
                "wait for it, and every load and removal for the rename",
                f"look again in a moment; /proc/{task.tid}/stack shows what it waits for",
            )
    return None


def _deepest(frames: tuple[TaskFrame, ...]) -> Optional[TaskFrame]:
    return next((frame for frame in frames if frame.module or frame.function not in WAITS), None)
