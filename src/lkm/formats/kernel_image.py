# SPDX-License-Identifier: MIT
r"""A kernel's image as it lies in /boot: unpacked, with what addresses its bytes will have.

    bzImage (x86)     the boot protocol's header, and in it a packed ELF file: payload_offset and payload_length,
                      since protocol 2.08 (Documentation/arch/x86/boot.rst); all packers but gzip append the
                      unpacked size, 4 bytes (scripts/Makefile.lib)
    Image (arm64)     flat, "ARM\x64" at 56 (Documentation/arch/arm64/booting.rst)
    Image.gz          the same in gzip, which other packers are taken for as well
    EFI zboot         "MZ", "zimg" at 4, the payload's offset and size behind it (since 6.1:
                      drivers/firmware/efi/libstub/zboot-header.S)
    vmlinux           an ELF file

A flat image does not say where it is linked to; unless its relocations do, addresses count from its start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

from lkm.errors import ParseError
from lkm.formats import lz4
from lkm.formats.arm64_image import is_arm64_image, relocate
from lkm.formats.compression import Compression, compression_of, decompress
from lkm.formats.elf import MAGIC as ELF_MAGIC

__all__ = ["KernelImage", "KernelImageError", "Segment", "parse_kernel_image"]

LIMIT = 1 << 30
PT_LOAD = 1
X86_64, AARCH64 = 62, 183

LZMA_MEMORY = 1 << 28
"""Bytes. `lzma -9` of the kernel's build needs 65 MiB."""
LZMA_MAGIC, BZIP2_MAGIC, LZO_MAGIC = b"\x5d\0\0", b"BZh", b"\x89LZO"


class KernelImageError(ParseError):
    """No kernel image, a truncated one, or one of a kind that is not read."""


class Segment(NamedTuple):
    """`size` bytes at `offset` of the unpacked image are at `address` in the kernel's address space."""

    address: int
    offset: int
    size: int


class KernelImage(NamedTuple):
    """An unpacked kernel. `machine` is ELF's e_machine; `flat` where addresses count from the image's start."""

    name: str
    kind: str
    machine: int
    data: bytes
    segments: tuple[Segment, ...]
    flat: bool

    def offset(self, address: int) -> Optional[int]:
        """Where in `data` the byte at `address` lies; None if the image does not hold it."""
        for segment in self.segments:
            if 0 <= address - segment.address < segment.size:
                return segment.offset + address - segment.address
        return None

    def address(self, offset: int) -> Optional[int]:
        """The address of the byte at `offset` of `data`; None if it is not loaded."""
        for segment in self.segments:
            if 0 <= offset - segment.offset < segment.size:
                return segment.address + offset - segment.offset
        return None


def parse_kernel_image(data: bytes, *, name: str = "<bytes>") -> KernelImage:
    """The kernel in a file of /boot. Raises `KernelImageError`, and `CompressionError` of its payload."""
    if data[:4] == ELF_MAGIC:
        return _elf(data, name, "vmlinux")
    if data[0x1FE:0x200] == b"\x55\xaa" and data[0x202:0x206] == b"HdrS":
        return _elf(_bzimage_payload(data, name), name, "bzImage")
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        offset, size = _unpack("<II", data, 8, name)
        return _flat(_unpacked(_slice(data, offset, size, name), name), name, "EFI zboot")
    if is_arm64_image(data):
        return _flat(data, name, "Image")
    if compression_of(data) is not Compression.NONE or _foreign(data):
        return _flat(_unpacked(data, name), name, "packed Image")
    raise KernelImageError(
        f"{name}: no kernel image: it begins with {data[:8].hex(' ') or 'nothing'}",
        remedy="bzImage, arm64's Image (packed, or as EFI zboot) and an ELF vmlinux are read",
    )


def _bzimage_payload(data: bytes, name: str) -> bytes:
    (version,) = _unpack("<H", data, 0x206, name)
    if version < 0x208:
        raise KernelImageError(f"{name}: boot protocol {version:#x} does not say where the payload is")
    sectors = data[0x1F1] or 4
    offset, size = _unpack("<II", data, 0x248, name)
    payload = _slice(data, (sectors + 1) * 512 + offset, size, name)
    return _unpacked(payload if compression_of(payload) is Compression.GZIP else payload[:-4], name)


def _unpacked(data: bytes, name: str) -> bytes:
    """What a payload unpacks to, whichever of the kernel's packers made it."""
    if compression_of(data) is not Compression.NONE:
        return decompress(data, name=name)
    unpack = _foreign(data)
    if unpack is None:
        kind = (
            "LZO, which is not read" if data[:4] == LZO_MAGIC else f"of an unknown kind: {data[:6].hex(' ')}"
        )
        raise KernelImageError(f"{name}: its payload is {kind}")
    parts, total = [], 0
    for part in unpack(data, name):
        parts.append(part)
        total += len(part)
        if total > LIMIT:
            raise KernelImageError(f"{name}: unpacks to more than {LIMIT} bytes")
    return b"".join(parts)


def _foreign(data: bytes) -> Optional[Callable[[bytes, str], Iterator[bytes]]]:
    """The unpacker of what no module is packed with."""
    if data[:4] == lz4.MAGIC:
        return _lz4
    if data[:3] == LZMA_MAGIC:
        return _lzma
    return _bzip2 if data[:3] == BZIP2_MAGIC else None


def _lz4(data: bytes, name: str) -> Iterator[bytes]:
    return lz4.decompress_chunks(
        data, lambda reason: KernelImageError(f"{name}: corrupt lz4 stream: {reason}")
    )


def _lzma(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import lzma
    except ImportError as error:
        raise KernelImageError(f"{name}: lzma stream: {error}") from error
    try:
        stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY)
        yield from _whole(stream.decompress(data, LIMIT + 1), name, "lzma", ended=stream.eof)
    except (EOFError, lzma.LZMAError) as error:
        raise KernelImageError(f"{name}: lzma stream: {error}") from error


def _bzip2(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import bz2

        stream = bz2.BZ2Decompressor()
        yield from _whole(stream.decompress(data, LIMIT + 1), name, "bzip2", ended=stream.eof)
    except (ImportError, EOFError, OSError) as error:
        raise KernelImageError(f"{name}: bzip2 stream: {error}") from error


def _whole(content: bytes, name: str, kind: str, *, ended: bool) -> Iterator[bytes]:
    """`content`, where its stream has ended, or is too long, which the caller sees."""
    if not ended and len(content) <= LIMIT:
        raise KernelImageError(f"{name}: {kind} stream: it does not end", remedy="is the file truncated?")
    yield content


def _flat(data: bytes, name: str, kind: str) -> KernelImage:
    if data[:4] == ELF_MAGIC:
        return _elf(data, name, kind)
    if not is_arm64_image(data):
        raise KernelImageError(f"{name}: what it unpacks to is no arm64 Image: {data[:8].hex(' ')}")
    base, relocated = relocate(data) or (0, data)
    return KernelImage(name, kind, AARCH64, relocated, (Segment(base, 0, len(data)),), flat=not base)


def _elf(data: bytes, name: str, kind: str) -> KernelImage:
    """Program headers, not sections: those may be stripped."""
    if data[:6] != ELF_MAGIC + b"\x02\x01":
        raise KernelImageError(f"{name}: expected a 64-bit little-endian ELF file in it")
    machine, offset, size, count = struct.unpack("<18xH12xQ14xHH", _slice(data, 0, 58, name))
    segments = []
    for number in range(count):
        header = _slice(data, offset + number * size, 56, name)
        kind_of, at, address, length = struct.unpack("<I4xQQ8xQ", header[:40])
        if kind_of == PT_LOAD and address:  # x86's per-CPU variables are at 0 (up to 6.14)
            segments.append(Segment(address, at, min(length, len(data) - at)))
    return KernelImage(name, kind, machine, data, tuple(segments), flat=False)


def _slice(data: bytes, offset: int, size: int, name: str) -> bytes:
    if offset + size > len(data):
        raise KernelImageError(
            f"{name}: expected {size} bytes at {offset}, the file has {len(data)}",
            remedy="is the file truncated?",
        )
    return data[offset : offset + size]


def _unpack(layout: str, data: bytes, offset: int, name: str) -> tuple[int, ...]:
    return struct.unpack(layout, _slice(data, offset, struct.calcsize(layout), name))
