# SPDX-License-Identifier: MIT
"""zstd, by whichever implementation is there.

Tried in this order: `compression.zstd` (Python 3.14), the zstandard wheel, libzstd through ctypes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from lkm.formats.compression import (
    Compression,
    CompressionError,
    Stream,
    corrupt,
    next_stream,
    read_streams,
    truncated,
)

__all__ = ["BACK_ENDS", "decompress_chunks", "is_available"]

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


BACK_ENDS: tuple[Callable[[], _BackEnd], ...] = (_load_standard, _load_wheel, _load_library)
