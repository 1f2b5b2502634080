# SPDX-License-Identifier: MIT
"""Synthetic kernel memory: a heap of structs, an offset table in place of BTF, and symbols."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Optional

from lkm.errors import LkmError
from lkm.formats.btf import BtfLookupError, Member, Struct
from lkm.formats.kallsyms import Kallsyms
from lkm.names import ModuleName
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory
from lkm.system.snapshot import LoadedModule, MemoryRange, ModuleState

__all__ = ["FakeKernel", "FakeTypes", "module"]

HEAP = 0xFFFF_8880_0000_0000
MODULES = 0xFFFF_FFFF_C000_0000


class FakeTypes:
    """Struct → size and member → offset; members of arrays have a size of their own."""

    def __init__(
        self,
        structs: Mapping[str, tuple[int, Mapping[str, int]]],
        sizes: Optional[Mapping[tuple[str, str], int]] = None,
        enums: Optional[Mapping[str, dict[str, int]]] = None,
    ) -> None:
        self.structs = dict(structs)
        self.sizes = dict(sizes or {})
        self.enums = dict(enums or {})

    def struct(self, name: str) -> Struct:
        size, members = self._find(name)
        direct = tuple(Member(each, 0, 8 * at, 0) for each, at in members.items() if "." not in each)
        return Struct(name, size, direct)

    def offset(self, name: str, path: str) -> int:
        members = self._find(name)[1]
        if path not in members:
            raise BtfLookupError(f"{name} has no member {path}")
        return members[path]

    def sizeof(self, name: str) -> int:
        return self._find(name)[0]

    def member_size(self, name: str, path: str) -> int:
        if (name, path) not in self.sizes:
            raise BtfLookupError(f"{name} has no member {path}")
        return self.sizes[name, path]

    def enum(self, name: str) -> dict[str, int]:
        if name not in self.enums:
            raise BtfLookupError(f"no enum {name}")
        return self.enums[name]

    def section(self, name: str) -> dict[str, int]:
        return self.enum(name)

    def _find(self, name: str) -> tuple[int, Mapping[str, int]]:
        if name not in self.structs:
            raise BtfLookupError(f"no struct {name}")
        return self.structs[name]


class FakeKernel:
    """Memory that is mapped where `place` and `new` put something, and nowhere else."""

    def __init__(self, types: Optional[FakeTypes]) -> None:
        self.types = types
        self.areas: list[tuple[int, bytearray]] = []
        self.symbols: dict[str, int] = {}
        self.module_symbols: list[tuple[int, str, str]] = []
        self.reads = 0
        self._next = HEAP

    def place(self, address: int, size: int) -> int:
        """Map `size` zero bytes there."""
        self.areas.append((address, bytearray(size)))
        return address

    def new(self, what: str | int) -> int:
        """A zeroed struct of that type, or so many bytes, on the heap."""
        size = self.sizeof(what) if isinstance(what, str) else what
        address = self._next
        self._next += (size + 0x3F) & ~0x3F
        return self.place(address, size)

    def sizeof(self, name: str) -> int:
        assert self.types is not None
        return self.types.sizeof(name)

    def at(self, address: int, name: str, member: str) -> int:
        """The address of a member."""
        assert self.types is not None
        return address + self.types.offset(name, member)

    def put(self, address: int, value: int | bytes | str) -> None:
        """A 64-bit number, bytes, or a NUL-terminated string."""
        if isinstance(value, int):
            value = struct.pack("<Q", value)
        elif isinstance(value, str):
            value = value.encode() + b"\0"
        for start, data in self.areas:
            if start <= address and address + len(value) <= start + len(data):
                data[address - start : address - start + len(value)] = value
                return
        raise AssertionError(f"{address:#x} is not mapped")

    def set(self, address: int, name: str, /, **members: int | bytes | str) -> int:
        """Put each member of the struct there; `__` in a name is a dot."""
        for member, value in members.items():
            self.put(self.at(address, name, member.replace("__", ".")), value)
        return address

    def text(self, value: str) -> int:
        """The address of a string on the heap."""
        address = self.new(512)  # strings are read in pieces that may end beyond them
        self.put(address, value)
        return address

    def ring(self, head: int, nodes: list[int]) -> None:
        """A circular list: the `next` of each node, and of the head."""
        for here, there in zip([head, *nodes], [*nodes, head]):
            self.put(here, there)

    def read_word(self, address: int) -> int:
        """The 64-bit number there."""
        return int.from_bytes(self.read(address, 8), "little")

    def read(self, address: int, size: int) -> bytes:
        self.reads += 1
        for start, data in self.areas:
            if start <= address and address + size <= start + len(data):
                return bytes(data[address - start : address - start + size])
        raise KcoreError(f"kernel memory at {address:#x}: not mapped")

    def kallsyms(self) -> Kallsyms:
        rows = sorted((address, name) for name, address in self.symbols.items())
        lines = [f"{address:016x} D {name}" for address, name in rows]
        lines += [f"{address:016x} t {name}\t[{owner}]" for address, name, owner in self.module_symbols]
        return Kallsyms("".join(f"{line}\n" for line in lines).encode())

    def memory(self) -> KernelMemory:
        """All of it, to be read."""

        def types() -> FakeTypes:
            if self.types is None:
                raise LkmError("this kernel has no BTF")
            return self.types

        return KernelMemory(self, types=types, symbols=self.kallsyms)


def module(
    name: str, start: int = 0, size: int = 0x1000, *, state: ModuleState = ModuleState.LIVE
) -> LoadedModule:
    """A module with one range of memory (none for start 0)."""
    memory = (MemoryRange(start, size, "core"),) if start else ()
    return LoadedModule(ModuleName(name), state, 0, size, memory=memory)
