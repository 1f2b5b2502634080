# SPDX-License-Identifier: MIT
"""The clean-up step: calls that undo what a module has set up, made before its removal. Pure.

They stand for the exit function that one would have to write in C. The helper makes them without a lock, and
only if the module is still the one that was diagnosed and every value that they pass is still the one shown.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from lkm.diagnosis.findings import Diagnosis, Verdict
from lkm.rescue.plan import Argument, Call, Edit, EditKind, Lock, Step, StepKind
from lkm.rescue.request import ArgumentRequest, CallRequest, Request
from lkm.system.snapshot import LoadedModule, ResolvedSymbol, Snapshot, SymbolPlace

__all__ = ["plan_clean_up"]

TEXT_TYPES = "tTwW"


class _Refused(NamedTuple):
    """Why a call cannot be planned, and what to do."""

    reason: str
    remedy: str


def plan_clean_up(
    snapshot: Snapshot, module: LoadedModule, diagnosis: Diagnosis, request: Request, identity: list[Edit]
) -> Step | None:
    """The step, or None if none is asked for. What cannot be resolved makes its verdict `refuse`.

    `identity` are the checks that the target is the one that was diagnosed.
    """
    runs_exit = request.run_exit and not diagnosis.exit_runs
    if not request.calls and not runs_exit:
        return None
    checks = list(identity)
    calls: list[Call] = []
    refused: _Refused | None = None
    for asked in request.parsed_calls:
        made = _plan_call(snapshot, module, asked, checks)
        if isinstance(made, _Refused):
            refused = refused or made
        else:
            calls.append(made)
    if runs_exit:
        own = _own_exit(snapshot, module, checks)
        if isinstance(own, _Refused):
            refused = refused or own
        else:
            calls.append(own)
    return Step(
        module=module.name,
        address=module.address,
        findings=(),
        verdict=Verdict.REFUSE if refused else Verdict.SAFE,
        reason=refused.reason
        if refused
        else "calls undo what it has set up; its removal is judged after them",
        remedy=refused.remedy if refused else "",
        exit_runs=False,
        edits=() if refused else tuple(checks),
        kind=StepKind.CLEAN_UP,
        lock=Lock.NONE,
        before=() if refused else tuple(calls),
    )


def _plan_call(
    snapshot: Snapshot, module: LoadedModule, asked: CallRequest, checks: list[Edit]
) -> Union[Call, _Refused]:
    function = _place(snapshot, module, asked.function)
    if isinstance(function, _Refused):
        return function
    if function.type not in TEXT_TYPES:
        return _Refused(f"{asked.function} is data (type {function.type}), no function", "see /proc/kallsyms")
    if function.freed:
        return _Refused(
            f"{asked.function} is init code of the kernel, whose memory was given back after boot",
            "call another function",
        )
    arguments = []
    for wanted in asked.arguments:
        argument = _plan_argument(snapshot, module, wanted, checks)
        if isinstance(argument, _Refused):
            return argument
        arguments.append(argument)
    return Call(asked.function, function.address, tuple(arguments))


def _plan_argument(
    snapshot: Snapshot, module: LoadedModule, wanted: ArgumentRequest, checks: list[Edit]
) -> Union[Argument, _Refused]:
    if wanted.number is not None:
        return Argument(wanted.number)
    if wanted.text is not None:
        return Argument(text=wanted.text)
    place = _place(snapshot, module, wanted.symbol)
    if isinstance(place, _Refused):
        return place
    if not wanted.value:
        return Argument(place.address, shown=wanted.shown)
    if place.value is None:
        return _Refused(
            f"the value at {wanted.symbol} ({place.address:#x}) cannot be read",
            "give the address itself, as a number",
        )
    checks.append(Edit(wanted.shown, place.address, 8, place.value, place.value, EditKind.CHECK))
    return Argument(place.value, shown=wanted.shown)


def _own_exit(snapshot: Snapshot, module: LoadedModule, checks: list[Edit]) -> Union[Call, _Refused]:
    if snapshot.layout is None or module.raw is None or not module.raw.exit:
        return _Refused(
            f"{module.name} has no exit function to run",
            "undo what it set up with --call, or leave --run-exit out",
        )
    address = module.address + snapshot.layout.exit
    checks.append(Edit("exit", address, 8, module.raw.exit, module.raw.exit, EditKind.CHECK))
    return Call(f"{module.name}:exit", module.raw.exit)


def _place(snapshot: Snapshot, module: LoadedModule, name: str) -> Union[SymbolPlace, _Refused]:
    """The one place of that name in the target or the kernel; elsewhere it has to be said in which module."""
    resolved = next((item for item in snapshot.resolved if item.name == name), ResolvedSymbol(name))
    qualified = ":" in name
    near = [place for place in resolved.places if qualified or place.module in ("", module.name)]
    if len({place.address for place in near}) == 1:
        return near[0]
    if near:
        shown = ", ".join(f"{place.address:#x} [{place.module or 'vmlinux'}]" for place in near)
        kinds = {place.module or "vmlinux" for place in near}
        remedy = (
            f"say which: {' or '.join(f'{kind}:{name}' for kind in sorted(kinds))}"
            if len(kinds) > 1
            else "give its address as a number, or call another function"
        )
        return _Refused(f"{name} is ambiguous: {shown}", remedy)
    others = sorted({place.module for place in resolved.places})
    if others:
        return _Refused(
            f"{name} is neither in {module.name} nor in the kernel, but in {', '.join(others)}",
            f"say so: {others[0]}:{name}",
        )
    return _Refused(f"{name} is not in /proc/kallsyms", "check its spelling; data needs CONFIG_KALLSYMS_ALL")
