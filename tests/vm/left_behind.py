# SPDX-License-Identifier: MIT
"""What a module registered: what its exit takes away where it can run, and what its death leaves behind."""

from __future__ import annotations

from tests.vm.situation import Moment, Situation, refused, removed

__all__ = ["LEFT_BEHIND", "REGISTERED", "left_by_death"]

# module → what the finding `registered` names
REGISTERED = {
    "left_misc": ("misc left-over",),
    "left_misc_no_owner": ("misc left-no-owner",),
    "left_chrdev": ("chrdev leftchr",),
    "left_proc": ("/proc/left_entry", "/proc/left_dir"),
    "left_fs": ("filesystem leftfs",),
    "left_netdev": ("interface left0",),
    "left_irq": ("left-irq",),
    "left_crypto": ("left-hash-generic",),
    "left_platform": ("driver platform:left-plat", "device left-plat"),
}


def left_by_death(module: str) -> Moment:
    """Its init died after it had registered things: to free it would make a crash, whose event is told."""
    return Moment(
        "crash", 1, "refused", 3,
        steps=(f"dies insmod {module}.ko die=1",),
        findings=("init-died", "registered"),
        words=REGISTERED[module],
        after=(f"is {module} coming",),
    )  # fmt: skip


FORCED = Moment(
    "crash", 1, "rescued", 0,
    steps=("dies insmod left_proc.ko die=1",),
    findings=("init-died",),  # and by the kernel's tables, or by the scan where kallsyms has no variables:
    words=("left_entry",),
    rescue=("--force",),
    after=("gone left_proc",),
)  # fmt: skip

LEFT_BEHIND = (
    Situation("forced", "left_proc", (FORCED,)),
    Situation(
        "init died, its timer is armed",
        "left_hrtimer",
        (refused("init-died", "registered", steps=("dies insmod left_hrtimer.ko die=1",), words=("hrtimer",)),),
    ),
    Situation(
        "its timer is armed",
        "left_hrtimer",
        (removed("left_hrtimer", steps=("insmod left_hrtimer.ko die=0",), findings=("registered",)),),
    ),
    Situation(
        "init died, its thread runs",
        "left_kthread",
        (
            refused(
                "init-died",
                "thread",
                steps=("dies insmod left_kthread.ko die=1", "echo thread=$(pidof left-kthread)"),
                words=("left-kthread", "pid $thread"),
            ),
        ),
    ),
    Situation(
        "its thread runs",
        "left_kthread",
        (removed("left_kthread", steps=("insmod left_kthread.ko die=0",), findings=("thread",)),),
    ),
    Situation(
        "open, and no reference covers it",
        "left_misc_no_owner",
        (
            Moment(
                "crash", 1, "refused", 3,
                steps=("insmod left_misc_no_owner.ko die=0", "sleep 1000 </dev/left-no-owner & holder=$!",
                       "within 5 asleep $holder", '[ "$(count_of left_misc_no_owner)" = 0 ]',
                       "echo holder=$holder"),
                findings=("open-without-reference",),
                holders=({"pid": "$holder", "path": "/dev/left-no-owner"},),
                after=("is left_misc_no_owner live",),
            ),
            removed("left_misc_no_owner", steps=("kill $holder", "within 5 ended $holder")),
        ),
    ),
)  # fmt: skip
