# SPDX-License-Identifier: MIT
"""The running kernel's `/proc/kallsyms`, read once. The file takes no module_mutex (RCU)."""

from __future__ import annotations

from lkm.errors import LkmError, NeedsRoot
from lkm.formats.kallsyms import Kallsyms
from lkm.root import Root
from lkm.system.files import read_bytes, read_number

__all__ = ["SymbolsHidden", "hidden_error", "read_kallsyms"]


class SymbolsHidden(NeedsRoot):
    """Every address in /proc/kallsyms reads as zero: kptr_restrict=2, or CAP_SYSLOG is missing."""


def read_kallsyms(root: Root) -> Kallsyms:
    """/proc/kallsyms below `root`. Raises `SymbolsHidden` where all is zero, `LkmError` where it is missing."""
    data = read_bytes(root.join("/proc/kallsyms"))
    if data is None:
        raise LkmError("/proc/kallsyms: cannot be read", remedy="the kernel needs CONFIG_KALLSYMS")
    symbols = Kallsyms(data)
    if symbols.hidden:
        raise hidden_error(root, "/proc/kallsyms: all addresses read as zero")
    return symbols


def hidden_error(root: Root, what: str) -> SymbolsHidden:
    """`SymbolsHidden` with the remedy that fits this machine's kptr_restrict."""
    restrict = read_number(root.join("/proc/sys/kernel/kptr_restrict"))
    if restrict == 2:
        return SymbolsHidden(f"{what} (kernel.kptr_restrict=2)", remedy="sysctl kernel.kptr_restrict=1")
    return SymbolsHidden(f"{what} (CAP_SYSLOG is missing)", remedy="run it as root")
