# SPDX-License-Identifier: MIT
"""Network protocols: /proc/net/protocols (`proto_seq_printf`, net/core/sock.c), which names the owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_protocols"]

_PATH = "/proc/net/protocols"
_LINE = re.compile(r"^(\S.*?) +\d+ +(\d+) +-?\d+ +\S+ +\d+ +(?:yes|no) +(\S+) ", re.MULTILINE)
"""protocol, size, sockets, memory, press, maxhdr, slab, module, and flags."""


def read_protocols(root: Root, _memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Protocols of modules, with the sockets of each in this network namespace."""
    for name, sockets, shown in _LINE.findall(read_guarded(root, _PATH)):
        module = owners.named(shown)
        if module:
            yield Registration(
                RegistrationKind.PROTOCOL,
                name,
                module,
                certain=True,
                source=_PATH,
                detail="sockets, those of the kernel itself among them",
                users=int(sockets),
            )
