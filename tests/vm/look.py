# SPDX-License-Identifier: MIT
"""A scan and a diagnosis of modules in a guest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lkm.lab.vm import Guest
from tests.vm.talk import run_python

__all__ = ["look"]

LOOK = """
import json, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.diagnosis.diagnose import diagnose
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.scan.capture import with_scans
from lkm.values import encode
names = sys.argv[1:]
snapshot = with_scans(Root.live(), capture(Root.live()), names)
answers = [{"scan": encode(scan), "why": encode(diagnose(snapshot, scan.module))} for scan in snapshot.scans]
json.dump(answers, sys.stdout)
"""


def look(guest: Guest, names: Iterable[str]) -> dict[str, Any]:
    """The scan and the diagnosis of each, of one look."""
    found = json.loads(run_python(guest, LOOK, *names, timeout=300))
    return {each["scan"]["module"]: each for each in found}
