# SPDX-License-Identifier: MIT
"""Module files of all four ELF layouts, with what depmod, modinfo and modprobe read in them.

Nothing here uses the readers or the writer under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

__all__ = ["Exports", "Layout", "ModuleFile", "make_module_file"]

SHN_ABS = 0xFFF1


class Exports(Enum):
    """How a module says what it exports."""

    CRC = "a symbol __crc_ with the CRC in a section (from 5.19)"
    ABSOLUTE = "a symbol __crc_ whose value is the CRC"
    SYMTAB = "no CRCs: symbols __ksymtab_ in a section, and names in __ksymtab_strings"


class Layout(NamedTuple):
    """Class, byte order and machine of an ELF file."""

    bits: int = 64
    order: str = "<"
    machine: int = 62


class ModuleFile(NamedTuple):
    """What a module is to have. `modinfo` has whole entries, `key=value`."""

    modinfo: tuple[bytes, ...] = ()
    exports: tuple[tuple[str, int], ...] = ()
    imports: tuple[str, ...] = ()
    weak_imports: tuple[str, ...] = ()
    versions: tuple[tuple[str, int], ...] | None = None
    style: Exports = Exports.CRC
    layout: Layout = Layout()
    sections: tuple[tuple[str, bytes], ...] = ()
    """Further sections, as they are."""
    name: str = "x"
    """As in `struct module`."""


class _Section(NamedTuple):
    name: str
    kind: int
    data: bytes
    link: int = 0
    info: int = 0
    entsize: int = 0
    flags: int = 2


class _Symbol(NamedTuple):
    name: str
    section: int = 0
    value: int = 0
    info: int = 0x10


def make_module_file(module: ModuleFile) -> bytes:
    """The file's bytes."""
    order, wide = module.layout.order, module.layout.bits == 64
    sections = [
        _Section(".text", 1, b"\0" * 64, flags=6),
        _Section(".modinfo", 1, b"".join(entry + b"\0" for entry in module.modinfo)),
        _Section(".gnu.linkonce.this_module", 1, _this_module(module.name, wide=wide), flags=3),
    ]
    symbols = [_Symbol("init_module", 1, 0, 0x12)]
    symbols += _export_symbols(module, sections)
    symbols += [_Symbol(name) for name in module.imports]
    symbols += [_Symbol(name, info=0x20) for name in module.weak_imports]
    if module.versions is not None:
        sections.append(_Section("__versions", 1, _versions(module.versions, order, wide=wide)))
    sections += [_Section(name, 1, data) for name, data in module.sections]
    strings, rows = _Strings(), [_pack_symbol(0, _Symbol("", info=0), order, wide=wide)]
    rows += [_pack_symbol(strings.add(symbol.name), symbol, order, wide=wide) for symbol in symbols]
    link = len(sections) + 2
    sections.append(_Section(".symtab", 2, b"".join(rows), link, 1, 24 if wide else 16, 0))
    sections.append(_Section(".strtab", 3, bytes(strings.data), flags=0))
    return _pack_file(sections, module.layout)


class _Strings:
    """A table of NUL-terminated names, each where it was first added."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, name: str) -> int:
        place = len(self.data)
        self.data += name.encode() + b"\0"
        return place


def _this_module(name: str, *, wide: bool) -> bytes:
    at = 24 if wide else 12
    return b"\0" * at + name.encode()[:55].ljust(56, b"\0") + b"\0" * 64


def _export_symbols(module: ModuleFile, sections: list[_Section]) -> Iterable[_Symbol]:
    """The symbols that stand for the exports; their sections are appended."""
    if not module.exports:
        return
    order = module.layout.order
    names = b"".join(name.encode() + b"\0" for name, _ in module.exports)
    sections.append(_Section("__ksymtab_strings", 1, names))
    sections.append(_Section("__ksymtab", 1, b"\0" * 12 * len(module.exports)))
    table = len(sections)
    crcs = struct.pack(f"{order}{len(module.exports)}I", *(crc for _, crc in module.exports))
    if module.style is Exports.CRC:
        sections.append(_Section("__kcrctab", 1, crcs))
    for index, (name, crc) in enumerate(module.exports):
        yield _Symbol(name, 1, 0, 0x12)
        yield _Symbol(f"__ksymtab_{name}", table, 12 * index)
        if module.style is Exports.CRC:
            yield _Symbol(f"__crc_{name}", table + 1, 4 * index)
        elif module.style is Exports.ABSOLUTE:
            yield _Symbol(f"__crc_{name}", SHN_ABS, crc)


def _versions(rows: Sequence[tuple[str, int]], order: str, *, wide: bool) -> bytes:
    """`struct modversion_info`: 64 bytes a row."""
    pack = f"{order}Q56s" if wide else f"{order}I60s"
    return b"".join(struct.pack(pack, crc, name.encode()) for name, crc in rows)


def _pack_symbol(name: int, symbol: _Symbol, order: str, *, wide: bool) -> bytes:
    if wide:
        return struct.pack(order + "IBBHQQ", name, symbol.info, 0, symbol.section, symbol.value, 0)
    return struct.pack(order + "IIIBBH", name, symbol.value, 0, symbol.info, 0, symbol.section)


def _pack_file(sections: Sequence[_Section], layout: Layout) -> bytes:
    order, wide = layout.order, layout.bits == 64
    names = _Strings()
    header = struct.Struct(order + ("16sHHIQQQIHHHHHH" if wide else "16sHHIIIIIHHHHHH"))
    row = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    body = bytearray(header.size)
    rows = [bytes(row.size)]
    placed = [(names.add(section.name), section) for section in sections]
    placed.append((names.add(".shstrtab"), _Section(".shstrtab", 3, bytes(names.data), flags=0)))
    for name, section in placed:
        body += bytes(-len(body) % 8)
        place = (name, section.kind, section.flags, 0, len(body), len(section.data))
        rows.append(row.pack(*place, section.link, section.info, 1, section.entsize))
        body += section.data
    body += bytes(-len(body) % 8)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1])
    fields = (1, layout.machine, 1, 0, 0, len(body), 0, header.size, 0, 0, row.size, len(rows), len(rows) - 1)
    header.pack_into(body, 0, identity, *fields)
    return bytes(body) + b"".join(rows)


def modinfo_of(fields: Mapping[str, str]) -> tuple[bytes, ...]:
    """Entries of `.modinfo` for text."""
    return tuple(f"{key}={value}".encode() for key, value in fields.items())
