# SPDX-License-Identifier: MIT
"""What goes on by itself after init has died: timers, a work, a thread, an interrupt handler, a notifier."""

from __future__ import annotations

import errno

from lkm.lab.assembled.faults.draft import OWNER, Draft, number, return_error, word
from lkm.lab.assembled.faults.sound import sleep_seconds
from lkm.lab.assembled.language import (
    At,
    Block,
    Expression,
    Function,
    If,
    Load,
    Local,
    Module,
    Object,
    Op,
    Operator,
    Return,
    Self,
    Store,
    While,
    call,
    is_error,
    struct_object,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS", "delayed_work", "queue_work"]

CLOCK_MONOTONIC = 1
HRTIMER_MODE_REL = 1
HRTIMER_RESTART = 1
TIMER_IRQSAFE = 0x200000  # include/linux/timer.h, 4.15 to 7.x
IRQF_SHARED = 0x80
NO_NODE = -1
POOL_NONE_BITS = 31  # WORK_OFFQ_POOL_BITS, include/linux/workqueue.h, on 64-bit kernels


def left_hrtimer(target: Target) -> Module:
    """hrtimer_setup is of 6.13 and takes the function; hrtimer_init went away with 6.15."""
    draft = Draft("left_hrtimer", target)
    clock, tick = At("left_clock"), At("left_hrtimer_tick")
    interval = Op(Load(At("period")), Operator.MULTIPLY, 1_000_000)
    if target.has("hrtimer_setup"):
        setup: Block = (call("hrtimer_setup", clock, tick, CLOCK_MONOTONIC, HRTIMER_MODE_REL),)
    else:
        function = At(clock.symbol, target.btf.offset("hrtimer", "function"))
        setup = (call("hrtimer_init", clock, CLOCK_MONOTONIC, HRTIMER_MODE_REL), Store(function, tick, 8))
    on_tick = Function(
        tick.symbol,
        (
            Store(At("ticks"), Op(Load(At("ticks")), Operator.ADD, 1)),
            call("ktime_get", into="now", wide=True),
            call("hrtimer_forward", Local("timer"), Local("now"), interval),
            Return(HRTIMER_RESTART),
        ),
        ("timer",),
    )
    return draft.left(
        "an armed hrtimer",
        (
            *_refuse_zero("period"),
            *setup,
            call("hrtimer_start_range_ns", clock, interval, 0, HRTIMER_MODE_REL),
        ),
        (call("hrtimer_cancel", clock),),
        functions=(on_tick,),
        objects=(word("period", 1000), word("ticks"), struct_object(clock.symbol, "hrtimer")),
        parameters=(
            number("period", "milliseconds from one tick to the next (default 1000)"),
            number("ticks", "how often it fired so far: read only"),
        ),
    )


def left_timer(target: Target) -> Module:
    """timer_delete_sync is of 6.2; del_timer_sync went away with 6.15."""
    draft = Draft("left_timer", target)
    timer = At("left_wheel_timer")
    arm: Block = (
        call("__msecs_to_jiffies", sleep_seconds("seconds"), into="delay", wide=True),
        call("mod_timer", timer, Op(Load(At("jiffies"), 8), Operator.ADD, Local("delay"))),
    )
    return draft.left(
        "an armed wheel timer",
        (*_refuse_zero("seconds"), *arm),
        (call(target.first("timer_delete_sync", "del_timer_sync"), timer),),
        functions=(Function("left_tick", (draft.say("tick"), *arm), ("timer",)),),
        objects=(
            word("seconds", 3600),
            struct_object(timer.symbol, "timer_list", {"function": At("left_tick")}),
        ),
        parameters=(number("seconds", "from one tick to the next (default 3600)"),),
    )


def left_workqueue(target: Target) -> Module:
    draft = Draft("left_workqueue", target)
    arm = queue_work(target, "left_work", sleep_seconds("seconds"))
    return draft.left(
        "a delayed work",
        (*_refuse_zero("seconds"), *arm),
        (call("cancel_delayed_work_sync", At("left_work")),),
        functions=(Function("left_run", (draft.say("run"), *arm), ("work",)),),
        objects=(word("seconds", 3600), delayed_work(target, "left_work", "left_run")),
        parameters=(number("seconds", "from one run to the next (default 3600)"),),
    )


def left_kthread(target: Target) -> Module:
    draft = Draft("left_kthread", target)
    stop = Op(Local("stop"), Operator.AND, 0xFF)  # of a bool only the lowest byte counts
    run = Function(
        "left_run",
        (
            call("kthread_should_stop", into="stop"),
            While(
                Op(stop, Operator.EQUAL, 0),
                (call("msleep_interruptible", 1000), call("kthread_should_stop", into="stop")),
            ),
        ),
        ("unused",),
    )
    return draft.left(
        "a kernel thread in the module's text",
        (
            call(
                "kthread_create_on_node", At("left_run"), 0, NO_NODE, "left-kthread", into="thread", wide=True
            ),
            If(is_error(Local("thread")), (Return(Local("thread")),)),
            Store(At("left_thread"), Local("thread"), 8),
            call("wake_up_process", Local("thread")),
        ),
        (call("kthread_stop", Load(At("left_thread"), 8)),),
        functions=(run,),
        objects=(word("left_thread", size=8),),
    )


def left_irq(target: Target) -> Module:
    draft = Draft("left_irq", target)
    return draft.left(
        "an interrupt handler",
        (
            call(
                "request_threaded_irq",
                Load(At("irq")), At("left_handler"), 0, IRQF_SHARED, "left-irq", OWNER,
                into="ret",
            ),
            return_error("ret"),
        ),
        (call("free_irq", Load(At("irq")), OWNER),),
        functions=(Function("left_handler", (Return(0),), ("line", "cookie")),),
        objects=(word("irq", 5),),
        parameters=(number("irq", "the line to request (default 5)"),),
    )  # fmt: skip


def left_notifier(target: Target) -> Module:
    draft = Draft("left_notifier", target)
    block = At("left_block")
    return draft.left(
        "a reboot notifier",
        (call("register_reboot_notifier", block, into="ret"), return_error("ret")),
        (call("unregister_reboot_notifier", block),),
        functions=(
            Function("left_notify", (draft.say("the machine goes down"),), ("block", "event", "data")),
        ),
        objects=(struct_object(block.symbol, "notifier_block", {"notifier_call": At("left_notify")}),),
    )


def delayed_work(target: Target, name: str, function: str) -> Object:
    """What DECLARE_DELAYED_WORK makes: idle, and last in no pool (WORK_STRUCT_NO_POOL)."""
    shift = target.btf.enumerator("WORK_OFFQ_POOL_SHIFT")
    return struct_object(
        name,
        "delayed_work",
        {
            "work.data": ((1 << POOL_NONE_BITS) - 1) << shift,
            "work.entry.next": Self("work.entry"),
            "work.entry.prev": Self("work.entry"),
            "work.func": At(function),
            "timer.function": At("delayed_work_timer_fn"),
            "timer.flags": TIMER_IRQSAFE,
        },
    )


def queue_work(target: Target, name: str, milliseconds: Expression) -> Block:
    """Put a delayed work on the system's queue, called system_percpu_wq from 6.18 on; on the first processor."""
    queue = target.first("system_percpu_wq", "system_wq")
    return (
        call("__msecs_to_jiffies", milliseconds, into="delay", wide=True),
        call("queue_delayed_work_on", 0, Load(At(queue), 8), At(name), Local("delay")),
    )


def _refuse_zero(variable: str) -> Block:
    return (If(Op(Load(At(variable)), Operator.EQUAL, 0), (Return(-errno.EINVAL),)),)


FAULTS = (left_hrtimer, left_timer, left_workqueue, left_kthread, left_irq, left_notifier)
