# SPDX-License-Identifier: MIT
"""Sound modules: what the others are compared with, and what others depend on."""

from __future__ import annotations

from lkm.lab.assembled.faults.draft import Draft, number, word
from lkm.lab.assembled.language import (
    At,
    Export,
    Function,
    Load,
    Local,
    Module,
    Op,
    Operator,
    Parameter,
    Return,
    call,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS", "sleep_seconds"]


def decmod(target: Target) -> Module:
    draft = Draft("decmod", target)
    return draft.module("Healthy: loads and unloads", (draft.say("loaded"),), (draft.say("unloaded"),))


def dash_name(target: Target) -> Module:
    draft = Draft("dash-name", target)
    level = Parameter("level", "param_ops_int", "level", 0o644, "int", "does nothing")
    return draft.module(
        "Healthy: a dash in the file name, an underscore in the module name",
        (draft.say("loaded, level %d", Load(At("level"))),),
        (draft.say("unloaded"),),
        objects=(word("level", 1),),
        parameters=(level,),
    )


def provider(target: Target) -> Module:
    draft = Draft("provider", target)
    return draft.module(
        "Healthy: exports two symbols",
        (draft.say("loaded"),),
        (draft.say("unloaded"),),
        functions=(
            Function("provider_answer", (Return(42),)),
            Function("provider_answer_gpl", (Return(43),)),
        ),
        exports=(Export("provider_answer", gpl=False), Export("provider_answer_gpl")),
    )


def dependent(target: Target) -> Module:
    draft = Draft("dependent", target)
    return draft.module(
        "Healthy: depends on provider",
        (
            call("provider_answer", into="first"),
            call("provider_answer_gpl", into="second"),
            draft.say("answers %d and %d", Local("first"), Local("second")),
        ),
        (draft.say("unloaded"),),
        depends="provider",
    )


def slow_provider(target: Target) -> Module:
    draft = Draft("slow_provider", target)
    return draft.module(
        "Slow: exports a symbol, init sleeps first",
        (
            draft.say("sleeps %u s", Load(At("seconds"))),
            call("msleep", sleep_seconds("seconds")),
            draft.say("loaded"),
        ),
        (draft.say("unloaded"),),
        functions=(Function("slow_provider_answer", (Return(42),)),),
        objects=(word("seconds", 10),),
        parameters=(number("seconds", "how long init sleeps (default 10); no signal ends it"),),
        exports=(Export("slow_provider_answer"),),
    )


def slow_dependent(target: Target) -> Module:
    draft = Draft("slow_dependent", target)
    return draft.module(
        "Healthy: depends on slow_provider",
        (call("slow_provider_answer", into="answer"), draft.say("answer %d", Local("answer"))),
        (draft.say("unloaded"),),
        depends="slow_provider",
    )


def sleep_seconds(variable: str) -> Op:
    """The milliseconds in a variable that holds seconds."""
    return Op(Load(At(variable)), Operator.MULTIPLY, 1000)


FAULTS = (decmod, dash_name, provider, dependent, slow_provider, slow_dependent)
