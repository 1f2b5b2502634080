# SPDX-License-Identifier: MIT
"""Armed high-resolution timers: /proc/timer_list (`print_timer`, kernel/time/timer_list.c; root only).

A line ` #0: <address>, function [module], S:01`; before 6.x the function may come without its module, and
where its symbol is gone as an address. Timers of the wheel (timer_list, delayed work) are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_hrtimers"]

_PATH = "/proc/timer_list"
_TIMER = re.compile(r"^ *#\d+: *(?:<[^>]*>|\S+), *(\S+?)(?: \[([^\]\s]+)\])?, *S:", re.MULTILINE)


def read_hrtimers(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Timers whose function lies in a module, one a function."""
    seen = set()
    for function, shown in _TIMER.findall(read_guarded(root, _PATH)):
        module = _module(function, shown, memory, owners)
        if module and (function, module) not in seen:
            seen.add((function, module))
            yield Registration(RegistrationKind.HRTIMER, function, module, certain=True, source=_PATH)


def _module(
    function: str, shown: str, memory: Optional[KernelMemory], owners: Owners
) -> Optional[ModuleName]:
    if shown:
        return owners.named(shown)
    if function.startswith("0x"):
        return owners.of(int(function, 16)) if re.fullmatch(r"0x[0-9a-f]+", function) else None
    if memory is None:
        return None
    try:
        if memory.symbols.address(function):
            return None  # the kernel's own
        found = {
            module.name
            for module in owners.modules
            for _, name in memory.symbols.module_symbols(module.name)
            if name == function
        }
    except LkmError:
        return None
    return found.pop() if len(found) == 1 else None
