# SPDX-License-Identifier: MIT
"""Snapshot → Plan. Pure. The edits per situation, in the order in which they are written:

    init died (coming)     exports hidden, init = exit = NULL, refcnt = 1, state = LIVE
    exit died (going)      the same
    no exit                init = NULL, so that delete_module does not ask for one; refcnt = 1 if it leaked
    count leaked, corrupt  refcnt = 1; the module's own exit runs

Pointers come first, then refcnt, then state: a LIVE module whose raw count is 0 makes the next removal BUG
(try_release_module_ref). Exports are hidden because a load that waits for one of them would, in the moment
when the module is LIVE, take a reference and build on it (resolve_symbol_wait).
"""

from __future__ import annotations

from collections.abc import Sequence

from lkm.diagnosis.diagnose import diagnose, without_module
from lkm.diagnosis.findings import Diagnosis, FindingCode, Verdict
from lkm.diagnosis.references import removal_order
from lkm.errors import LkmError
from lkm.formats.keys import SigningKey
from lkm.names import ModuleName
from lkm.rescue.clean_up import plan_clean_up
from lkm.rescue.plan import Edit, EditKind, Plan, Step
from lkm.rescue.request import Request
from lkm.system.snapshot import Layout, LoadedModule, ModuleState, Policy, RawModule, Snapshot

__all__ = ["ACCESS", "needed_symbols", "plan_rescue"]

ACCESS = ("copy_from_kernel_nofault", "copy_to_kernel_nofault")
"""The kernel functions with which the helper accesses memory."""

IDLE_RAW = 1
"""Raw count of an idle LIVE module: MODULE_REF_BASE."""


def plan_rescue(snapshot: Snapshot, name: ModuleName, request: Request = Request()) -> Plan:  # noqa: B008
    """The plan to remove `name`, with what else is asked for. LkmError if it is not loaded.

    A plan is made for every verdict; the gate decides whether it may be executed.
    """
    order = removal_order(snapshot, name) if request.with_dependents else [name]
    steps: list[Step] = []
    state = snapshot
    for module in order:
        steps += _plan_module(state, module, request if module == name else Request())
        state = without_module(state, module)
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
        warnings=_warnings(snapshot, steps, request, edits=needed),
        sibling_crc=sibling.crc if sibling else None,
        request=request,
    )


def needed_symbols(steps: Sequence[Step]) -> tuple[str, ...]:
    """The kernel functions without which the helper cannot make these steps."""
    locks = (step.lock.functions for step in steps if step.needs_helper)
    return tuple(dict.fromkeys([*ACCESS, *(name for names in locks for name in names)]))


def _symbols(snapshot: Snapshot, steps: Sequence[Step]) -> dict[str, int]:
    locks = (step.lock.value for step in steps if step.needs_helper)
    wanted = dict.fromkeys((*needed_symbols(steps), *locks))
    return {name: snapshot.symbols[name] for name in wanted if snapshot.symbols.get(name)}


def _warnings(snapshot: Snapshot, steps: list[Step], request: Request, *, edits: bool) -> tuple[str, ...]:
    policy = snapshot.policy
    warnings = []
    if policy.panic_on_oops:
        warnings.append("panic_on_oops is set: should an exit function oops, the machine goes down")
    if policy.panic_on_warn:
        warnings.append("panic_on_warn is set: any warning takes the machine down")
    if edits:
        warnings += _signing_warnings(policy)
        if not snapshot.symbols.get("module_mutex"):
            warnings.append(
                "module_mutex is hidden on this kernel: the helper relies on its expectations alone"
            )
    if request.run_exit and all(step.exit_runs for step in steps if step.module == steps[-1].module):
        warnings.append("its own exit runs in its removal: --run-exit changes nothing")
    if request.run_exit and FindingCode.EXIT_DIED.value in steps[-1].findings:
        warnings.append("its exit died before, and is called once more: it may die again")
    if policy.selinux_enforcing and edits:
        warnings.append("SELinux is enforcing: it may refuse the helper")
    dead_init = any(FindingCode.INIT_DIED.value in step.findings for step in steps)
    if dead_init and snapshot.symbols.get("idem_hash"):
        warnings.append(
            "the file whose load died must not be loaded by finit_module(2) again until a restart (insmod, modprobe "
            "and lkm load use that): its entry in idem_hash dangles (idempotent_init_module, since 6.5)"
        )
    return tuple(warnings)


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


def _plan_module(snapshot: Snapshot, name: ModuleName, request: Request) -> list[Step]:
    module = snapshot.module(name)
    if module is None:
        raise LkmError(f"{name} is not loaded", remedy="lkm list shows what is")
    diagnosis = diagnose(snapshot, name)
    clean_up = plan_clean_up(snapshot, module, diagnosis, request, _identity(snapshot.layout, module))
    removal = Step(
        module=name,
        address=module.address,
        findings=tuple(dict.fromkeys(finding.code.value for finding in diagnosis.findings)),
        verdict=diagnosis.verdict or Verdict.REFUSE,
        reason=diagnosis.reason,
        remedy=diagnosis.remedy,
        exit_runs=diagnosis.exit_runs,
        edits=_plan_edits(snapshot.layout, module, diagnosis),
    )
    return [clean_up, removal] if clean_up else [removal]


def _identity(layout: Layout | None, module: LoadedModule) -> list[Edit]:
    """That the module is still the one that was diagnosed."""
    if layout is None or module.raw is None or not module.address:
        return []
    edit = _Editor(module.address, layout, module.raw)
    return [*edit.identity(), *edit.unchanged([])]


def _plan_edits(layout: Layout | None, module: LoadedModule, diagnosis: Diagnosis) -> tuple[Edit, ...]:
    """None where plain removal is sound, where nothing is, and where the gate will say what is missing."""
    raw = module.raw
    if diagnosis.verdict is Verdict.REFUSE or layout is None or raw is None or not module.address:
        return ()
    edit = _Editor(module.address, layout, raw)
    dead = diagnosis.has(FindingCode.INIT_DIED, FindingCode.EXIT_DIED)
    if dead:
        writes = [
            *edit.hide_exports(),
            *edit.clear_exit(),
            *edit.clear_init(),
            edit.reset_refcnt(),
            edit.make_live(),
        ]
    else:
        writes = edit.clear_init() if diagnosis.has(FindingCode.NO_EXIT) else []
        if diagnosis.has(FindingCode.UNEXPLAINED_REFERENCES, FindingCode.REFCNT_CORRUPT):
            writes.append(edit.reset_refcnt())
    if not writes:
        return ()
    return (*edit.identity(), *edit.unchanged(writes), *writes)


class _Editor:
    """Makes the edits of one struct module."""

    def __init__(self, address: int, layout: Layout, raw: RawModule) -> None:
        self._address = address
        self._layout = layout
        self._raw = raw

    def identity(self) -> list[Edit]:
        """The name at the address is the target's, whatever was read before."""
        name = self._raw.name.encode() + b"\0"
        padded = name.ljust(-len(name) % 8 + len(name), b"\0")
        start = self._address + self._layout.name
        return [
            _check(f"name[{at}:{at + 8}]", start + at, 8, int.from_bytes(padded[at : at + 8], "little"))
            for at in range(0, len(padded), 8)
        ]

    def unchanged(self, writes: list[Edit]) -> list[Edit]:
        """State and refcnt are expected even where they are not written."""
        written = {edit.field for edit in writes}
        checks = {
            "refcnt": _check("refcnt", self._at(self._layout.refcnt), 4, self._raw.refcnt & 0xFFFFFFFF),
            "state": _check("state", self._at(self._layout.state), 4, self._raw.state),
        }
        return [check for field, check in checks.items() if field not in written]

    def hide_exports(self) -> list[Edit]:
        layout, raw = self._layout, self._raw
        counts = (
            ("num_syms", layout.num_syms, raw.num_syms),
            ("num_gpl_syms", layout.num_gpl_syms, raw.num_gpl_syms),
        )
        return [
            _store(field, self._at(offset), 4, value, 0)
            for field, offset, value in counts
            if offset and value
        ]

    def clear_init(self) -> list[Edit]:
        return self._clear("init", self._layout.init, self._raw.init)

    def clear_exit(self) -> list[Edit]:
        return self._clear("exit", self._layout.exit, self._raw.exit)

    def reset_refcnt(self) -> Edit:
        address, old = self._at(self._layout.refcnt), self._raw.refcnt & 0xFFFFFFFF
        return Edit("refcnt", address, 4, old, IDLE_RAW, EditKind.CMPXCHG)

    def make_live(self) -> Edit:
        live = ModuleState.LIVE.number
        return _store("state", self._at(self._layout.state), 4, self._raw.state, live)

    def _clear(self, field: str, offset: int, value: int) -> list[Edit]:
        return [_store(field, self._at(offset), 8, value, 0)] if value else []

    def _at(self, offset: int) -> int:
        return self._address + offset


def _check(field: str, address: int, width: int, value: int) -> Edit:
    return Edit(field, address, width, value, value, EditKind.CHECK)


def _store(field: str, address: int, width: int, old: int, new: int) -> Edit:
    return Edit(field, address, width, old, new, EditKind.STORE)
