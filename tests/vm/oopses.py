# SPDX-License-Identifier: MIT
"""Oopses in kernel messages, by signature: the function that died, and its module.

x86_64 says `RIP: 0010:f+0x1/0x2 [m]` after the line that announces it, arm64 `pc : f+0x1/0x2 [m]`
(show_regs; arch/x86/kernel/dumpstack.c, arch/arm64/kernel/process.c).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from lkm.rescue.proof import is_crash

__all__ = ["oops_signatures", "stray_oopses"]

_PLACE = re.compile(r"(?:RIP: [0-9a-f]+:|\bpc : )([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?")
_RAW_PLACE = re.compile(r"(?:RIP: [0-9a-f]+:|\bpc : )(0x[0-9a-f]+)")
_WARNING = "WARNING:"


def oops_signatures(lines: Iterable[str]) -> Counter[str]:
    """`function [module]` of each oops and BUG, with how often it came; `[kernel]` for the kernel's own code.

    One that is announced and never says where counts as `? [kernel]`; a warning is none.
    """
    found: Counter[str] = Counter()
    announced = False
    for line in lines:
        if is_crash(line):
            announced = True
        elif _WARNING in line:
            announced = False
        place = _PLACE.search(line)
        if announced and place:
            found[f"{place[1]} [{place[2] or 'kernel'}]"] += 1
            announced = False
        elif announced and _RAW_PLACE.search(line):
            found["? [kernel]"] += 1
            announced = False
    if announced:
        found["? [kernel]"] += 1
    return found


def stray_oopses(lines: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Signatures of those that none of these modules made."""
    own = {f"[{module}]" for module in modules}
    return sorted(signature for signature in oops_signatures(lines) if signature.split()[-1] not in own)
