# SPDX-License-Identifier: MIT
"""What the linker script of modules does with the sections of an object: joins, sorts, aligns, leaves out.

Source: scripts/module.lds.S of 5.10, 6.1, 6.12, 7.2 and 7.3; sections of text and data are joined since 6.19.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["BUILD_ID", "Script", "script_for"]

BUILD_ID = ".note.gnu.build-id"
_EXPORTS = re.compile(r"___(ksymtab|kcrctab|kflagstab)((?:_unused)?(?:_gpl)?(?:_future)?)\+")
_JOINED = re.compile(r"\.(text|bss|data|rodata)(\.[0-9a-zA-Z_].*|\.\.L.*)$", re.DOTALL)
_SORTED = (".init_array", ".ctors")
_LEFT_OUT = frozenset({".discard", ".export_symbol", ".no_trim_symbol", BUILD_ID})
_ALIGNED = {
    ".init_array": 8, ".ctors": 8, ".altinstructions": 8, "__bug_table": 8, "__jump_table": 8, "__ex_table": 4,
    ".init.klp_funcs": 8, ".init.klp_objects": 8,
}  # fmt: skip


class Script(NamedTuple):
    """The rules of one release. `joined`: sections of each function or object come into `.text`, `.data`, …"""

    joined: bool

    def output(self, name: str) -> str:
        """The section that `name` comes into; empty where it is left out. The build-id is made anew."""
        if name in _LEFT_OUT or name.startswith(".discard."):
            return ""
        match = _EXPORTS.match(name)
        if match:
            return f"__{match[1]}{match[2]}"
        for prefix in _SORTED:
            if name.startswith(f"{prefix}."):
                return prefix
        match = _JOINED.match(name) if self.joined else None
        if match and not (match[1] == "text" and match[2].startswith("..")):
            return f".{match[1]}"
        return name

    def rank(self, name: str) -> tuple[int, str]:
        """What the parts of an output section are sorted by, those of equal rank in the order of the object."""
        if _EXPORTS.match(name):
            return 0, name
        if name.startswith(tuple(f"{prefix}." for prefix in _SORTED)):
            return 0, name
        return 1, ""

    def align(self, output: str) -> int:
        """The least alignment of an output section."""
        if output == "__ksymtab" and self.joined:
            return 8
        return _ALIGNED.get(output, 1)


def script_for(version: tuple[int, int]) -> Script:
    """The rules of a release such as (6, 1)."""
    return Script(joined=version >= (6, 19))
