# SPDX-License-Identifier: MIT
"""Pixels of a PNG as a browser writes it: 8 bits a channel, RGB or RGBA, not interlaced."""

from __future__ import annotations

import struct
import zlib

__all__ = ["Picture", "parse_png"]


class Picture:
    """Rows of pixels; `at(x, y)` is (red, green, blue)."""

    def __init__(self, width: int, height: int, channels: int, rows: list[bytes]) -> None:
        self.width, self.height, self._channels, self._rows = width, height, channels, rows

    def at(self, x: float, y: float) -> tuple[int, int, int]:
        start = int(x) * self._channels
        red, green, blue = self._rows[int(y)][start : start + 3]
        return red, green, blue

    def colours(self) -> set[bytes]:
        """Every colour that is in it."""
        step = self._channels
        return {row[at : at + 3] for row in self._rows for at in range(0, len(row), step)}


def parse_png(data: bytes) -> Picture:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed = 8, b""
    width = height = channels = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert (depth, interlace) == (8, 0)
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += body
        at += size + 12
    return Picture(width, height, channels, _rows(zlib.decompress(packed), width * channels, channels))


def _rows(data: bytes, size: int, step: int) -> list[bytes]:
    """Each line's filter undone (PNG specification, 9.2)."""
    rows: list[bytes] = []
    above = bytes(size)
    for at in range(0, len(data), size + 1):
        kind, row = data[at], bytearray(data[at + 1 : at + 1 + size])
        for index in range(size):
            left = row[index - step] if index >= step else 0
            corner = above[index - step] if index >= step else 0
            guess = (0, left, above[index], (left + above[index]) // 2, _paeth(left, above[index], corner))[
                kind
            ]
            row[index] = (row[index] + guess) & 0xFF
        above = bytes(row)
        rows.append(above)
    return rows


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((abs(estimate - each), order, each) for order, each in enumerate((left, above, corner)))[2]
