# SPDX-License-Identifier: MIT
"""Network protocols: /proc/net/protocols (`proto_seq_printf`, net/core/sock.c), which names the owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from lkm.root import Root
from lkm.system.files import read_text
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_protocols"]

_PATH = "/proc/net/protocols"
_CONGESTION = "/proc/sys/net/ipv4/tcp_available_congestion_control"
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
    yield from _congestion_controls(root, owners)


def _congestion_controls(root: Root, owners: Owners) -> Iterator[Registration]:
    """Congestion controls of modules, `tcp_NAME`. A socket that uses one, and the setting that chooses it for new
    sockets, have a reference that nothing in /proc counts (tcp_assign_congestion_control, net/ipv4/tcp_cong.c):
    one user stands for them all."""
    for name in (read_text(root.join(_CONGESTION)) or "").split():
        module = owners.named(f"tcp_{name}")
        if module:
            yield Registration(
                RegistrationKind.PROTOCOL,
                f"TCP congestion control {name}",
                module,
                certain=False,
                source=_CONGESTION,
                detail="sockets, and net.ipv4.tcp_congestion_control where it is set to that",
                users=1,
            )
