# SPDX-License-Identifier: MIT
"""Small kernel images: symbols as scripts/kallsyms.c writes them, tables of initcalls, what they lie in."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

BASE = 0xFFFFFFFF81000000
FUNCTIONS = BASE + 0x1000
"""Where the functions of `make_kernel` are, 16 bytes each."""
TABLE = 0x8000
"""Offset of its initcalls."""
LEVELS = ("early", "0", "1", "2", "3", "4", "5", "6", "7", "con")
LAYOUTS = ("up to 6.1", "6.2", "since 6.4", "7.x")

TOKENS = tuple(
    bytes([code]) if 0x20 < code < 0x7F else b"%c%c" % (97 + code % 26, 97 + code // 26)
    for code in range(256)
)
"""Of the characters that names use each is itself; the others are two letters each."""


class MadeSymbol(NamedTuple):
    address: int
    type: str
    name: str


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _names(symbols: Sequence[MadeSymbol]) -> tuple[bytes, bytes]:
    names, markers = bytearray(), []
    for number, symbol in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        text = (symbol.type + symbol.name).encode()
        for code, token in enumerate(TOKENS):  # as the real packer does: a token for two letters
            if len(token) == 2:
                text = text.replace(token, bytes([code]))
        size = len(text)
        names += bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        names += text
    return bytes(names), struct.pack(f"<{len(markers)}I", *markers)


def make_kallsyms(symbols: Sequence[MadeSymbol], layout: str, *, address: int, percpu: bool = False) -> bytes:
    """The tables in one layout; `address` is where they will be, a multiple of 8."""
    align = 4 if layout == "7.x" else 8
    names, markers = _names(symbols)
    count = _padded(struct.pack("<I", len(symbols)), align)
    seqs = bytes(range(1, 4)) * len(symbols) if layout != "up to 6.1" else b""
    tokens = b"".join(token + b"\0" for token in TOKENS)
    starts = [sum(len(token) + 1 for token in TOKENS[:number]) for number in range(256)]
    middle = count + _padded(names, align) + _padded(markers, align)
    tail = _padded(tokens, align) + struct.pack("<256H", *starts)
    if layout in ("up to 6.1", "6.2"):
        offsets = _padded(_offsets(symbols, percpu=percpu), 8) + struct.pack("<Q", BASE)
        return offsets + middle + _padded(seqs, 8) + tail
    if layout == "since 6.4":
        rest = _padded(_offsets(symbols, percpu=percpu), 8) + struct.pack("<Q", BASE) + seqs
        return _padded(middle + tail, 8) + rest
    start = address + len(middle + tail)
    places = [symbol.address - start - 4 * number for number, symbol in enumerate(symbols)]
    return middle + tail + struct.pack(f"<{len(places)}i", *places) + seqs


def _offsets(symbols: Sequence[MadeSymbol], *, percpu: bool) -> bytes:
    """With `percpu` (CONFIG_KALLSYMS_ABSOLUTE_PERCPU) what is below the kernel stays an address."""
    if not percpu:
        return struct.pack(f"<{len(symbols)}I", *(symbol.address - BASE for symbol in symbols))
    values = [symbol.address if symbol.address < BASE else -1 - (symbol.address - BASE) for symbol in symbols]
    return struct.pack(f"<{len(values)}i", *values)


def make_elf(data: bytes, *, address: int = BASE) -> bytes:
    """A stripped vmlinux: one segment, `data`, at `address`."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, address, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    start = 0x1000
    segment = struct.pack("<IIQQQQQQ", 1, 7, start, address, 0, len(data), len(data), 0x1000)
    return (header + segment).ljust(start, b"\0") + data


def make_bzimage(payload: bytes, *, version: int = 0x20F) -> bytes:
    """The boot protocol's header before `payload`, which has its size at its end as the packer left it."""
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + bytes(64) + payload


def make_arm64(data: bytes) -> bytes:
    """`data` with the header of an arm64 Image over its first 64 bytes."""
    image = bytearray(data)
    image[:64] = bytes(64)
    image[0:2] = b"MZ"
    image[56:60] = b"ARM\x64"
    return bytes(image)


def make_relocations(values: Sequence[tuple[int, int]], *, base: int) -> bytes:
    """`.rela.dyn`: at each offset of the image, an address; filled up to the size of a real one."""
    rows = [(base + offset, base + value) for offset, value in values]
    rows += [(base + 0x10000 + 8 * number, base + number) for number in range(300)]
    return b"".join(struct.pack("<QQQ", place, 1027, value) for place, value in rows)


def function(number: int) -> str:
    return f"setup_{number}"


def make_symbols(*, variables: bool, total: int = 700) -> list[MadeSymbol]:
    """Functions, `_einittext`, and with `variables` the names of the places of `make_kernel`'s initcalls."""
    symbols = [MadeSymbol(FUNCTIONS + 16 * number, "t", function(number)) for number in range(total)]
    symbols.append(MadeSymbol(FUNCTIONS + 0x6000, "T", "_einittext"))
    if variables:
        for number in range(100):
            name = f"__initcall__kmod_part{number}__{number}_{number + 7}_{function(number)}{LEVELS[number // 10]}"
            symbols.append(MadeSymbol(BASE + TABLE + 4 * number, "d", name))
    return symbols


def make_kernel(*, variables: bool = True, layout: str = "since 6.4", pointers: int = BASE) -> bytes:
    """What a vmlinux holds: a hundred initcalls, ten a level, their table, `initcall_levels`, and symbols.

    `pointers` is the address that the image's own pointers count from.
    """
    image = bytearray(0x9000)
    for number in range(100):
        place = BASE + TABLE + 4 * number
        struct.pack_into("<i", image, TABLE + 4 * number, FUNCTIONS + 16 * number - place)
    levels = [pointers + TABLE + 40 * number for number in range(1, 10)]
    struct.pack_into("<9Q", image, TABLE + 0x800, *levels)
    symbols = make_symbols(variables=variables)
    return bytes(image) + make_kallsyms(symbols, layout, address=BASE + len(image))
