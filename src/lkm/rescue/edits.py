# SPDX-License-Identifier: MIT
"""Edits, each with the value that it expects, and those of one struct module. Pure."""

from __future__ import annotations

from lkm.names import ModuleName
from lkm.rescue.plan import Edit, EditKind
from lkm.system.snapshot import Layout, ModuleState, RawModule

__all__ = ["IDLE_RAW", "Editor", "conditional"]

IDLE_RAW = 1
"""Raw count of an idle LIVE module: MODULE_REF_BASE."""


class Editor:
    """Makes the edits of the struct module at `address`."""

    def __init__(self, address: int, layout: Layout, raw: RawModule) -> None:
        self._address = address
        self._layout = layout
        self._raw = raw

    def identity(self) -> list[Edit]:
        """The name at the address is the target's, whatever was read before."""
        start = self._at(self._layout.name)
        return [
            conditional(_word(at), start + at, 8, value, value)
            for at, value in _words(self._raw.name).items()
        ]

    def unchanged(self, writes: list[Edit]) -> list[Edit]:
        """State and refcnt are expected even where they are not written."""
        written = {edit.field for edit in writes}
        count = self._raw.refcnt & 0xFFFFFFFF
        refcnt = conditional("refcnt", self._at(self._layout.refcnt), 4, count, count)
        return [check for check in (refcnt, self.state()) if check.field not in written]

    def state(self) -> Edit:
        """The state is what it was."""
        return conditional("state", self._at(self._layout.state), 4, self._raw.state, self._raw.state)

    def sysfs(self) -> Edit:
        """Its directory in sysfs is what it was."""
        sysfs = self._raw.sysfs or 0
        return conditional("mkobj.kobj.sd", self._at(self._layout.sysfs or 0), 8, sysfs, sysfs)

    def hide_exports(self) -> list[Edit]:
        """Nobody finds its exports any more."""
        layout, raw = self._layout, self._raw
        counts = (
            ("num_syms", layout.num_syms, raw.num_syms),
            ("num_gpl_syms", layout.num_gpl_syms, raw.num_gpl_syms),
        )
        return [
            conditional(field, self._at(offset), 4, value, 0)
            for field, offset, value in counts
            if offset and value
        ]

    def rename(self, name: ModuleName) -> list[Edit]:
        """Its name becomes `name`, which is as long or longer: in words from the first on, so that it is a name
        at every moment. (What is behind the NUL of a name is zero, as the module's file has it.)"""
        start = self._at(self._layout.name)
        old, new = _words(self._raw.name), _words(name)
        return [conditional(_word(at), start + at, 8, old.get(at, 0), value) for at, value in new.items()]

    def clear_init(self) -> list[Edit]:
        """It has no init."""
        return self._clear("init", self._layout.init, self._raw.init)

    def clear_exit(self) -> list[Edit]:
        """It has no exit, which is then not called."""
        return self._clear("exit", self._layout.exit, self._raw.exit)

    def change_refcnt(self, value: int) -> Edit:
        """The raw count becomes `value`."""
        address, old = self._at(self._layout.refcnt), self._raw.refcnt & 0xFFFFFFFF
        return Edit("refcnt", address, 4, old, value, EditKind.CMPXCHG)

    def change_state(self, state: ModuleState) -> Edit:
        """It goes over to that state."""
        return conditional("state", self._at(self._layout.state), 4, self._raw.state, state.number)

    def _clear(self, field: str, offset: int, value: int) -> list[Edit]:
        return [conditional(field, self._at(offset), 8, value, 0)] if value else []

    def _at(self, offset: int) -> int:
        return self._address + offset


def _words(name: str) -> dict[int, int]:
    """The words of a name by their offset in bytes, up to the one with its NUL."""
    data = name.encode() + b"\0"
    data = data.ljust(-len(data) % 8 + len(data), b"\0")
    return {at: int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)}


def _word(at: int) -> str:
    return f"name[{at}:{at + 8}]"


def conditional(field: str, address: int, width: int, old: int, new: int) -> Edit:
    """A store of `new` over `old`; what stays as it is, is only expected."""
    limit = (1 << 8 * width) - 1
    kind = EditKind.CHECK if old == new else EditKind.STORE
    return Edit(field, address, width, old & limit, new & limit, kind)
