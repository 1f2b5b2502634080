# SPDX-License-Identifier: MIT
"""Files that are nothing but one table: what is made of them takes less than ten times their memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest

from lkm.formats.elf import SHT_PROGBITS, SHT_RELA, SHT_STRTAB, SHT_SYMTAB, Elf, parse_elf

COUNT = 5000
TIMES = 10
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_ROW = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QIIq")


def _file(rows: list[tuple[int, ...]], contents: list[bytes]) -> bytes:
    """`rows` lack offset and size; the names of sections are in the last one, the count in the first."""
    body, table = bytearray(_HEADER.size), bytearray()
    for (name, kind, link, entsize), content in zip(rows, contents):
        table += _ROW.pack(name, kind, 0, 1 << 50, len(body), len(content), link, 70000, 1 << 40, entsize)
        body += content
    first = _ROW.pack(0, 0, 0, 0, 0, len(rows) + 1, len(rows), 0, 0, 0)
    _HEADER.pack_into(body, 0, b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, len(body), 0, 64, 0, 0, 64, 0, 0xFFFF)
    return bytes(body) + first + bytes(table)


def _names(count: int) -> tuple[bytes, list[int]]:
    text, places = bytearray(1), []
    for number in range(count):
        places.append(len(text))
        text += b"%x\0" % number
    return bytes(text), places


def symbols() -> bytes:
    text, places = _names(COUNT)
    rows = b"".join(_SYMBOL.pack(at, 0x12, 0, 1, 0x100000 + at, 1000 + at) for at in places)
    return _file([(0, SHT_SYMTAB, 2, 24), (0, SHT_STRTAB, 0, 0)], [rows, text])


def symbols_of_one_name() -> bytes:
    rows = b"".join(_SYMBOL.pack(1, 0x12, 0, 1, (1 << 40) + number, 1000 + number) for number in range(COUNT))
    return _file([(0, SHT_SYMTAB, 2, 24), (0, SHT_STRTAB, 0, 0)], [rows, b"\0name\0"])


def relocations() -> bytes:
    rows = b"".join(_RELA.pack(1000 + 8 * number, 2, 1, -5000 - number) for number in range(COUNT))
    return _file(
        [(0, SHT_RELA, 2, 24), (0, SHT_SYMTAB, 3, 24), (0, SHT_STRTAB, 0, 0)], [rows, bytes(48), b"\0"]
    )


def sections() -> bytes:
    text, places = _names(COUNT)
    rows: list[tuple[int, ...]] = [(at, SHT_PROGBITS, 70000, 1 << 40) for at in places]
    return _file([*rows, (0, SHT_STRTAB, 0, 0)], [b"x"] * COUNT + [text])


def _related(elf: Elf) -> object:
    return elf._read_relocations(elf.sections[1])


@pytest.mark.parametrize(("make", "use"), [
    (symbols, lambda elf: elf.symbols),
    (symbols_of_one_name, lambda elf: elf.symbols),
    (relocations, _related),
    (sections, lambda elf: elf.by_name),
])  # fmt: skip
def test_a_file_of_one_table_takes_less_than_ten_times_its_size(
    make: Callable[[], bytes], use: Callable[[Elf], object]
) -> None:
    data = make()
    tracemalloc.start()
    try:
        kept = use(parse_elf(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept
    assert peak <= TIMES * len(data), f"{peak / len(data):.1f} times the file"


def test_a_name_is_the_same_whether_it_is_kept_or_read_again() -> None:
    """The names that are kept are dropped when there are too many."""
    found = parse_elf(symbols()).symbols
    assert [symbol.name for symbol in found] == [f"{number:x}" for number in range(COUNT)]
