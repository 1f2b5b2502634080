# SPDX-License-Identifier: MIT
"""What a rescue is asked for, and what came of it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

from lkm.diagnosis.findings import Diagnosis
from lkm.names import ModuleName
from lkm.rescue.heal import Healing
from lkm.rescue.plan import Plan
from lkm.rescue.proof import Check
from lkm.rescue.request import Request
from lkm.rescue.signing import Signer
from lkm.system.kmsg import KmsgLine
from lkm.system.scan.engine import Progress, silent

__all__ = ["Options", "Outcome", "RescueResult"]


class Outcome(Enum):
    """How a rescue ended. The values are part of the JSON contract."""

    PLANNED = "planned"  # nothing was done, on request; the plan would be executed
    RESCUED = "rescued"  # edits, removal, and proved
    REMOVED = "removed"  # plain removal was sound
    QUARANTINED = "quarantined"  # as asked: the name is released and the memory stays, and proved
    NOT_LOADED = "not-loaded"
    REFUSED = "refused"  # nothing was written
    STOPPED = "stopped"  # begun, and then refused: something blocks, or it died and something dangles
    FAILED = "failed"

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self in (Outcome.PLANNED, Outcome.RESCUED, Outcome.REMOVED, Outcome.QUARANTINED)


class Options(NamedTuple):
    """What the caller decides.

    request       what the plan is to contain beside the removal
    force         accept a verdict `crash`
    recorded      a plan made before: executed only if one made now, of the same request, is the same
    record        the path of the record; "": none is kept
    exit_seconds  how long an exit function, or a clean-up call, may take
    signer        signs the helper; None: it is loaded unsigned
    progress      told bytes done and in all while kernel memory is searched
    """

    request: Request = Request()
    force: bool = False
    recorded: Optional[Plan] = None
    record: str = ""
    exit_seconds: float = 10.0
    signer: Optional[Signer] = None
    progress: Progress = silent


class RescueResult(NamedTuple):
    """What was found, planned, done and seen. `later_plans` were made on the way, when something died, or
    after clean-up calls. `heal`: what came of its heal step, where it came to one."""

    module: ModuleName
    outcome: Outcome
    reason: str
    remedy: str
    plan: Optional[Plan]
    before: Diagnosis
    after: Optional[Diagnosis] = None
    kernel_messages: tuple[KmsgLine, ...] = ()
    proof: tuple[Check, ...] = ()
    later_plans: tuple[Plan, ...] = ()
    heal: Optional[Healing] = None
    differs: tuple[str, ...] = ()
    record: str = ""
    needs_root: bool = False
