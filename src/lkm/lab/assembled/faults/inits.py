# SPDX-License-Identifier: MIT
"""Modules whose init dies, fails, takes long, or has no exit beside it."""

from __future__ import annotations

import errno

from lkm.lab.assembled.faults.draft import Draft, number, word
from lkm.lab.assembled.faults.sound import sleep_seconds
from lkm.lab.assembled.language import (
    At,
    Block,
    Export,
    Function,
    Load,
    Local,
    Module,
    Oops,
    Return,
    call,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS"]

LEVEL = 16
"""Where the member stands that kerneloops reads through NULL, in bytes."""


def bug_mod1(target: Target) -> Module:
    draft = Draft("bug_mod1", target)
    return draft.module(
        "Stuck: init dies in an oops",
        (draft.say("init begins"), Oops(), draft.say("never printed")),
        (draft.say("unloaded"),),
    )


def bug_mod2(target: Target) -> Module:
    draft = Draft("bug_mod2", target)
    return draft.module("Stuck: init but no exit, permanent", (draft.say("loaded for good"),))


def none_exit(target: Target) -> Module:
    draft = Draft("none_exit", target)
    forgotten = Function("none_exit_exit", (draft.say("never called"),), section=".exit.text")
    return draft.module(
        "Stuck: the exit function is not registered, permanent",
        (draft.say("loaded"),),
        functions=(forgotten,),
    )


def kerneloops(target: Target) -> Module:
    draft = Draft("kerneloops", target)
    return draft.module(
        "Stuck: init reads through a NULL pointer",
        (draft.say("level %d", Load(LEVEL)),),
        (draft.say("unloaded"),),
    )


def createoops(target: Target) -> Module:
    draft = Draft("createoops", target)
    return draft.module(
        "Stuck: a function that init calls stores to NULL",
        (draft.say("init begins"), call("prepare")),
        (draft.say("unloaded"),),
        functions=(Function("create_oops", (Oops(),)), Function("prepare", (call("create_oops"),))),
    )


def positive_init(target: Target) -> Module:
    draft = Draft("positive_init", target)
    return draft.module(
        "Healthy: init returns a positive number",
        (draft.say("returns 7"), Return(7)),
        (draft.say("unloaded"),),
    )


def one_shot(target: Target) -> Module:
    draft = Draft("one_shot", target)
    return draft.module(
        "Healthy: does its work in init, then fails on purpose",
        (draft.say("done"), Return(-errno.ECANCELED)),
    )


def failing_init(target: Target) -> Module:
    draft = Draft("failing_init", target)
    code = Load(At("code"), signed=True)
    return draft.module(
        "Fails: init returns an error of your choice",
        (draft.say("returns %d", code), Return(code)),
        (draft.say("unloaded"),),
        objects=(word("code", -errno.ENODEV),),
        parameters=(number("code", "what init returns (default -19, ENODEV)", signed=True),),
    )


def slow_init(target: Target) -> Module:
    draft = Draft("slow_init", target)
    return draft.module(
        "Slow: the loader lives, asleep in init",
        (
            draft.say("sleeps %u s", Load(At("seconds"))),
            call("msleep", sleep_seconds("seconds")),
            draft.say("loaded"),
        ),
        (draft.say("unloaded"),),
        objects=(word("seconds", 3600),),
        parameters=(number("seconds", "how long init sleeps (default 3600); no signal ends it"),),
    )


def late_oops(target: Target) -> Module:
    draft = Draft("late_oops", target)
    return draft.module(
        "Stuck: init sleeps, then dies in an oops",
        (
            draft.say("sleeps %u s", Load(At("seconds"))),
            call("msleep", sleep_seconds("seconds")),
            Oops(),
        ),
        (draft.say("unloaded"),),
        objects=(word("seconds", 5),),
        parameters=(number("seconds", "how long init sleeps (default 5); no signal ends it"),),
    )


def dead_dependent(target: Target) -> Module:
    draft = Draft("dead_dependent", target)
    return draft.module(
        "Stuck: depends on provider, and init dies in an oops",
        (*_answer(draft, "provider_answer"), Oops()),
        (draft.say("unloaded"),),
        depends="provider",
    )


def dead_provider(target: Target) -> Module:
    draft = Draft("dead_provider", target)
    return draft.module(
        "Stuck: exports a symbol, and init dies in an oops",
        (draft.say("init begins"), Oops()),
        (draft.say("unloaded"),),
        functions=(Function("dead_provider_answer", (Return(42),)),),
        exports=(Export("dead_provider_answer"),),
    )


def symbol_waiter(target: Target) -> Module:
    draft = Draft("symbol_waiter", target)
    return draft.module(
        "Waits: imports a symbol of a module whose init died",
        _answer(draft, "dead_provider_answer"),
        (draft.say("unloaded"),),
        depends="dead_provider",
    )


def _answer(draft: Draft, function: str) -> Block:
    return (call(function, into="answer"), draft.say("answer %d", Local("answer")))


FAULTS = (
    bug_mod1, bug_mod2, none_exit, kerneloops, createoops, positive_init, one_shot, failing_init, slow_init,
    late_oops, dead_dependent, dead_provider, symbol_waiter,
)  # fmt: skip
