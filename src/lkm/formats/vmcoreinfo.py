# SPDX-License-Identifier: MIT
"""VMCOREINFO: what a kernel tells of itself to whoever reads its memory.

Lines `KEY=VALUE`; keys `SYMBOL(x)` (hexadecimal address), `OFFSET(type.member)`, `SIZE(type)`, `LENGTH(x)`,
`NUMBER(x)` (decimal, or hexadecimal with 0x on arm64), and plain ones. It is a note of /proc/kcore since
4.19 (23c85094fe18 "proc/kcore: add vmcoreinfo note to /proc/kcore"). Source: crash_save_vmcoreinfo_init,
kernel/crash_core.c (kernel/vmcore_info.c since 6.9).
"""

from __future__ import annotations

import re
from typing import Optional

from lkm.errors import ParseError

__all__ = ["Vmcoreinfo", "VmcoreinfoError", "parse_vmcoreinfo"]

_SYMBOL = re.compile(r"^SYMBOL\(([^()]+)\)=([0-9a-f]+)$", re.MULTILINE)
_NUMBER = re.compile(r"^(OFFSET|SIZE|LENGTH|NUMBER)\(([^()]+)\)=(0x[0-9a-f]+|-?\d+)$", re.MULTILINE)


class VmcoreinfoError(ParseError):
    """The kernel does not tell this; the message says what."""


class Vmcoreinfo:
    """The values by kind and name."""

    def __init__(self, values: dict[tuple[str, str], int]) -> None:
        self._values = values

    def get(self, kind: str, name: str) -> Optional[int]:
        """The value of `SYMBOL(name)`, `OFFSET(name)` …, or None."""
        return self._values.get((kind, name))

    def _need(self, kind: str, name: str) -> int:
        value = self._values.get((kind, name))
        if value is None:
            raise VmcoreinfoError(f"VMCOREINFO: this kernel has no {kind}({name})")
        return value

    def symbol(self, name: str) -> int:
        """Address of a kernel symbol. Raises `VmcoreinfoError`."""
        return self._need("SYMBOL", name)

    def offset(self, name: str) -> int:
        """Bytes from the start of `type.member`. Raises `VmcoreinfoError`."""
        return self._need("OFFSET", name)

    def size(self, name: str) -> int:
        """Bytes of a type. Raises `VmcoreinfoError`."""
        return self._need("SIZE", name)

    def number(self, name: str) -> int:
        """A constant. Raises `VmcoreinfoError`."""
        return self._need("NUMBER", name)


def parse_vmcoreinfo(data: bytes) -> Vmcoreinfo:
    """The note's text, padded with zeros. A line of a form that is not known is left out."""
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    values = {("SYMBOL", name): int(value, 16) for name, value in _SYMBOL.findall(text)}
    for kind, name, value in _NUMBER.findall(text):
        values[kind, name] = int(value, 16 if value.startswith("0x") else 10)
    plain = re.search(r"^PAGESIZE=(\d+)$", text, re.MULTILINE)
    if plain:
        values["NUMBER", "PAGESIZE"] = int(plain.group(1))
    return Vmcoreinfo(values)
