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
from lkm.root import Root
from lkm.system.calls import CallResult, delete_module, init_module

__all__ = ["EditFailure", "Removal", "RemovalOutcome", "execute_edits", "execute_removal"]

HELPER_SECONDS = 20.0
"""The helper works for microseconds; what takes long is a guest under emulation."""


class EditFailure(NamedTuple):
    """The helper wrote nothing (or undid what it had): `reason` says why, `edit` which entry it is about."""

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


def execute_edits(root: Root, plan: Plan, step: Step) -> EditFailure | None:
    """Make the step's edits with a helper assembled for this kernel; None: all are written.

    The helper is loaded with init_module(2), from memory: no file is left, and since 6.5 a stale entry in the
    kernel's table of files being loaded (idempotent_init_module) is not met.
    """
    image = _assemble(root, plan, step)
    result = init_module(image, seconds=HELPER_SECONDS)
    if result.timed_out:
        return EditFailure(
            HelperOutcome.NOT_RUN,
            f"the load of the helper did not return in {HELPER_SECONDS:g} s: module_mutex is held",
        )
    if result.signal is not None:
        return EditFailure(
            HelperOutcome.NOT_RUN, f"the load of the helper was killed by signal {result.signal}"
        )
    answer = decode_answer(result.errno)
    if answer.outcome is HelperOutcome.WRITTEN:
        return None
    return _failure(answer, step, result)


def _assemble(root: Root, plan: Plan, step: Step) -> bytes:
    path = plan.sibling
    try:
        with open(root.join(path) if root.path != "/" else path, "rb") as stream:
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


def _failure(answer: HelperAnswer, step: Step, result: CallResult) -> EditFailure:
    if answer.outcome is HelperOutcome.NOT_RUN:
        return EditFailure(answer.outcome, f"the kernel did not take the helper: {os.strerror(result.errno)}")
    if answer.edit is None or answer.edit >= len(step.edits):
        return EditFailure(answer.outcome, answer.outcome.value)
    edit = step.edits[answer.edit]
    return EditFailure(answer.outcome, f"{answer.outcome.value}: {edit}", edit.field)


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
