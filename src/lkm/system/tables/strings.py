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
_CHUNK = 1 << 20
_CONSTANTS = (("__start_rodata", "_etext"), ("__end_rodata", "_sinittext"))
"""Where they begin and end. Without KALLSYMS_ALL there are only the second symbols, which is exact on arm64; on
x86_64 the gaps between are freed, and what is given out again holds any name."""
_LARGEST_KERNEL = 1 << 26
_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ /.")


class ModuleStrings:
    """The memory of all modules and the kernel's constants, read when they are first asked for."""

    def __init__(self, memory: KernelMemory, owners: Owners) -> None:
        self._memory = memory
        self.owners = owners

    def owner(self, name: str) -> Optional[ModuleName]:
        """The only module that has `name` as a NUL-terminated string of its own, or None.

        A name that the kernel itself has is taken for that of something built in.
        """
        if len(name) < _SHORTEST:
            return None
        found = {module for module, data in self._contents if _has_string(data, name)}
        ending = name.encode("utf-8", "replace") + b"\0"  # the linker lets a string be the end of another
        if len(found) != 1 or any(ending in data for data in self._kernel):
            return None
        return found.pop()

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

    @cached_property
    def _kernel(self) -> list[bytes]:
        """The kernel's constants. Holes are left out, and a string across two chunks is not found."""
        try:
            start, end = (self._first_symbol(*names) for names in _CONSTANTS)
        except LkmError as error:
            self._memory.note(f"the kernel's own strings: {error}")
            return []
        places = range(start, min(end, start + _LARGEST_KERNEL), _CHUNK)
        chunks = (self._read("the kernel", MemoryRange(at, min(_CHUNK, end - at), "")) for at in places)
        return [chunk for chunk in chunks if chunk]

    def _first_symbol(self, name: str, other: str) -> int:
        return self._memory.symbols.address(name) or self._memory.symbol(other)

    def _read(self, name: str, stretch: MemoryRange) -> bytes:
        try:
            return self._memory.read(stretch.start, stretch.size)
        except LkmError as error:
            self._memory.note(f"{name}: {error}")
            return b""


def _has_string(data: bytes, name: str) -> bool:
    """Whether `name` is a whole string: a NUL after it, and before it nothing that could be a part of it.

    The first string of a section has there what ends the section before, which need not be a NUL.
    """
    needle = name.encode("utf-8", "replace") + b"\0"
    at = data.find(needle)
    while at >= 0:
        if not at or data[at - 1] not in _NAME_BYTES:
            return True
        at = data.find(needle, at + 1)
    return False
