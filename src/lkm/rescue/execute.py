# SPDX-License-Identifier: MIT
"""Executes one step of a plan: the helper makes the edits, delete_module removes. The only place that does.

Both run in a child with a deadline: an exit function that oopses kills its caller, one that blocks never
returns.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.module import parse_module
from lkm.names import ModuleName
from lkm.rescue.assemble import HelperAnswer, HelperOutcome, assemble_helper, decode_answer
from lkm.rescue.helper import helper_code
from lkm.rescue.plan import Plan, Step
from lkm.system.calls import CallResult, delete_module, init_module

__all__ = ["EditFailure", "Removal", "RemovalOutcome", "execute_edits", "execute_removal"]

HELPER_SECONDS = 20.0
"""The helper works for microseconds; what takes long is a guest under emulation."""


class EditFailure(NamedTuple):
    """Not all is written. `reason` says why, and what that means for the kernel's memory; `edit` is the field
    of the edit that it is about, "" where it is about none."""

    outcome: HelperOutcome
    reason: str
    edit: str = ""


class RemovalOutcome(Enum):
    """How delete_module ended."""

    REMOVED = "removed"
    FAILED = "failed"
    DIED = "died"
    BLOCKS = "blocks"


class Removal(NamedTuple):
    """`errno` where it failed, `signal` where the exit died, `pid` of the caller that still waits."""

    outcome: RemovalOutcome
    errno: int = 0
    signal: int = 0
    pid: int = 0


def execute_edits(plan: Plan, step: Step) -> EditFailure | None:
    """Make the step's edits with a helper assembled for this kernel; None: all are written.

    The helper is loaded with init_module(2), from memory: no file is left, and since 6.5 a stale entry in the
    kernel's table of files being loaded (idempotent_init_module) is not met.
    """
    image = _assemble(plan, step)
    result = init_module(image, seconds=HELPER_SECONDS)
    if result.timed_out:
        reason = f"the load of the helper did not return in {HELPER_SECONDS:g} s, and may still do its work"
        return EditFailure(HelperOutcome.UNKNOWN, reason)
    if result.signal is not None:
        reason = f"the load of the helper was killed by signal {result.signal}: what it wrote is not known"
        return EditFailure(HelperOutcome.UNKNOWN, reason)
    answer = decode_answer(result.errno)
    if answer.outcome is HelperOutcome.WRITTEN:
        return None
    edit = "" if answer.edit is None else step.edits[answer.edit].field
    return EditFailure(answer.outcome, _reason(answer, step, result), edit)


def _assemble(plan: Plan, step: Step) -> bytes:
    path = plan.sibling
    try:
        with open(path, "rb") as stream:
            sibling = parse_module(stream.read(), name=path)
    except OSError as error:
        raise LkmError(
            f"{path} cannot be read: {error.strerror}", remedy="install the running kernel's package"
        ) from error
    build_id = sibling.build_id.hex() if sibling.build_id else ""
    if build_id != plan.build_id:
        raise LkmError(f"{path} is another file than when the plan was made", remedy="make a new plan")
    if sibling.this_module.size != plan.struct_size:
        raise LkmError(f"{path}: struct module has another size than in the plan", remedy="make a new plan")
    name = f"lkm_helper_{os.getpid()}"
    return assemble_helper(helper_code(plan.machine), sibling, step.edits, symbols=plan.symbols, name=name)


def _reason(answer: HelperAnswer, step: Step, result: CallResult) -> str:
    if answer.outcome is HelperOutcome.NOT_RUN:
        return f"the kernel did not take the helper ({os.strerror(result.errno)}); nothing was written"
    undone = answer.outcome in (HelperOutcome.UNWRITABLE, HelperOutcome.CHANGED)
    then = "what was written before it was undone" if undone else "nothing was written"
    where = "" if answer.edit is None else f": {step.edits[answer.edit]}"
    return f"{answer.outcome.value}{where}; {then}"


def execute_removal(name: ModuleName, *, seconds: float) -> Removal:
    """delete_module(name, O_NONBLOCK), which calls the module's exit where there is one."""
    result = delete_module(name, seconds=seconds, kill=False)
    if result.timed_out:
        return Removal(RemovalOutcome.BLOCKS, pid=result.pid)
    if result.signal is not None:
        return Removal(RemovalOutcome.DIED, signal=result.signal)
    if result.errno:
        return Removal(RemovalOutcome.FAILED, errno=result.errno)
    return Removal(RemovalOutcome.REMOVED)
