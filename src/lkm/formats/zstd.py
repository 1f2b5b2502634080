# SPDX-License-Identifier: MIT
"""zstd, by whichever implementation is there.

Tried in this order: `compression.zstd` (Python 3.14), the zstandard wheel, libzstd through ctypes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from lkm.formats.compression import CompressionError, read_stream

__all__ = ["BACK_ENDS", "decompress_chunks"]

_STEP = 1024  # input bytes a call: a block of 4 bytes can stand for 128 KiB
_OUTPUT = 1 << 17


def decompress_chunks(data: bytes, name: str) -> Iterator[bytes]:
    """The content of one or more zstd frames, in pieces. Raises `CompressionError`."""
    for load in BACK_ENDS:
        try:
            back_end = load()
        except (ImportError, OSError, AttributeError):
            continue
        return back_end(data, name)
    raise CompressionError(
        f"{name}: zstd needs Python 3.14, the zstandard package or libzstd",
        remedy="install libzstd1 (Debian), libzstd (Fedora, Arch) or the Python package zstandard",
    )


_BackEnd = Callable[[bytes, str], Iterator[bytes]]


def _load_standard() -> _BackEnd:
    from compression import zstd

    def run(data: bytes, name: str) -> Iterator[bytes]:
        while data:
            stream = zstd.ZstdDecompressor()
            yield from read_stream(stream, data, zstd.ZstdError, "zstd", name)
            data = stream.unused_data.lstrip(b"\0")

    return run


def _load_wheel() -> _BackEnd:
    import zstandard

    def run(data: bytes, name: str) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            stream = zstandard.ZstdDecompressor().decompressobj()
            while not stream.eof:
                if at >= len(data):
                    raise _truncated(name)
                try:
                    chunk = stream.decompress(data[at : at + _STEP])
                except zstandard.ZstdError as error:
                    raise _corrupt(name, str(error)) from error
                at += _STEP
                yield chunk
            at = min(at, len(data)) - len(stream.unused_data)
            while at < len(data) and not data[at]:
                at += 1

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
        data = data.rstrip(b"\0") + bytes(4)  # a frame may end in zeros; more of them are padding
        source = ctypes.create_string_buffer(data, len(data))
        target = ctypes.create_string_buffer(_OUTPUT)
        given = Buffer(ctypes.addressof(source), len(data), 0)
        stream = library.ZSTD_createDStream()
        try:
            more = 1
            while more or data[given.pos :].strip(b"\0"):
                taken = Buffer(ctypes.addressof(target), _OUTPUT, 0)
                more = run_stream(stream, ctypes.byref(taken), ctypes.byref(given))
                if library.ZSTD_isError(more):
                    raise _corrupt(name, library.ZSTD_getErrorName(more).decode())
                if more and not taken.pos and given.pos == len(data):
                    raise _truncated(name)
                yield target.raw[: taken.pos]
        finally:
            library.ZSTD_freeDStream(stream)

    return run


def _truncated(name: str) -> CompressionError:
    return CompressionError(f"{name}: zstd stream ends early", remedy="is the file truncated?")


def _corrupt(name: str, reason: str) -> CompressionError:
    return CompressionError(f"{name}: corrupt zstd stream: {reason}")


BACK_ENDS: tuple[Callable[[], _BackEnd], ...] = (_load_standard, _load_wheel, _load_library)
