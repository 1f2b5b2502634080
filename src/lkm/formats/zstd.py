# SPDX-License-Identifier: MIT
"""zstd, by whichever implementation is there.

Tried in this order: `compression.zstd` (Python 3.14), the zstandard wheel, libzstd through ctypes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, Optional

from lkm.formats.compression import (
    Buffer,
    Compression,
    CompressionError,
    Stream,
    corrupt,
    next_stream,
    read_streams,
    truncated,
)

__all__ = ["BACK_ENDS", "WHOLE_BACK_ENDS", "decompress_chunks", "is_available", "whole_decompressor"]

_OUTPUT = 1 << 17


def decompress_chunks(data: bytes, name: str) -> Iterator[bytes]:
    """The content of one or more zstd frames, in pieces. Raises `CompressionError`."""
    back_end = _find_back_end()
    if back_end is not None:
        return back_end(data, name)
    raise CompressionError(
        f"{name}: zstd needs Python 3.14, the zstandard package or libzstd",
        remedy="install libzstd1 (Debian), libzstd (Fedora, Arch) or the Python package zstandard",
    )


def is_available() -> bool:
    """Whether anything here can decompress zstd."""
    return _find_back_end() is not None


_BackEnd = Callable[[bytes, str], Iterator[bytes]]


def _find_back_end() -> _BackEnd | None:
    for load in BACK_ENDS:
        try:
            back_end = load()
        except (ImportError, OSError, AttributeError):
            continue
        return back_end
    return None


def _load_standard() -> _BackEnd:
    from compression import zstd

    def run(data: bytes, name: str) -> Iterator[bytes]:
        return read_streams(zstd.ZstdDecompressor, data, Compression.ZSTD, zstd.ZstdError, name)

    return run


def _load_wheel() -> _BackEnd:
    import zstandard

    def new() -> Stream:
        return zstandard.ZstdDecompressor().decompressobj()

    def run(data: bytes, name: str) -> Iterator[bytes]:
        return read_streams(new, data, Compression.ZSTD, zstandard.ZstdError, name)

    return run


def _load_library() -> _BackEnd:
    import ctypes
    import ctypes.util

    library: Any = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")

    class Buffer(ctypes.Structure):
        _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))

    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    run_stream = library.ZSTD_decompressStream
    run_stream.argtypes = [ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer)]
    run_stream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p

    def run(data: bytes, name: str) -> Iterator[bytes]:
        source = ctypes.create_string_buffer(data, len(data))
        target = ctypes.create_string_buffer(_OUTPUT)
        given = Buffer(ctypes.addressof(source), len(data), 0)
        stream = library.ZSTD_createDStream()
        try:
            while given.pos < len(data):
                more = 1
                while more:
                    taken = Buffer(ctypes.addressof(target), _OUTPUT, 0)
                    more = run_stream(stream, ctypes.byref(taken), ctypes.byref(given))
                    if library.ZSTD_isError(more):
                        raise corrupt(name, Compression.ZSTD, library.ZSTD_getErrorName(more).decode())
                    if more and given.pos == len(data) and taken.pos < _OUTPUT:
                        raise truncated(name, Compression.ZSTD)
                    yield target.raw[: taken.pos]
                given.pos = next_stream(data, given.pos, Compression.ZSTD, name)
        finally:
            library.ZSTD_freeDStream(stream)

    return run


def whole_decompressor() -> Whole | None:
    """What decompresses one frame that tells its size: `(data, limit)` → content, or None if it cannot.

    It is the faster for one call without a copy, and the caller keeps it for many files. None without any.
    """
    for load in WHOLE_BACK_ENDS:
        try:
            back_end = load()
        except (ImportError, OSError, AttributeError):
            continue
        return back_end
    return None


Whole = Callable[[bytes, int], Optional[Buffer]]


def _whole_standard() -> Whole:
    from compression import zstd

    def run(data: bytes, limit: int) -> Buffer | None:
        stream = zstd.ZstdDecompressor()
        try:
            content: bytes = stream.decompress(data, limit)
        except zstd.ZstdError:
            return None
        return content if stream.eof and not stream.unused_data else None

    return run


def _whole_wheel() -> Whole:
    import zstandard

    decompressor = zstandard.ZstdDecompressor()

    def run(data: bytes, limit: int) -> Buffer | None:
        try:
            if not 0 <= zstandard.frame_content_size(data) <= limit:
                return None
            content: bytes = decompressor.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError:
            return None
        return content

    return run


def _whole_library() -> Whole:
    import ctypes

    library: Any = ctypes.CDLL("libzstd.so.1")
    find_size, run_once = library.ZSTD_getFrameContentSize, library.ZSTD_decompress
    find_size.argtypes, find_size.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_ulonglong
    run_once.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    run_once.restype = ctypes.c_size_t

    def run(data: bytes, limit: int) -> Buffer | None:
        size = find_size(data, len(data))  # unknown and corrupt are the two greatest numbers
        if size > limit:
            return None
        target = bytearray(size)
        content = (ctypes.c_char * size).from_buffer(target)
        done = run_once(content, size, data, len(data))
        return memoryview(target) if done == size else None

    return run


WHOLE_BACK_ENDS: tuple[Callable[[], Whole], ...] = (_whole_standard, _whole_wheel, _whole_library)

BACK_ENDS: tuple[Callable[[], _BackEnd], ...] = (_load_standard, _load_wheel, _load_library)
