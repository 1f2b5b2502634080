# SPDX-License-Identifier: MIT
"""CRCs of symbols in module files of any architecture, in the order and form of modprobe's and modinfo's lists.

`lkm.formats.modversions` and `lkm.formats.exports` read what the kernel reads, of 64-bit little-endian modules. Here
it is what kmod prints: `__versions` of either word size, and the `__crc_` symbols. Source: kmod 34,
libkmod/libkmod-elf.c, kmod_elf_get_modversions and kmod_elf_get_symbols.
"""

from __future__ import annotations

from lkm.formats.elf import ElfError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.formats.elf import Elf, Symbol

__all__ = ["parse_export_crcs", "parse_import_crcs"]

_ENTRY = 64
_CRC = "__crc_"
_ABSENT = (1 << 64) - 1


def parse_import_crcs(elf: Elf) -> list[tuple[str, int]] | None:
    """(symbol, CRC) of each entry of `__versions`; None if there is no such section. ElfError if it is torn."""
    section = elf.section("__versions")
    if section is None:
        return None
    data = bytes(section.data)
    if len(data) % _ENTRY:
        raise ElfError(f"{elf.name}: __versions: expected a multiple of {_ENTRY} bytes, found {len(data)}")
    size = elf.bits // 8
    rows = []
    for at in range(0, len(data), _ENTRY):
        name, end, _ = data[at + size : at + _ENTRY].partition(b"\0")
        if not end:
            raise ElfError(f"{elf.name}: __versions: the name at {at} does not end")
        crc = _number(elf, data[at : at + size])
        rows.append((name.decode("utf-8", "surrogateescape").removeprefix("."), crc))
    return rows


def parse_export_crcs(elf: Elf) -> list[tuple[str, int]] | None:
    """(symbol, CRC) of each export; without CRCs the names of `__ksymtab_strings` with 0; None if it has neither."""
    rows = [(row.name[len(_CRC) :], _crc(elf, row)) for row in elf.symbols if row.name.startswith(_CRC)]
    if rows:
        return rows
    section = elf.section("__ksymtab_strings")
    if section is None:
        return None
    names = bytes(section.data).decode("utf-8", "surrogateescape").split("\0")
    return [(name, 0) for name in names if name]


def _crc(elf: Elf, symbol: Symbol) -> int:
    """Its value, or what stands there: since 5.3 a CRC may be a word in a section (of that symbol)."""
    if symbol.shndx == 0 or symbol.shndx >= 0xFF00:  # absolute
        return symbol.value
    if symbol.shndx >= len(elf.sections):
        return _ABSENT
    data = bytes(elf.sections[symbol.shndx].data[symbol.value : symbol.value + 4])
    return _number(elf, data) if len(data) == 4 else _ABSENT


def _number(elf: Elf, data: bytes) -> int:
    return int.from_bytes(data, "little" if elf.byteorder == "little" else "big")
