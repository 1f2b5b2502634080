# SPDX-License-Identifier: MIT
"""Compressed module files: gzip, xz and zstd, told apart by their magic and limited in output.

Several streams one after the other are read as one, and zero bytes after them are padding, as the classic
tools have it. Decompressors are imported only when they are needed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Protocol, Union

from lkm.errors import ParseError

__all__ = ["DEFAULT_LIMIT", "Compression", "CompressionError", "compression_of", "decompress"]

DEFAULT_LIMIT = 1 << 30
"""Most bytes that a file may decompress to: 1 GiB."""

_CHUNK = 1 << 20
_XZ_MEMORY = 1 << 29  # a dictionary of more than this is no module's

Buffer = Union[bytes, memoryview]


class CompressionError(ParseError):
    """A truncated or corrupt stream, too much output, or a decompressor that is not there."""


class Compression(enum.Enum):
    """How a file is compressed; the value is the usual suffix of its name."""

    NONE = ""
    GZIP = ".gz"
    XZ = ".xz"
    ZSTD = ".zst"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\xfd7zXZ\0": Compression.XZ,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
}


def compression_of(data: Buffer) -> Compression:
    """What the first bytes say; NONE for anything else."""
    head = bytes(data[:6])
    for magic, found in _MAGIC.items():
        if head.startswith(magic):
            return found
    return Compression.NONE


def decompress(data: Buffer, *, name: str = "<bytes>", limit: int = DEFAULT_LIMIT) -> bytes:
    """The content of a compressed file; data that is not compressed is returned as it is.

    Raises `CompressionError`, also when the output is longer than `limit` bytes.
    """
    found = compression_of(data)
    if found is Compression.NONE:
        return bytes(data)
    if found is Compression.GZIP:
        chunks = _gzip(bytes(data), name)
    elif found is Compression.XZ:
        chunks = _xz(bytes(data), name)
    else:
        from lkm.formats import zstd

        chunks = zstd.decompress_chunks(bytes(data), name)
    return _join(chunks, name, limit)


def _join(chunks: Iterable[bytes], name: str, limit: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise CompressionError(f"{name}: decompresses to more than {limit} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _gzip(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import zlib
    except ImportError as error:
        raise _missing(name, "gzip", "zlib") from error
    while data:
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            try:
                chunk = stream.decompress(data, _CHUNK)
            except zlib.error as error:
                raise _corrupt(name, "gzip", error) from error
            data = stream.unconsumed_tail
            if not chunk and not data and not stream.eof:
                raise _truncated(name, "gzip")
            yield chunk
        data = _next_stream(stream.unused_data, Compression.GZIP, name)


def _xz(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import lzma
    except ImportError as error:
        raise _missing(name, "xz", "lzma") from error
    while data:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        yield from read_stream(stream, data, lzma.LZMAError, "xz", name)
        data = _next_stream(stream.unused_data, Compression.XZ, name)


class Stream(Protocol):
    """The decompressor objects of `lzma` and `compression.zstd`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def read_stream(
    stream: Stream, data: bytes, failure: type[Exception], kind: str, name: str
) -> Iterator[bytes]:
    """The output of one stream in pieces of bounded size; `failure` is what the decompressor raises."""
    while not stream.eof:
        try:
            chunk = stream.decompress(data, _CHUNK)
        except (failure, EOFError) as error:
            raise _corrupt(name, kind, error) from error
        data = b""
        if not chunk and stream.needs_input and not stream.eof:
            raise _truncated(name, kind)
        yield chunk


def _next_stream(rest: bytes, kind: Compression, name: str) -> bytes:
    """What follows a stream: another one, or nothing but padding."""
    rest = rest.lstrip(b"\0")
    if rest and compression_of(rest) is not kind:
        raise CompressionError(f"{name}: {len(rest)} bytes that are no {kind.name.lower()} stream follow one")
    return rest


def _truncated(name: str, kind: str) -> CompressionError:
    return CompressionError(f"{name}: {kind} stream ends early", remedy="is the file truncated?")


def _corrupt(name: str, kind: str, error: Exception) -> CompressionError:
    reason = " ".join(str(error).split())
    return CompressionError(f"{name}: corrupt {kind} stream: {reason}")


def _missing(name: str, kind: str, module: str) -> CompressionError:
    return CompressionError(f"{name}: {kind} needs Python's {module}, which this Python was built without")
