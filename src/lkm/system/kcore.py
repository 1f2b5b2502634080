# SPDX-License-Identifier: MIT
"""/proc/kcore: the kernel's memory as an ELF core file, read at kernel addresses.

Source: fs/proc/kcore.c (`open_kcore`, `read_kcore` until 6.4, `read_kcore_iter` since): one PT_LOAD a
range: text, vmalloc, modules (where they are not in vmalloc), vmemmap and each range of RAM. Opening it
takes CAP_SYS_RAWIO and is refused under lockdown=confidentiality. Pages of vmalloc that are not mapped read
as zeros, pages of RAM that must not be read too: zeros prove nothing.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError, NeedsRoot
from lkm.formats.notes import Note, parse_notes
from lkm.formats.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from lkm.root import Root
from lkm.system.files import read_text

__all__ = ["Kcore", "KcoreError", "Segment", "open_kcore", "parse_segments"]

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1
_PT_NOTE = 4
_NT_TASKSTRUCT = 4
_NOWHERE = (1 << 64) - 1
_MAX_NOTES = 1 << 20
_MAX_SEGMENTS = 4096
_MAX_READ = 1 << 24
"""Bytes in one read: nothing that is followed here is larger, so a larger size comes from garbage."""


class KcoreError(LkmError):
    """The address is not mapped, or the memory cannot be read."""


class Segment(NamedTuple):
    """`size` bytes of kernel memory from `start`, at `offset` of the file.

    `physical` is where they are in physical memory; None where that is not one stretch (vmalloc, vmemmap).
    """

    start: int
    size: int
    offset: int
    physical: Optional[int] = None


def parse_segments(data: bytes, *, name: str = "/proc/kcore") -> tuple[Segment, ...]:
    """The PT_LOAD segments of a 64-bit little-endian core file's first bytes, the smallest first.

    Segments may overlap (text lies in vmalloc on arm64): the smaller is the more exact. Raises `KcoreError`.
    """
    segments = []
    for kind, offset, start, physical, size in _headers(data, name):
        if kind == _PT_LOAD and size and start + size <= 1 << 64 and offset + size < 1 << 63:
            segments.append(Segment(start, size, offset, None if physical == _NOWHERE else physical))
    return tuple(sorted(segments, key=lambda segment: segment.size))


def _headers(data: bytes, name: str) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, file offset, address, physical address and size in the file of each program header."""
    if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
        raise KcoreError(
            f"{name}: expected a 64-bit little-endian ELF core, found {data[:6].hex(' ') or 'nothing'}"
        )
    fields = _HEADER.unpack_from(data)
    table, entry_size, count = fields[4], fields[8], fields[9]
    if entry_size != _PROGRAM.size or count > _MAX_SEGMENTS:
        raise KcoreError(f"{name}: {count} program headers of {entry_size} bytes are not to be believed")
    if len(data) < table + count * entry_size:
        raise KcoreError(
            f"{name}: the program headers end at byte {len(data)}, expected {table + count * entry_size}"
        )
    for index in range(count):
        kind, _flags, offset, start, physical, size, _, _ = _PROGRAM.unpack_from(
            data, table + index * entry_size
        )
        yield kind, offset, start, physical, size


class Kcore:
    """An open /proc/kcore; it is closed with the last reference to it, or by `close`."""

    def __init__(self, handle: int, segments: tuple[Segment, ...]) -> None:
        self._handle = handle
        self.segments = segments

    def close(self) -> None:
        """Close the file; reading fails from then on."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.close()

    def vmcoreinfo(self) -> Vmcoreinfo:
        """What the kernel tells of itself; empty where the file has no such note (before 4.19)."""
        notes = (note.descriptor for note in self._notes() if note.owner == "VMCOREINFO")
        return parse_vmcoreinfo(next(notes, b""))

    def own_task(self) -> bytes:
        """The struct task_struct of the thread that asks, as the file's note NT_TASKSTRUCT has it; else empty."""
        notes = (note for note in self._notes() if note.owner == "CORE" and note.type == _NT_TASKSTRUCT)
        return next((note.descriptor for note in notes), b"")

    def _notes(self) -> Iterator[Note]:
        data = os.pread(self._handle, min(_HEADER.size + _MAX_SEGMENTS * _PROGRAM.size, 1 << 20), 0)
        for kind, offset, _, _, size in _headers(data, "/proc/kcore"):
            if kind == _PT_NOTE:
                yield from parse_notes(os.pread(self._handle, min(size, _MAX_NOTES), offset))

    def read_into(self, view: memoryview, segment: Segment, start: int) -> None:
        """Fill `view` with the memory at `start`, which lies in `segment`. Raises `KcoreError`."""
        have, size, offset = 0, len(view), segment.offset + start - segment.start
        while have < size:
            try:
                got = os.preadv(self._handle, [view[have:]], offset + have)
            except OSError as error:
                raise KcoreError(f"kernel memory at {start:#x}: {os.strerror(error.errno or 0)}") from error
            if not got:
                raise KcoreError(f"kernel memory at {start:#x}: expected {size} bytes, found {have}")
            have += got

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of kernel memory. Raises `KcoreError` if they are not all there."""
        if not 0 <= size <= _MAX_READ:
            raise KcoreError(f"kernel memory at {address:#x}: {size} bytes are not read at once")
        for start, length, offset, _ in self.segments:
            if start <= address and address + size <= start + length:
                return self._pread(address, size, offset + address - start)
        raise KcoreError(f"kernel memory at {address:#x}: not mapped")

    def _pread(self, address: int, size: int, offset: int) -> bytes:
        pieces, have = [], 0
        while have < size:
            try:
                piece = os.pread(self._handle, size - have, offset + have)
            except OSError as error:
                raise KcoreError(f"kernel memory at {address:#x}: {os.strerror(error.errno or 0)}") from error
            if not piece:
                raise KcoreError(f"kernel memory at {address:#x}: expected {size} bytes, found {have}")
            pieces.append(piece)
            have += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def open_kcore(root: Root) -> Kcore:
    """Open /proc/kcore below `root`.

    Raises `NeedsRoot` without the privilege, `KcoreError` under lockdown=confidentiality, where the kernel
    has none, and for a file that is no core.
    """
    path = root.join("/proc/kcore")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _open_error(root, error) from error
    try:
        header = os.pread(handle, _HEADER.size, 0)
        need = _HEADER.size
        if len(header) == _HEADER.size:
            fields = _HEADER.unpack(header)
            need = min(fields[4] + fields[9] * _PROGRAM.size, 1 << 20)
        return Kcore(handle, parse_segments(os.pread(handle, need, 0), name=path))
    except (OSError, LkmError) as error:
        os.close(handle)
        if isinstance(error, LkmError):
            raise
        raise KcoreError(f"{path}: {error.strerror}") from error


def _open_error(root: Root, error: OSError) -> LkmError:
    if error.errno == errno.ENOENT:
        return KcoreError("/proc/kcore: this kernel has none", remedy="it needs CONFIG_PROC_KCORE")
    lockdown = read_text(root.join("/sys/kernel/security/lockdown")) or ""
    if "[confidentiality]" in lockdown:
        return KcoreError(
            "/proc/kcore: lockdown=confidentiality forbids to read kernel memory",
            remedy="boot without lockdown=confidentiality",
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return NeedsRoot(
            "/proc/kcore: reading kernel memory takes root (CAP_SYS_RAWIO)",
            remedy="run it as root, outside of a container",
        )
    return KcoreError(f"/proc/kcore: {error.strerror}")
