# SPDX-License-Identifier: MIT
"""Plain removal, after a look: with a count below zero, delete_module alone hangs the machine."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional

from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Diagnosis, FindingCode, Verdict
from lkm.errors import NeedsRoot, NoLoadableModules
from lkm.names import ModuleName
from lkm.rescue.execute import Removal, execute_removal
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.kmsg import KmsgLine, KmsgTail

__all__ = ["UnloadResult", "unload"]

PASSING = (FindingCode.REFERENCED, FindingCode.UNEXPLAINED_REFERENCES, FindingCode.INIT_RUNNING,
           FindingCode.EXIT_RUNNING, FindingCode.DEPENDENTS, FindingCode.UNFORMED)  # fmt: skip
"""What can go away by itself, so that waiting is worth it."""
PAUSE = 0.25


class UnloadResult(NamedTuple):
    """`removal` is None where it was not tried, because the diagnosis had something against it."""

    diagnosis: Diagnosis
    removal: Optional[Removal]
    messages: tuple[KmsgLine, ...] = ()


def unload(root: Root, name: ModuleName, *, wait: float, exit_seconds: float) -> UnloadResult:
    """Remove `name` if that is sound, waiting up to `wait` seconds for references to go away."""
    deadline = time.monotonic() + wait
    while True:
        snapshot = capture(root)
        if snapshot.policy.loadable is False:
            raise NoLoadableModules
        diagnosis = diagnose(snapshot, name)
        if diagnosis.state is not None and snapshot.policy.euid != 0:
            raise NeedsRoot(f"unloading {name} needs CAP_SYS_MODULE", remedy="run it as root")
        if diagnosis.verdict is Verdict.REMOVABLE:
            break
        if time.monotonic() >= deadline or not diagnosis.has(*PASSING):
            return UnloadResult(diagnosis, None)
        time.sleep(PAUSE)
    with KmsgTail(root) as tail:
        removal = execute_removal(name, seconds=exit_seconds)
        return UnloadResult(diagnosis, removal, tail.read_new())
