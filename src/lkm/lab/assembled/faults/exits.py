# SPDX-License-Identifier: MIT
"""Modules whose exit dies or waits, and one whose worker died."""

from __future__ import annotations

from lkm.lab.assembled.faults.draft import OWNER, Draft, flag, number, return_error, word
from lkm.lab.assembled.faults.left_running import delayed_work, queue_work
from lkm.lab.assembled.language import (
    At,
    Block,
    Function,
    If,
    Load,
    Local,
    Module,
    Oops,
    Parameter,
    Return,
    Self,
    call,
    struct_object,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS"]

NO_NODE = -1
"""NUMA_NO_NODE"""


def exit_oops(target: Target) -> Module:
    draft = Draft("exit_oops", target)
    return draft.module(
        "Stuck on removal: exit dies in an oops",
        (draft.say("loaded"),),
        (draft.say("exit begins"), Oops()),
    )


def exit_oops_leak(target: Target) -> Module:
    draft = Draft("exit_oops_leak", target)
    return draft.module(
        "Stuck: a leaked reference, and an exit that dies in an oops",
        (call("__module_get", OWNER), draft.say("leaked one")),
        (draft.say("exit begins"), Oops()),
    )


def exit_block(target: Target) -> Module:
    draft = Draft("exit_block", target)
    return _waiting_exit(draft, "Stuck on removal: exit waits for ever", (draft.say("loaded"),))


def exit_block_leak(target: Target) -> Module:
    draft = Draft("exit_block_leak", target)
    return _waiting_exit(
        draft,
        "Stuck: a leaked reference, and an exit that waits for ever",
        (call("__module_get", OWNER), draft.say("leaked one")),
    )


def _waiting_exit(draft: Draft, description: str, init: Block) -> Module:
    release = Parameter("release", "release_ops", "release", 0o644, "", "1 lets exit go on")
    set_release = Function(
        "set_release",
        (
            call("param_set_bool", Local("value"), Local("parameter"), into="ret"),
            return_error("ret"),
            If(Load(At("release"), 1), (call("complete_all", At("released")),)),
        ),
        ("value", "parameter"),
    )
    return draft.module(
        description,
        init,
        (draft.say("exit begins"), call("wait_for_completion", At("released")), draft.say("exit ends")),
        functions=(set_release,),
        objects=(
            flag("release"),
            struct_object(
                "released",
                "completion",
                {
                    "wait.task_list.next": Self("wait.task_list"),
                    "wait.task_list.prev": Self("wait.task_list"),
                },
            ),
            struct_object(
                "release_ops", "kernel_param_ops", {"set": At("set_release"), "get": At("param_get_bool")}
            ),
        ),
        parameters=(release,),
    )


def async_dead(target: Target) -> Module:
    draft = Draft("async_dead", target)
    schedule = call("async_schedule_node", At("dead_async"), 0, NO_NODE)
    delay = Load(At("delay"))
    return draft.module(
        "Stuck on removal: an asynchronous function died",
        (If(delay, (*queue_work(target, "later", delay), Return(0))), schedule),
        (call("cancel_delayed_work_sync", At("later")),),
        functions=(
            Function("dead_async", (Oops(),), ("data", "cookie")),
            Function("schedule_it", (schedule,), ("work",)),
        ),
        objects=(word("delay", 500), delayed_work(target, "later", "schedule_it")),
        parameters=(number("delay", "milliseconds from init to the fault (default 500)"),),
    )


FAULTS = (exit_oops, exit_oops_leak, exit_block, exit_block_leak, async_dead)
