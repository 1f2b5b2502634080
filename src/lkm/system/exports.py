# SPDX-License-Identifier: MIT
"""Variables that the kernel exports, where /proc/kallsyms has functions alone (no CONFIG_KALLSYMS_ALL).

Their table is in the read-only data of the kernel's image, with the names behind it (RO_DATA, include/asm-generic/
vmlinux.lds.h): an entry begins with two offsets, each from its own address, to the variable and to its name
(struct kernel_symbol with CONFIG_HAVE_ARCH_PREL32_RELOCATIONS: x86_64, arm64; 5.10 to 7.x).
"""

from __future__ import annotations

import struct

from lkm.errors import LkmError
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory

__all__ = ["exported", "symbol_or_export"]

_STEP = 1 << 22
_MAX_SIZE = 1 << 26
_BEFORE = 1 << 20
"""Bytes: the entries of 10,000 symbols, their checksums and the names before are shorter."""


def symbol_or_export(memory: KernelMemory, name: str) -> int:
    """The address of a variable of the kernel. Raises `LkmError` where neither table has it."""
    try:
        return memory.symbol(name)
    except KcoreError:
        found = exported(memory, name)
        if not found:
            raise
        return found


def exported(memory: KernelMemory, name: str) -> int:
    """The address of an exported variable, or 0. Raises `LkmError` where the image cannot be read."""
    start, end = memory.symbol("_etext"), memory.symbol("_sinittext")
    if not 0 < end - start <= _MAX_SIZE:
        return 0
    data = _read(memory, start, end - start)
    mark = b"\0" + name.encode() + b"\0"
    at = data.find(mark)
    while at >= 0:
        entry = _entry_of(data, at + 1)
        if entry is not None:
            return start + entry + int.from_bytes(data[entry : entry + 4], "little", signed=True)
        at = data.find(mark, at + 1)
    return 0


def _entry_of(data: bytes, name: int) -> int | None:
    """Where the entry is that has its name at offset `name`."""
    first = max(0, name - _BEFORE) & ~3
    count = (name - first) // 4
    words = struct.unpack_from(f"<{count}i", data, first)
    wanted = range(name - first, name - first - 4 * count, -4)
    for index, (word, offset) in enumerate(zip(words, wanted)):
        if word == offset and index:
            return first + 4 * index - 4
    return None


def _read(memory: KernelMemory, start: int, size: int) -> bytes:
    """What cannot be read is zeros: parts of the image may not be in /proc/kcore."""
    pieces = []
    for offset in range(0, size, _STEP):
        length = min(_STEP, size - offset)
        try:
            pieces.append(memory.read(start + offset, length))
        except LkmError:
            pieces.append(bytes(length))
    return b"".join(pieces)
