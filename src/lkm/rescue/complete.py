# SPDX-License-Identifier: MIT
"""Steps → Plan: with all that the helper needs to make them, and with what is to be known before. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lkm.diagnosis.findings import FindingCode
from lkm.formats.keys import SigningKey
from lkm.names import ModuleName
from lkm.rescue.plan import Lock, Plan, Step, StepKind
from lkm.rescue.request import Request
from lkm.system.snapshot import Policy, Snapshot

__all__ = ["ACCESS", "complete_plan", "needed_symbols"]

ACCESS = ("copy_from_kernel_nofault", "copy_to_kernel_nofault")
"""The kernel functions with which the helper accesses memory."""


def complete_plan(
    snapshot: Snapshot,
    name: ModuleName,
    steps: Sequence[Step],
    request: Request,
    *,
    warnings: Sequence[str] = (),
) -> Plan:
    """The plan of these steps; `warnings` come after those that every plan can have."""
    verdict = max((step.verdict for step in steps), key=lambda verdict: verdict.rank)
    needed = any(step.needs_helper for step in steps)
    sibling = snapshot.sibling if needed else None
    return Plan(
        module=name,
        release=snapshot.release,
        machine=snapshot.machine,
        verdict=verdict,
        steps=tuple(steps),
        symbols=_symbols(snapshot, steps) if needed else {},
        struct_size=sibling.size if sibling else 0,
        sibling=sibling.path if sibling else "",
        build_id=sibling.build_id if sibling else "",
        warnings=(*_warnings(snapshot, steps, request, edits=needed), *warnings),
        sibling_crc=sibling.crc if sibling else None,
        request=request,
    )


def needed_symbols(steps: Sequence[Step]) -> tuple[str, ...]:
    """The kernel symbols without which the helper cannot make these steps."""
    used = [step.lock for step in steps if step.needs_helper]
    locks = [lock.symbol for lock in used if not lock.may_be_hidden]
    return tuple(dict.fromkeys([*ACCESS, *(name for lock in used for name in lock.functions), *locks]))


def _symbols(snapshot: Snapshot, steps: Sequence[Step]) -> dict[str, int]:
    locks = (step.lock.symbol for step in steps if step.needs_helper and step.lock is not Lock.NONE)
    wanted = dict.fromkeys((*needed_symbols(steps), *locks))
    return {name: snapshot.symbols[name] for name in wanted if snapshot.symbols.get(name)}


def _warnings(snapshot: Snapshot, steps: Sequence[Step], request: Request, *, edits: bool) -> tuple[str, ...]:
    policy = snapshot.policy
    warnings = []
    own = [step for step in steps if step.kind is not StepKind.HEAL]
    if policy.panic_on_oops and own:
        warnings.append("panic_on_oops is set: should an exit function oops, the machine goes down")
    if policy.panic_on_warn:
        warnings.append("panic_on_warn is set: any warning takes the machine down")
    if edits:
        warnings += _signing_warnings(policy)
        takes_mutex = any(step.needs_helper and step.lock is Lock.MODULE_MUTEX for step in steps)
        if takes_mutex and not snapshot.symbols.get("module_mutex"):
            warnings.append(
                "module_mutex is hidden on this kernel: the helper relies on its expectations alone"
            )
    warnings += _scan_warnings(snapshot, own)
    exit_runs = bool(own) and own[-1].kind is StepKind.REMOVE and own[-1].exit_runs
    if request.run_exit and exit_runs:
        warnings.append("its own exit runs in its removal: --run-exit changes nothing")
    if request.calls and exit_runs:
        warnings.append("its own exit runs after the calls: what they undo, it may undo once more, and crash")
    if request.run_exit and FindingCode.EXIT_DIED.value in own[-1].findings:
        warnings.append("its exit died before, and is called once more: it may die again")
    if policy.selinux_enforcing and edits:
        warnings.append("SELinux is enforcing: it may refuse the helper")
    return tuple(warnings)


def _scan_warnings(snapshot: Snapshot, own: Sequence[Step]) -> list[str]:
    """Of each module that is removed though memory could not be searched for pointers into it."""
    removed = {step.module for step in own}
    return [
        f"kernel memory was not searched for pointers into {scan.module}, and the verdict leaves them out: "
        f"{scan.error}"
        for scan in snapshot.scans
        if scan.error and scan.module in removed
    ]


def _signing_warnings(policy: Policy) -> list[str]:
    signer = policy.signer
    if signer is None:
        return ["the kernel stays tainted: an out-of-tree, unsigned module was loaded"]
    warnings = [
        "the kernel stays tainted: an out-of-tree module was loaded",
        f"the helper is signed by {signer.subject} (id {signer.id}), whose key is in {_where(signer)}",
    ]
    if signer.keyrings == (".platform",):
        warnings.append(
            "keys of .platform sign modules on kernels of Debian, Fedora, SUSE and Ubuntu, and on no others"
        )
    return warnings


def _where(signer: SigningKey) -> str:
    if signer.keyrings is None:
        return "a keyring that could not be read, or in none"
    return " and ".join(signer.keyrings) or "no keyring of the kernel's"
