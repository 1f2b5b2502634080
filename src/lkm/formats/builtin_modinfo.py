# SPDX-License-Identifier: MIT
"""modules.builtin.modinfo: what the `.modinfo` of everything built in says, one `NAME.KEY=VALUE` after the other.

Source: `__MODULE_INFO` of built-in code, include/linux/moduleparam.h; extracted from vmlinux by
scripts/Makefile.vmlinux (up to 5.19 scripts/link-vmlinux.sh). Strings end in NUL.
"""

from __future__ import annotations

__all__ = ["parse_builtin_modinfo"]


def parse_builtin_modinfo(data: bytes) -> dict[str, tuple[tuple[str, str], ...]]:
    """Keys and values by the module's name, both in file order; a string without a name or a value is left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for raw in data.split(b"\0"):
        left, equals, value = raw.partition(b"=")
        name, dot, key = left.partition(b".")
        if equals and dot:
            text = value.decode("utf-8", "backslashreplace")
            found.setdefault(_text(name), []).append((_text(key), text))
    return {name: tuple(rows) for name, rows in found.items()}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
