# SPDX-License-Identifier: MIT
"""`.modinfo`: what a module says of itself, as NUL-separated `key=value` strings.

Source: `MODULE_INFO` in the kernel's `include/linux/moduleparam.h`; `next_string` and `get_next_modinfo`
in `kernel/module/main.c` (6.1).
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from lkm.errors import ParseError

__all__ = ["ModInfo", "ModInfoError", "is_gpl_compatible", "parse_modinfo", "render_modinfo"]

_GPL_COMPATIBLE = frozenset({
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
})  # fmt: skip
"""license_is_gpl_compatible (include/linux/license.h, 5.10 to 7.3)."""


class ModInfoError(ParseError):
    """A key or value that cannot be written to `.modinfo`."""


class ModInfo(NamedTuple):
    """Keys and values in file order, repeated keys kept; `bad` has the entries without a `=`."""

    items: tuple[tuple[str, str], ...] = ()
    bad: tuple[str, ...] = ()

    def get(self, key: str, default: str = "") -> str:
        """The first value of `key`, which is the one that the kernel takes."""
        for name, value in self.items:
            if name == key:
                return value
        return default

    def get_all(self, key: str) -> tuple[str, ...]:
        """Every value of `key`, in file order."""
        return tuple(value for name, value in self.items if name == key)

    def has(self, key: str) -> bool:
        """Whether `key` is there, whatever its value."""
        return any(name == key for name, _ in self.items)


def parse_modinfo(data: bytes | memoryview) -> ModInfo:
    """The entries of a `.modinfo` section. Never fails: what has no `=` is kept in `bad`.

    A last entry without its NUL is read as well. Bytes that are not UTF-8 come with backslash escapes.
    """
    items: list[tuple[str, str]] = []
    bad: list[str] = []
    for entry in bytes(data).split(b"\0"):
        if entry:  # the kernel skips runs of NULs, which alignment leaves between entries
            key, equals, value = entry.decode("utf-8", "backslashreplace").partition("=")
            if equals:
                items.append((key, value))
            else:
                bad.append(key)
    return ModInfo(tuple(items), tuple(bad))


def render_modinfo(info: ModInfo) -> bytes:
    """The bytes of a `.modinfo` section with the items, then the bad entries. Raises `ModInfoError`."""
    for key, value in info.items:
        if "=" in key or "\0" in key + value:
            raise ModInfoError(f"modinfo: {key!r} = {value!r} holds a character that ends it")
    entries = [f"{key}={value}" for key, value in info.items]
    return b"".join(entry.encode() + b"\0" for entry in (*entries, *info.bad))


def is_gpl_compatible(licence: Optional[str]) -> bool:
    """Whether GPL-only symbols are open to a module of that licence; None: it names none."""
    return licence in _GPL_COMPATIBLE
