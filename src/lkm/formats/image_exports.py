# SPDX-License-Identifier: MIT
"""What a kernel itself exports, read from its tables: names, licence, CRCs, namespaces.

    __ksymtab, __ksymtab_gpl   12 bytes a symbol: the distances to its value, name, namespace (0: none)
    __kcrctab, __kcrctab_gpl   4 bytes a symbol, with MODVERSIONS
    __kflagstab                1 byte a symbol, bit 0: GPL-only; then there is one table of symbols (7.x)

They are in the unpacked image, whose sections keep their names, and in memory. A flat image has no sections: see
`flat_exports`.
Source: struct kernel_symbol with CONFIG_HAVE_ARCH_PREL32_RELOCATIONS (include/linux/export.h 5.10,
kernel/module/internal.h 6.1 to 7.3); find_exported_symbol_in_section.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from lkm.formats.elf import Elf, is_elf, parse_elf
from lkm.formats.exports import Export

if TYPE_CHECKING:
    from lkm.formats.kernel_image import KernelImage

__all__ = ["ENTRY_SIZE", "ExportTable", "parse_export_tables", "parse_image_exports"]

_ENTRY = struct.Struct("<iii")
ENTRY_SIZE = _ENTRY.size
_GPL_ONLY = 1
_STRING = 512
_SPAN = 1 << 23
"""Bytes: the names of a kernel's exports lie together within this."""

Read = Callable[[int, int], bytes]
"""`read(address, size)`: up to `size` bytes at an address of the kernel."""


class ExportTable(NamedTuple):
    """One table of symbols at `address`, with its CRCs (empty: none) and flags; `gpl` where flags are empty."""

    address: int
    symbols: bytes
    crcs: bytes = b""
    flags: bytes = b""
    gpl: bool = False


def parse_export_tables(tables: Iterable[ExportTable], read: Read) -> tuple[Export, ...]:
    """The exports in the tables; `read` is asked for the strings."""
    found: list[Export] = []
    for table in tables:
        found.extend(_parse(table, read))
    return tuple(found)


def _parse(table: ExportTable, read: Read) -> list[Export]:
    count = len(table.symbols) // ENTRY_SIZE
    rows = list(_ENTRY.iter_unpack(table.symbols[: count * ENTRY_SIZE]))
    crcs = struct.unpack(f"<{len(table.crcs) // 4}I", table.crcs[: len(table.crcs) // 4 * 4])
    places = [table.address + index * ENTRY_SIZE for index in range(count)]
    names = [at + 4 + row[1] for at, row in zip(places, rows)]
    spaces = [at + 8 + row[2] if row[2] else 0 for at, row in zip(places, rows)]
    strings = _strings({*names, *filter(None, spaces)}, read)
    return [
        Export(
            strings[name],
            bool(table.flags[index] & _GPL_ONLY) if index < len(table.flags) else table.gpl,
            crcs[index] if index < len(crcs) else None,
            strings[space] if space else "",
        )
        for index, (name, space) in enumerate(zip(names, spaces))
    ]


def _strings(addresses: set[int], read: Read) -> dict[int, str]:
    """The strings at these addresses, read at once where they lie together; "" for what cannot be read."""
    if not addresses:
        return {}
    low, high = min(addresses), max(addresses)
    together = read(low, high - low + _STRING) if high - low < _SPAN else b""
    found = {}
    for address in addresses:
        start = address - low
        end = together.find(b"\0", start)
        raw = together[start:end] if end >= 0 else read(address, _STRING).split(b"\0", 1)[0]
        found[address] = raw.decode("utf-8", "backslashreplace")
    return found


def parse_image_exports(image: KernelImage) -> tuple[Export, ...]:
    """The exports of an unpacked kernel. Raises `ElfError`; none where it has no such tables."""
    if is_elf(image.data):
        return _parse_elf(image)
    from lkm.formats.flat_exports import parse_flat_exports

    return parse_flat_exports(image.data)


def _parse_elf(image: KernelImage) -> tuple[Export, ...]:
    elf = parse_elf(image.data, name=image.name)
    tables = []
    for symbols, crcs, gpl in (("__ksymtab", "__kcrctab", False), ("__ksymtab_gpl", "__kcrctab_gpl", True)):
        section = elf.section(symbols)
        if section is not None:
            flags = _content(elf, "__kflagstab") if not gpl else b""
            tables.append(ExportTable(section.addr, bytes(section.data), _content(elf, crcs), flags, gpl))
    return parse_export_tables(tables, _reader(elf))


def _content(elf: Elf, name: str) -> bytes:
    section = elf.section(name)
    return bytes(section.data) if section else b""


def _reader(elf: Elf) -> Read:
    loaded = sorted((s for s in elf.sections if s.addr and len(s.data)), key=lambda s: s.addr)

    def read(address: int, size: int) -> bytes:
        for section in loaded:
            at = address - section.addr
            if 0 <= at < len(section.data):
                return bytes(section.data[at : at + size])
        return b""

    return read
