# SPDX-License-Identifier: MIT
"""Compressed module files: gzip, xz and zstd, told apart by their magic and limited in output.

Several streams one after the other are read as one, and zero bytes after them are padding, as the classic
tools have it. Decompressors are imported only when they are needed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Union

from lkm.errors import ParseError

__all__ = [
    "DEFAULT_LIMIT",
    "Compression",
    "CompressionError",
    "Decompressor",
    "compression_of",
    "decompress",
]

DEFAULT_LIMIT = 1 << 30
"""Most bytes that a file may decompress to: 1 GiB."""
_ALWAYS = 1 << 26
_RATIO = 32
"""Up to 64 MiB, or 32 times its size, which is three times what modules and kernels come to."""

_STEP = 1024  # bytes given to a decompressor at a time: zstd can make 32 MiB of them, others less
_PADDING = re.compile(rb"\0*")
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


def decompress(data: Buffer, *, name: str = "<bytes>", limit: int = 0) -> bytes:
    """The content of a compressed file; data that is not compressed is returned as it is.

    Raises `CompressionError`, also when the output is longer than `limit` bytes, which is by default what such a
    file may sensibly come to.
    """
    limit = limit or min(DEFAULT_LIMIT, max(_ALWAYS, _RATIO * len(data)))
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


class Decompressor:
    """`decompress` for many files: the same content and errors, but one call a file where one is enough."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._zstd: Callable[[bytes, int], Buffer | None] | None = None

    def __call__(self, data: bytes, *, name: str = "<bytes>") -> Buffer:
        """The content of a file. Raises `CompressionError`."""
        content: Buffer | None = None
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            content = self._run_zstd(data)
        elif data.startswith((b"\xfd7zXZ", b"\x1f\x8b")):
            content = self._run_stream(data)
        return decompress(data, name=name, limit=self._limit) if content is None else content

    def _run_zstd(self, data: bytes) -> Buffer | None:
        if self._zstd is None:
            from lkm.formats import zstd

            self._zstd = zstd.whole_decompressor() or (lambda _data, _limit: None)
        return self._zstd(data, self._limit)

    def _run_stream(self, data: bytes) -> bytes | None:
        """One stream, and nothing after it."""
        try:
            if data[0] == 0xFD:
                import lzma

                stream: Any = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            else:
                import zlib

                stream = zlib.decompressobj(wbits=31)
            content: bytes = stream.decompress(data, self._limit)
        except Exception:  # noqa: BLE001 - whatever it is: decompress() will say what is wrong
            return None
        return content if stream.eof and not stream.unused_data else None


def _join(chunks: Iterable[bytes], name: str, limit: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise CompressionError(
                f"{name}: decompresses to more than {limit} bytes", remedy="is it what it says it is?"
            )
        parts.append(chunk)
    return b"".join(parts)


def _gzip(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import zlib
    except ImportError as error:
        raise _missing(name, "gzip", "zlib") from error

    return read_streams(lambda: zlib.decompressobj(wbits=31), data, Compression.GZIP, zlib.error, name)


def _xz(data: bytes, name: str) -> Iterator[bytes]:
    try:
        import lzma
    except ImportError as error:
        raise _missing(name, "xz", "lzma") from error

    def new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    return read_streams(new, data, Compression.XZ, lzma.LZMAError, name)


class Stream(Protocol):
    """What the decompressor objects of zlib, lzma, zstandard and `compression.zstd` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def read_streams(
    new: Callable[[], Stream], data: bytes, kind: Compression, failure: type[Exception], name: str
) -> Iterator[bytes]:
    """The output of one stream after the other, in pieces; `failure` is what the decompressor raises."""
    at = 0
    while at < len(data):
        stream = new()
        while not stream.eof:
            if at >= len(data):
                raise truncated(name, kind)
            try:
                chunk = stream.decompress(data[at : at + _STEP])
            except failure as error:
                raise corrupt(name, kind, str(error)) from error
            at = min(at + _STEP, len(data))
            yield chunk
        at = next_stream(data, at - len(stream.unused_data), kind, name)


def next_stream(data: bytes, at: int, kind: Compression, name: str) -> int:
    """Where the next stream begins, beyond any padding; the data's length when there is none."""
    padding = _PADDING.match(data, at)
    at = padding.end() if padding else at
    if at < len(data) and compression_of(data[at : at + 6]) is not kind:
        raise CompressionError(
            f"{name}: {len(data) - at} bytes after the {kind.name.lower()} stream are not one"
        )
    return at


def truncated(name: str, kind: Compression) -> CompressionError:
    """The error for a stream that ends early."""
    return CompressionError(f"{name}: {kind.name.lower()} stream ends early", remedy="is the file truncated?")


def corrupt(name: str, kind: Compression, reason: str) -> CompressionError:
    """The error for a stream that the decompressor does not take, for its own reason."""
    return CompressionError(f"{name}: corrupt {kind.name.lower()} stream: {' '.join(reason.split())}")


def _missing(name: str, kind: str, module: str) -> CompressionError:
    return CompressionError(f"{name}: {kind} needs Python's {module}, which this Python was built without")
