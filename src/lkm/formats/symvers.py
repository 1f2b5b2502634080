# SPDX-License-Identifier: MIT
"""Module.symvers: what a kernel build exports, with CRCs.

    0xa351f379<TAB>module_layout<TAB>vmlinux<TAB>EXPORT_SYMBOL<TAB>[NAMESPACE]

Source: write_dump in the kernel's scripts/mod/modpost.c (5.10 to 7.3); until 5.3 the namespace came third.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

__all__ = ["Symvers", "SymversEntry"]

_GPL = {"EXPORT_SYMBOL_GPL", "EXPORT_SYMBOL_GPL_FUTURE", "EXPORT_UNUSED_SYMBOL_GPL"}


class SymversEntry(NamedTuple):
    """One line. `module` is the path without suffix, "vmlinux" for the kernel itself."""

    name: str
    crc: int
    module: str
    gpl: bool
    namespace: str = ""


class Symvers:
    """The content of a Module.symvers. Lines are taken apart when they are asked for: there are 15,000."""

    def __init__(self, data: bytes) -> None:
        self._data = b"\n" + data

    def find(self, name: str) -> Optional[SymversEntry]:
        """The line of the symbol `name`."""
        mark = b"\t" + name.encode("utf-8", "surrogateescape") + b"\t"
        at = self._data.find(mark)
        while at >= 0:
            start = self._data.rfind(b"\n", 0, at) + 1
            end = self._data.find(b"\n", at)
            entry = _parse(self._data[start : end if end >= 0 else None])
            if entry is not None and entry.name == name:
                return entry
            at = self._data.find(mark, at + 1)
        return None

    def __iter__(self) -> Iterator[SymversEntry]:
        return (entry for entry in map(_parse, self._data.splitlines()) if entry is not None)


def _parse(line: bytes) -> Optional[SymversEntry]:
    """A line; None for one of another form."""
    fields = line.decode("utf-8", "backslashreplace").split("\t")
    if len(fields) < 4:
        return None
    try:
        crc = int(fields[0], 16)
    except ValueError:
        return None
    if fields[3].startswith("EXPORT_"):
        kind, namespace = fields[3], fields[4] if len(fields) > 4 else ""
    else:
        return None
    return SymversEntry(fields[1], crc & 0xFFFFFFFF, fields[2], kind in _GPL, namespace)
