# SPDX-License-Identifier: MIT
"""Names by the module that has them as a string: a hint where no pointer can be followed."""

from __future__ import annotations

from functools import cached_property
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import MemoryRange

__all__ = ["ModuleStrings"]

_SHORTEST = 3
_LARGEST_MODULE = 1 << 23
_LARGEST_TOTAL = 1 << 27
"""Bytes: what is larger is not searched."""


class ModuleStrings:
    """The memory of all modules, read when it is first asked for."""

    def __init__(self, memory: KernelMemory, owners: Owners) -> None:
        self._memory = memory
        self.owners = owners

    def owner(self, name: str) -> Optional[ModuleName]:
        """The only module that has `name` as a NUL-terminated string of its own, or None."""
        if len(name) < _SHORTEST:
            return None
        needle = b"\0" + name.encode("utf-8", "replace") + b"\0"
        found = {module for module, data in self._contents if needle in data}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def _contents(self) -> list[tuple[ModuleName, bytes]]:
        contents: list[tuple[ModuleName, bytes]] = []
        left = _LARGEST_TOTAL
        for module in self.owners.modules:
            size = sum(stretch.size for stretch in module.memory)
            if size > min(_LARGEST_MODULE, left):
                self._memory.note(f"{module.name}: {size} bytes were not searched for names")
                continue
            left -= size
            contents.extend((module.name, self._read(module.name, stretch)) for stretch in module.memory)
        return contents

    def _read(self, name: ModuleName, stretch: MemoryRange) -> bytes:
        try:
            return self._memory.read(stretch.start, stretch.size)
        except LkmError as error:
            self._memory.note(f"{name}: {error}")
            return b""
