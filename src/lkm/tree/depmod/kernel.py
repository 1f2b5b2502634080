# SPDX-License-Identifier: MIT
"""What the kernel itself exports, from System.map or Module.symvers.

Source: kmod 34, tools/depmod.c (`depmod_load_system_map`, `depmod_load_symvers`, `depmod_add_fake_syms`).
"""

from __future__ import annotations

from lkm.tree.depmod.search import Report

__all__ = ["parse_symvers", "parse_system_map"]

_MADE_BY_LOADER = (b"__this_module", b"_GLOBAL_OFFSET_TABLE_", b"TOC.")
_KSYMTAB = b"__ksymtab_"


def parse_system_map(data: bytes, name: str, prefix: bytes, report: Report) -> dict[bytes, int]:
    """Exported name → 0: a map of symbols has no CRCs."""
    found = {}
    lines = data.split(b"\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        parts = line.split(b" ", 2)
        if len(parts) < 3:
            report("ERROR", f"{name}:{number}: invalid line: {line.decode('utf-8', 'surrogateescape')}")
            continue
        symbol = parts[2][1:] if prefix and parts[2][:1] == prefix else parts[2]
        if symbol.startswith(_KSYMTAB):
            found[symbol[len(_KSYMTAB) :]] = 0
    return found | dict.fromkeys(_MADE_BY_LOADER, 0)


def parse_symvers(data: bytes, name: str, prefix: bytes, report: Report) -> dict[bytes, int]:
    """Name → CRC of what vmlinux exports."""
    found = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        words = [word for word in line.replace(b"\t", b" ").split(b" ") if word]
        if len(words) < 3 or words[2] != b"vmlinux":
            continue
        try:
            crc = int(words[0], 16)
        except ValueError:
            report(
                "ERROR",
                f"{name}:{number} Invalid symbol version {words[0].decode('utf-8', 'surrogateescape')}",
            )
            continue
        symbol = words[1][1:] if prefix and words[1][:1] == prefix else words[1]
        found[symbol] = crc
    return found | dict.fromkeys(_MADE_BY_LOADER, 0)
