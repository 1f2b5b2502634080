# SPDX-License-Identifier: MIT
"""The look that every plan is made from: the machine as it is now, the key that would sign the helper, and what
would dangle."""

from __future__ import annotations

from lkm.diagnosis.findings import Verdict
from lkm.names import ModuleName
from lkm.rescue.planner import plan_rescue
from lkm.rescue.request import Request
from lkm.rescue.result import Options
from lkm.rescue.signing import with_signer
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.scan.capture import with_scans
from lkm.system.snapshot import Snapshot

__all__ = ["look"]


def look(root: Root, options: Options, name: ModuleName, request: Request) -> Snapshot:
    """A snapshot to plan the removal of `name` from, with the symbols that the request names resolved.

    Kernel memory is searched for pointers into each module that would be removed, unless it is refused already:
    then none is removed; nor is one in quarantine.
    """
    snapshot = with_signer(capture(root, symbols=request.symbols), options.signer)
    if snapshot.module(name) is None or snapshot.policy.loadable is False:
        return snapshot
    plan = plan_rescue(snapshot, name, request)
    if plan.verdict is Verdict.REFUSE or request.quarantine:
        return snapshot
    return with_scans(root, snapshot, [step.module for step in plan.steps], progress=options.progress)
