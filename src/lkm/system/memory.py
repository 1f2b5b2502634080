# SPDX-License-Identifier: MIT
"""`KernelMemory`: typed, checked reads of kernel memory through kcore, BTF and kallsyms.

Kernel memory changes while it is read, and after an oops parts of it are garbage. So each pointer is checked
before it is followed, each walk is bounded and stops at a node seen before, and what stops a walk early is a
sentence in `notes`, never an endless loop. Only 64-bit little-endian kernels (x86_64, arm64) are meant.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Callable, Generic, NamedTuple, Optional, Protocol, TypeVar

from lkm.errors import LkmError
from lkm.formats.btf import Btf, BtfLookupError, Struct
from lkm.formats.kallsyms import Kallsyms, Symbol
from lkm.root import Root
from lkm.system.files import read_bytes
from lkm.system.kallsyms import SymbolsHidden, read_kallsyms
from lkm.system.kcore import KcoreError, open_kcore

__all__ = [
    "KernelMemory",
    "MemoryReading",
    "Reader",
    "Types",
    "is_kernel_pointer",
    "open_memory",
    "read_memory",
]

BTF_PATH = "/sys/kernel/btf/vmlinux"
_PAGE = 4096
_MAX_NODES = 1 << 16
"""Nodes in one walk: no table that is read here is longer on a real machine."""

T = TypeVar("T")


class Reader(Protocol):
    """What reads kernel memory: `Kcore`, or a test's."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes, or `KcoreError`."""


class Types(Protocol):
    """What knows the kernel's types: `Btf`, or a test's. Each raises `BtfLookupError` for what is missing."""

    def struct(self, name: str) -> Struct:
        """A struct and its direct members."""

    def offset(self, name: str, path: str) -> int:
        """Bytes from the start of a struct to its member."""

    def sizeof(self, name: str) -> int:
        """Bytes of a type."""

    def member_size(self, name: str, path: str) -> int:
        """Bytes of a member."""

    def enum(self, name: str) -> dict[str, int]:
        """Enumerators and their values."""

    def section(self, name: str) -> dict[str, int]:
        """Variables in a section, and the offset of each."""


def is_kernel_pointer(value: int) -> bool:
    """Whether the value can be a kernel address: in the upper half of x86_64 (4 and 5 levels) or arm64."""
    return value >> 56 == 0xFF and value != (1 << 64) - 1


class _Once(Generic[T]):
    """A loader that runs once: its value, or its error, is kept."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._value: Optional[T] = None
        self._error: Optional[LkmError] = None

    def __call__(self) -> T:
        if self._error is not None:
            raise self._error
        if self._value is None:
            try:
                self._value = self._load()
            except LkmError as error:
                self._error = error
                raise
        return self._value


class KernelMemory:
    """Reads of kernel memory. `notes` gathers what walks had to leave out.

    `own_task` gives the bytes of the struct task_struct of the thread that asks; none where they are not told.

    Each read raises `KcoreError` for a bad address and `BtfLookupError` for a type or member that this kernel
    does not have; both are `LkmError`.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        types: Callable[[], Types],
        symbols: Callable[[], Kallsyms],
        own_task: Callable[[], bytes] = bytes,
    ) -> None:
        self._reader = reader
        self.own_task = own_task
        self._types = _Once(types)
        self._symbols = _Once(symbols)
        self._offsets: dict[tuple[str, str], int] = {}
        self._structs: dict[str, dict[str, int]] = {}
        self._addresses: dict[str, int] = {}
        self.notes: list[str] = []

    @property
    def types(self) -> Types:
        """The kernel's types. Raises `LkmError` where it has no BTF."""
        return self._types()

    @property
    def symbols(self) -> Kallsyms:
        """The kernel's symbols. Raises `LkmError` where they are hidden."""
        return self._symbols()

    @property
    def has_types(self) -> bool:
        """Whether this kernel has BTF that can be read."""
        try:
            return bool(self.types)
        except LkmError:
            return False

    @property
    def has_symbols(self) -> bool:
        """Whether this kernel's symbols can be read."""
        try:
            return bool(self.symbols)
        except LkmError:
            return False

    def note(self, text: str) -> None:
        """Add a sentence to `notes`, once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_error(self, what: str, error: LkmError) -> None:
        """A note on what could not be read; that symbols are hidden is said once for all."""
        self.note(str(error) if isinstance(error, SymbolsHidden) else f"{what}: {error}")

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        if not is_kernel_pointer(address):
            raise KcoreError(f"{address:#x} is no kernel address")
        return self._reader.read(address, size)

    def u8(self, address: int) -> int:
        """The byte there."""
        return self.read(address, 1)[0]

    def u32(self, address: int) -> int:
        """The unsigned 32-bit number there."""
        return int.from_bytes(self.read(address, 4), "little")

    def i32(self, address: int) -> int:
        """The signed 32-bit number there."""
        return int.from_bytes(self.read(address, 4), "little", signed=True)

    def u64(self, address: int) -> int:
        """The unsigned 64-bit number there."""
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` unsigned 64-bit numbers, in one read."""
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))

    def pointer(self, address: int) -> int:
        """The pointer there: 0 or a kernel address; `KcoreError` for anything else."""
        value = self.u64(address)
        if value and not is_kernel_pointer(value):
            raise KcoreError(f"kernel memory at {address:#x}: {value:#x} is no pointer")
        return value

    def cstring(self, address: int, limit: int = 256) -> str:
        """The NUL-terminated string there, of less than `limit` bytes; other bytes than UTF-8 are escaped."""
        data = b""
        while len(data) < limit:
            here = address + len(data)
            data += self.read(here, min(_PAGE - here % _PAGE, limit - len(data)))
            if b"\0" in data:
                return data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        raise KcoreError(f"kernel memory at {address:#x}: no string of less than {limit} bytes")

    def text(self, address: int, default: str = "?") -> str:
        """`cstring`, or `default` where there is none."""
        try:
            return self.cstring(address)
        except KcoreError:
            return default

    def offset(self, name: str, *paths: str) -> int:
        """Offset in bytes of the first of these members that struct `name` has: names change with releases."""
        for path in paths:
            key = (name, path)
            if key not in self._offsets:
                self._offsets[key] = self._look_up(name, path)
            if self._offsets[key] >= 0:
                return self._offsets[key]
        raise BtfLookupError(f"this kernel's struct {name} has no member {' or '.join(paths)}")

    def _look_up(self, name: str, path: str) -> int:
        """The offset, or -1. All direct members are taken at once: to find a struct by its name costs most."""
        try:
            if name not in self._structs:
                members = self.types.struct(name).members
                self._structs[name] = {
                    m.name: m.bit_offset // 8 for m in members if not (m.bit_offset % 8 or m.bit_size)
                }
            direct = self._structs[name].get(path)
            return self.types.offset(name, path) if direct is None else direct
        except BtfLookupError:
            return -1

    def has(self, name: str, path: str) -> bool:
        """Whether struct `name` has that member on this kernel."""
        try:
            return self.offset(name, path) >= 0
        except BtfLookupError:
            return False

    def find_offset(self, name: str, path: str) -> Optional[int]:
        """`offset`, or None where this kernel's struct has no such member, or it has no such struct."""
        try:
            return self.offset(name, path)
        except LkmError:
            return None

    def sizeof(self, name: str) -> int:
        """Bytes of a type."""
        return self.types.sizeof(name)

    def find_size(self, name: str) -> int:
        """`sizeof`, or 0 where this kernel has no such type."""
        try:
            return self.sizeof(name)
        except LkmError:
            return 0

    def symbol(self, name: str) -> int:
        """Address of a symbol of the kernel itself. Raises `KcoreError` where kallsyms does not have it."""
        if name not in self._addresses:
            self._addresses[name] = self.symbols.address(name)
        if not self._addresses[name]:
            raise KcoreError(
                f"{name} is not in /proc/kallsyms", remedy="the kernel needs CONFIG_KALLSYMS_ALL"
            )
        return self._addresses[name]

    def symbolize(self, address: int, module: str = "") -> Optional[Symbol]:
        """The symbol that `address` lies in, or None where symbols are hidden or none is near.

        `module` is the one that the address belongs to, if that is known.
        """
        try:
            return self.symbols.nearest(address, module)
        except LkmError:
            return None

    def is_listed(self, node: int) -> bool:
        """Whether the struct list_head there is in a list: its neighbours point back. Raises `KcoreError`."""
        following, before = self.words(node, 2)
        if not (is_kernel_pointer(following) and is_kernel_pointer(before)) or following == node:
            return False
        return self.u64(following + 8) == node == self.u64(before)

    def list_nodes(self, head: int, *, what: str, limit: int = _MAX_NODES) -> Iterator[int]:
        """Addresses of the nodes of a circular `struct list_head` list, without the head.

        It ends early, with a note that names `what`, at a bad pointer, a node seen before, and after `limit`.
        """
        try:
            first = self.u64(head)
        except KcoreError as error:
            self.note(f"{what}: {error}")
            return
        yield from self.chain(first, offset=0, what=what, limit=limit, end=head)

    def chain(
        self, first: int, *, offset: int, what: str, limit: int = _MAX_NODES, end: int = 0
    ) -> Iterator[int]:
        """Nodes linked by a pointer at `offset` in each, from `first` to 0 or `end`; bounded as `list_nodes`."""
        seen: set[int] = set()
        node = first
        while node and node != end:
            if node in seen or len(seen) >= limit:
                why = "a node comes twice" if node in seen else f"more than {limit} nodes"
                self.note(f"{what}: {why}: the rest was not read")
                return
            if not is_kernel_pointer(node):
                self.note(f"{what}: the link {node:#x} is no pointer: the rest was not read")
                return
            seen.add(node)
            yield node
            try:
                node = self.u64(node + offset)
            except KcoreError as error:
                self.note(f"{what}: {error}: the rest was not read")
                return


class MemoryReading(NamedTuple):
    """Kernel memory, or why it cannot be read."""

    memory: Optional[KernelMemory]
    error: str = ""


def open_memory(root: Root, *, known_symbols: bool = False) -> KernelMemory:
    """Kernel memory of the machine at `root`; BTF and symbols are read when they are first asked for. With
    `known_symbols` those that were read last will do, if there are any: the file takes the kernel a second to write.

    Raises `NeedsRoot` without the privilege, `KcoreError` where the kernel refuses or has no /proc/kcore.
    """
    kcore = open_kcore(root)
    return KernelMemory(
        kcore,
        types=lambda: _read_types(root),
        symbols=lambda: _read_symbols(root, known=known_symbols),
        own_task=kcore.own_task,
    )


def read_memory(root: Root, *, known_symbols: bool = False) -> MemoryReading:
    """`open_memory` as an answer: the memory, or the error's text."""
    try:
        return MemoryReading(open_memory(root, known_symbols=known_symbols))
    except LkmError as error:
        return MemoryReading(None, str(error))


_last_symbols: dict[Root, Kallsyms] = {}


def _read_symbols(root: Root, *, known: bool) -> Kallsyms:
    if not known or root not in _last_symbols:
        _last_symbols.clear()
        _last_symbols[root] = read_kallsyms(root)
    return _last_symbols[root]


@functools.lru_cache(maxsize=2)
def _read_types(root: Root) -> Btf:
    """The types do not change while a kernel runs, and a rescue takes more than one look."""
    data = read_bytes(root.join(BTF_PATH))
    if data is None:
        raise LkmError(f"{BTF_PATH}: this kernel has none", remedy="it needs CONFIG_DEBUG_INFO_BTF")
    return Btf(data, name=BTF_PATH)
