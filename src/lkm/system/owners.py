# SPDX-License-Identifier: MIT
"""Whose memory an address lies in: the way from a pointer to the module that it points into."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.child import run_in_child
from lkm.system.files import read_bytes
from lkm.system.memory import KernelMemory
from lkm.system.snapshot import LoadedModule

__all__ = ["Owners", "Pointer", "describe", "owned_pointer", "read_guarded"]

_SECONDS = 3.0


class Pointer(NamedTuple):
    """A pointer into a module: the field that holds it, where it points, and the module."""

    field: str
    address: int
    module: ModuleName


class Owners:
    """The memory of all modules, sorted. A module whose memory is unknown owns nothing."""

    def __init__(self, modules: Iterable[LoadedModule]) -> None:
        self.modules = tuple(modules)
        self._ranges = sorted(
            (stretch.start, stretch.start + stretch.size, module.name)
            for module in self.modules
            for stretch in module.memory
        )
        self._starts = [start for start, _, _ in self._ranges]
        self._names = {module.name for module in self.modules}

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def of(self, address: int) -> Optional[ModuleName]:
        """The module that owns the byte at `address`, or None."""
        at = bisect_right(self._starts, address)
        if not at:
            return None
        _, end, name = self._ranges[at - 1]
        return name if address < end else None

    def named(self, text: str) -> Optional[ModuleName]:
        """The module of that name if it is one of these, or None."""
        name = module_name(text)
        return name if name in self._names else None


def owned_pointer(
    memory: KernelMemory, owners: Owners, name: str, data: bytes, fields: Iterable[str]
) -> Optional[Pointer]:
    """The first of these fields of a struct `name`, whose bytes are `data`, that points into a module.

    Fields that this kernel's struct does not have are left out.
    """
    for field, address in _pointers(memory, name, data, fields):
        owner = owners.of(address)
        if owner:
            return Pointer(field, address, owner)
    return None


def _pointers(
    memory: KernelMemory, name: str, data: bytes, fields: Iterable[str]
) -> Iterator[tuple[str, int]]:
    for field in fields:
        if memory.has(name, field):
            at = memory.offset(name, field)
            yield field, int.from_bytes(data[at : at + 8], "little")


def describe(memory: KernelMemory, pointer: Pointer) -> str:
    """`handler left_handler [left_irq]`: the field, and the symbol that it points to."""
    return f"{pointer.field} {memory.symbolize(pointer.address, pointer.module) or hex(pointer.address)}"


def read_guarded(root: Root, path: str, *, seconds: float = _SECONDS) -> str:
    """The text of a file whose reading walks a table of the kernel. Raises `LkmError`.

    A child reads it: an entry that a freed module left makes the reader oops, and a lock whose owner is dead
    is never given.
    """
    result = run_in_child(lambda: read_bytes(root.join(path)), seconds=seconds, name="lkm-table")
    if not result.ok:
        raise LkmError(f"{path}: {result.error}")
    if result.value is None:
        raise LkmError(f"{path}: cannot be read")
    text: str = result.value.decode("utf-8", "backslashreplace")
    return text
