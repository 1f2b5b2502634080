# SPDX-License-Identifier: MIT
"""What the files depend on beside the modules, and what they were when a run left them."""

from __future__ import annotations

import os
import time

from lkm.formats.depmod_conf import DepmodConf
from lkm.tree.depmod.cache import is_racy, state_of
from lkm.tree.depmod.output import FILES
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.search import Found

__all__ = ["State", "is_up_to_date"]

_INPUTS = (b"modules.order", b"modules.builtin", b"modules.builtin.modinfo")


class State:
    """Configuration and inputs as they are now, to be compared with those of the run before."""

    def __init__(self, request: DepmodRequest, conf: DepmodConf) -> None:
        now = time.time_ns()
        inputs = state_of([os.path.join(request.top, name) for name in _INPUTS])
        self._outputs = [os.path.join(request.output, name) for name in FILES]
        self._racy = any(identity is not None and is_racy(identity, now) for identity in inputs)
        self._before = repr((conf.as_tuple(), inputs)).encode()

    def compare(self, state: bytes) -> bool | None:
        """None: something else than modules has changed. Otherwise whether the run before had nothing to tell."""
        now = self._render()
        if state == now + b"quiet":
            return True
        return False if state == now + b"spoke" else None

    def render(self, *, quiet: bool) -> bytes:
        """For the run after this one. `quiet`: this one had nothing to tell."""
        return b"racy" if self._racy else self._render() + (b"quiet" if quiet else b"spoke")

    def _render(self) -> bytes:
        return self._before + b"\n" + repr(state_of(self._outputs)).encode() + b"\n"


def is_up_to_date(top: bytes, directory: bytes, found: Found) -> bool:
    """Whether modules.dep is as new as every module, as kmod asks, has just these, and all files are there.

    All that can be told without a cache. kmod 34 (`depfile_up_to_date` in tools/depmod.c) counts whole seconds, and
    does not see what changed in the second in which it wrote.
    """
    states = state_of([os.path.join(directory, name) for name in FILES])
    first = states[0]
    if first is None or None in states or any(identity[2] > first[2] for _, identity in found.values()):
        return False
    inside, skip = top + b"/", len(top) + 1
    shown = {path[skip:] if path.startswith(inside) else path for path, _ in found.values()}
    try:
        with open(os.path.join(directory, b"modules.dep"), "rb") as file:
            return {line.partition(b":")[0] for line in file} == shown
    except OSError:
        return False
