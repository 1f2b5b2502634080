# SPDX-License-Identifier: MIT
"""Modules whose count of references is wrong."""

from __future__ import annotations

from lkm.lab.assembled.faults.draft import OWNER, Draft, number, word
from lkm.lab.assembled.language import (
    At,
    Block,
    Function,
    Load,
    Local,
    Module,
    Op,
    Operator,
    Parameter,
    Set,
    Store,
    While,
    call,
    struct_object,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS"]


def leak_ref(target: Target) -> Module:
    draft = Draft("leak_ref", target)
    return draft.module(
        "Stuck: holds references on itself that nobody will give back",
        (*_count_times("__module_get"), draft.say("leaked %u", Load(At("count")))),
        (draft.say("unloaded"),),
        objects=(word("count", 1),),
        parameters=(number("count", "how many references to leak (default 1)"),),
    )


def put_too_many(target: Target) -> Module:
    draft = Draft("put_too_many", target)
    put = Parameter("put", "put_ops", "", 0o200, "", "each write gives back one reference")
    return draft.module(
        "Stuck: a negative count, one module_put() too many",
        (*_count_times("module_put"), draft.say("gave back %u", Load(At("count")))),
        (draft.say("unloaded"),),
        functions=(Function("put_one", (call("module_put", OWNER),), ("value", "parameter")),),
        objects=(word("count", 1), struct_object("put_ops", "kernel_param_ops", {"set": At("put_one")})),
        parameters=(number("count", "how many references init gives back (default 1)"), put),
    )


def absurd_count(target: Target) -> Module:
    """One is the base of the counter, one the loader gives back after init."""
    draft = Draft("absurd_count", target)
    counter = At(OWNER.symbol, target.btf.offset("module", "refcnt"))
    count = Load(At("count"), signed=True)
    return draft.module(
        "Stuck: the count is overwritten",
        (Store(counter, Op(count, Operator.ADD, 2)), draft.say("count set to %d", count)),
        (draft.say("unloaded"),),
        objects=(word("count", 0x3FFFFFFF),),
        parameters=(number("count", "the count to show (default 0x3fffffff)", signed=True),),
    )


def _count_times(function: str) -> Block:
    """Call the function with this module as often as the parameter `count` says."""
    return (
        Set("done", 0),
        While(
            Op(Local("done"), Operator.LESS, Load(At("count"))),
            (call(function, OWNER), Set("done", Op(Local("done"), Operator.ADD, 1))),
        ),
    )


FAULTS = (leak_ref, put_too_many, absurd_count)
