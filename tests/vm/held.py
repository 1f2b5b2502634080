# SPDX-License-Identifier: MIT
"""Situations of the reference count: held, leaked, corrupt."""

from __future__ import annotations

from tests.vm.situation import Moment, Situation, refused, removed, rescued

__all__ = ["HELD"]


def _leak(count: int) -> Situation:
    """Nobody holds what is counted: the count is put right, and its own exit runs."""
    return Situation(
        f"{count} references leaked",
        "leak_ref",
        (
            rescued(
                "leak_ref",
                "unexplained-references",
                steps=(f"insmod leak_ref.ko count={count}", f'[ "$(count_of leak_ref)" = {count} ]'),
                after=('said "leak_ref: unloaded"',),
            ),
        ),
    )


HELD = (
    Situation(
        "held by an open file",
        "left_holder",
        (
            refused(
                "referenced",
                steps=("insmod left_holder.ko die=0", "sleep 1000 </dev/holdme & holder=$!",
                       "within 5 asleep $holder", '[ "$(count_of left_holder)" = 1 ]', "echo holder=$holder"),
                absent=("unexplained-references",),
                holders=({"kind": "open-file", "pid": "$holder", "command": "sleep", "path": "/dev/holdme"},),
                after=("! ended $holder", "is left_holder live"),
            ),
            removed("left_holder", steps=("kill $holder", "within 5 ended $holder")),
        ),
    ),
    Situation(
        "held by two files and a leak",
        "left_holder",
        (
            refused(
                "referenced",
                steps=("insmod left_holder.ko die=0", "sleep 1000 </dev/holdme & one=$!",
                       "sleep 1000 </dev/holdme & two=$!", "within 5 asleep $two", "echo one=$one",
                       "echo two=$two"),
                holders=({"pid": "$one", "path": "/dev/holdme"}, {"pid": "$two", "path": "/dev/holdme"}),
            ),
        ),
    ),
    Situation(
        "held by a mount",
        "left_fs",
        (
            refused(
                "referenced",
                steps=("insmod left_fs.ko die=0", "mkdir /mnt/left", "mount -t leftfs none /mnt/left"),
                holders=({"kind": "mount", "mount_point": "/mnt/left"},),
                after=("grep -q ' /mnt/left ' /proc/mounts",),
            ),
            removed("left_fs", steps=("umount /mnt/left",)),
        ),
    ),
    Situation(
        "held by a file on its file system",
        "left_fs",
        (
            refused(
                "referenced",
                steps=("insmod left_fs.ko die=0", "mkdir /mnt/left", "mount -t leftfs none /mnt/left",
                       "sleep 1000 </mnt/left/left & holder=$!", "within 5 asleep $holder", "echo holder=$holder"),
                holders=({"mount_point": "/mnt/left"}, {"pid": "$holder", "path": "/mnt/left/left"}),
            ),
        ),
    ),
    Situation(
        "held by a reader inside of it",
        "left_chrdev",
        (
            refused(
                "referenced",
                steps=("insmod left_chrdev.ko die=0 block=1",
                       "mknod /dev/leftchr c $(awk '/leftchr/{print $1}' /proc/devices) 0",
                       "cat /dev/leftchr & reader=$!", "within 5 asleep $reader", "echo reader=$reader"),
                holders=({"kind": "open-file", "pid": "$reader", "path": "/dev/leftchr"},
                         {"kind": "thread", "pid": "$reader"}),
                after=("! ended $reader",),
            ),
            removed("left_chrdev", steps=("kill $reader", "within 5 ended $reader")),
        ),
    ),
    _leak(1),
    _leak(5),
    Situation(
        "a count below zero",
        "put_too_many",
        (
            rescued(
                "put_too_many",
                "refcnt-corrupt",
                steps=("insmod put_too_many.ko", '[ "$(count_of put_too_many)" = -1 ]'),
                after=('said "put_too_many: unloaded"',),
            ),
        ),
    ),
    Situation(
        "an absurd count",
        "absurd_count",
        (
            rescued(
                "absurd_count",
                "refcnt-corrupt",
                steps=("insmod absurd_count.ko",),
                after=('said "absurd_count: unloaded"',),
            ),
        ),
    ),
    Situation(
        "a dead asynchronous call",
        "async_dead",
        (
            refused(
                "async-stuck",
                steps=("insmod async_dead.ko", 'within 10 said "NULL pointer"', "sleep 1"),
                after=("is async_dead live",),
            ),
        ),
    ),
    Situation(
        "a dead asynchronous call of another module",
        "decmod",
        (
            refused(
                "async-stuck",
                steps=("insmod decmod.ko", "insmod async_dead.ko", 'within 10 said "NULL pointer"', "sleep 1"),
                words=("async_dead",),
                after=("is decmod live",),
            ),
        ),
    ),
    Situation(
        "leaked, and its exit dies",
        "exit_oops_leak",
        (
            rescued(
                "exit_oops_leak",
                "unexplained-references",
                steps=("insmod exit_oops_leak.ko",),
                after=('[ "$(dmesg | grep -c "exit_oops_leak: exit begins")" = 1 ]',),
            ),
        ),
    ),
    Situation(
        "leaked, and its exit blocks",
        "exit_block_leak",
        (
            Moment(
                "safe", 1, "stopped", 1,
                steps=("insmod exit_block_leak.ko",),
                findings=("unexplained-references",),
                rescue=("--exit-wait", "2"),
                after=("is exit_block_leak going",),
            ),
            refused("exit-running", absent=("exit-died",),
                    after=("echo 1 >/sys/module/exit_block_leak/parameters/release",
                           "within 10 gone exit_block_leak")),
        ),
    ),
)  # fmt: skip
