# SPDX-License-Identifier: MIT
"""Executes one step of a plan: the helper edits and calls, delete_module removes. The only place that does.

Both run in a child with a deadline: an exit function that oopses kills its caller, one that blocks never
returns.
"""

from __future__ import annotations

import errno
import itertools
import os
from enum import Enum
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.module import parse_module
from lkm.names import ModuleName
from lkm.rescue.assemble import assemble_helper
from lkm.rescue.helper import helper_code
from lkm.rescue.plan import Edit, Plan, Step
from lkm.rescue.signing import Signer, sign_module
from lkm.rescue.table import HelperAnswer, HelperOutcome, decode_answer, operations
from lkm.system.calls import CallResult, delete_module, init_module

__all__ = ["HelperFailure", "Removal", "RemovalOutcome", "execute_removal", "execute_step"]

HELPER_SECONDS = 20.0
"""The helper works for microseconds; what takes long is a guest under emulation."""


UNTRUSTED = (errno.EKEYREJECTED, errno.ENOKEY, errno.EPERM)
"""What module_sig_check (6.1) answers where no key fits: the first, enforced; EPERM under lockdown."""


class HelperFailure(NamedTuple):
    """Not all is done. `reason` says why, and what that means for the kernel's memory.

    operation  the field of the edit, or the function of the call, that it is about, "" where it is about none
    helper     the name of the helper, where it is still loaded: it died in a call, or has not come back
    pid        of its loader, where that is still there
    """

    outcome: HelperOutcome
    reason: str
    operation: str = ""
    helper: str = ""
    pid: int = 0


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


def execute_step(
    plan: Plan, step: Step, *, signer: Signer | None = None, seconds: float | None = None
) -> HelperFailure | None:
    """Do what the helper does for the step, with one assembled for this kernel, signed where there is a signer;
    None: all is done.

    The helper is loaded with init_module(2), from memory: no file is left, and since 6.5 a stale entry in the
    kernel's table of files being loaded (idempotent_init_module) is not met. `seconds` is the deadline: a loader
    that outlives it is left to go on where it makes calls, and is killed where it would only write, late.
    """
    seconds = HELPER_SECONDS if seconds is None else seconds
    name = f"lkm_helper_{os.getpid()}_{next(_numbers)}"
    image = _assemble(plan, step, name)
    if signer is not None:
        image = sign_module(image, signer)
    result = init_module(image, seconds=seconds, kill=not (step.before or step.after))
    if result.timed_out:
        reason = (
            f"{_calls(step)} did not come back within {seconds:g} s (pid {result.pid}), and may still do so"
        )
        return HelperFailure(HelperOutcome.BLOCKS, reason, helper=name, pid=result.pid)
    if result.signal is not None:
        reason = f"{_calls(step)} died (its caller was killed by signal {result.signal})"
        return HelperFailure(HelperOutcome.DIED, reason, helper=name)
    answer = decode_answer(result.errno)
    if answer.outcome is HelperOutcome.WRITTEN:
        return None
    if answer.outcome is HelperOutcome.NOT_RUN:
        return _not_taken(result, signer)
    return _failure(answer, step)


_numbers = itertools.count(1)


def _calls(step: Step) -> str:
    functions = [call.function for call in (*step.before, *step.after)]
    return " or ".join(functions) or "the helper"


def _assemble(plan: Plan, step: Step, name: str) -> bytes:
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
    return assemble_helper(helper_code(plan.machine), sibling, step, symbols=plan.symbols, name=name)


def _not_taken(result: CallResult, signer: Signer | None) -> HelperFailure:
    why = os.strerror(result.errno)
    if signer is not None and result.errno in UNTRUSTED:
        locked = "under lockdown that means that " if result.errno == errno.EPERM else ""
        why += f": {locked}it does not trust the key of {signer.identity.subject} for modules"
    reason = f"the kernel did not take the helper ({why}); nothing was written"
    return HelperFailure(HelperOutcome.NOT_RUN, reason)


def _failure(answer: HelperAnswer, step: Step) -> HelperFailure:
    if answer.outcome is HelperOutcome.LOCK_HELD:
        return HelperFailure(answer.outcome, f"{step.lock.symbol} is held; nothing was written")
    about = operations(step)[answer.operation or 0]
    undone = answer.outcome in (HelperOutcome.UNWRITABLE, HelperOutcome.CHANGED, HelperOutcome.CALL_FAILED)
    then = "what was written before it was undone" if undone else "nothing was written"
    if answer.outcome is HelperOutcome.NOT_UNDONE:
        then = "a later write or call failed, and this value has changed in between"
    name = about.field if isinstance(about, Edit) else about.function
    return HelperFailure(answer.outcome, f"{answer.outcome.value}: {about}; {then}", name)


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
