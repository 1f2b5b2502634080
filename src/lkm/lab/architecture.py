# SPDX-License-Identifier: MIT
"""The architectures of guests: which QEMU, which machine and processor, which console, how modules are built."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lkm.errors import LabError

__all__ = ["Architecture", "find_architecture", "host_architecture"]


@dataclass(frozen=True)
class Architecture:
    """A row of the table."""

    name: str
    """Debian's name of it."""
    machine: str
    """What `uname -m` says."""
    emulator: str
    board: str
    """QEMU's machine type."""
    cpu: str
    """The processor under TCG."""
    console: str
    kbuild: str
    """`ARCH` of kbuild."""
    cross: str
    """`CROSS_COMPILE` of kbuild on another architecture, and the prefix of the compiler there."""


ARCHITECTURES = (
    # TCG (seen with QEMU 7.2): newer kernels die at random with cmpxchg16b, and none needs it.
    Architecture(
        "amd64", "x86_64", "qemu-system-x86_64", "q35", "max,-cx16", "ttyS0", "x86", "x86_64-linux-gnu-"
    ),
    # cpu max authenticates pointers (pauth): in software twice as slow, but for pauth-impdef=on.
    Architecture(
        "arm64", "aarch64", "qemu-system-aarch64", "virt", "cortex-a57", "ttyAMA0", "arm64", "aarch64-linux-gnu-"
    ),
)  # fmt: skip


def find_architecture(name: str) -> Architecture:
    """The row that Debian calls `name`; else LabError."""
    for row in ARCHITECTURES:
        if row.name == name:
            return row
    raise LabError(f"the lab has no guests of the architecture {name}")


def host_architecture() -> Architecture:
    """The row of this machine. Raises LabError if there is none."""
    machine = os.uname().machine
    for row in ARCHITECTURES:
        if row.machine == machine:
            return row
    raise LabError(f"the lab does not know what its tools are called on {machine}")
