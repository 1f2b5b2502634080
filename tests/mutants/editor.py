# SPDX-License-Identifier: MIT
"""Changes a module file field by field; what does not fit in its place goes to the end of the file."""

from __future__ import annotations

import struct

from lkm.formats.elf import SHF_ALLOC
from lkm.formats.modversions import ENTRY_SIZE
from lkm.formats.raw_module import HEADER_SIZE, SECTION_SIZE, SYMBOL_SIZE, RawModule, RawSection, RawSymbol
from lkm.formats.signature import split_signature
from lkm.names import NAME_OFFSET, NAME_SIZE

HEADER_FIELDS = {
    "class": (4, "B"), "data": (5, "B"), "ident_version": (6, "B"), "abi": (7, "B"), "type": (16, "H"),
    "machine": (18, "H"), "version": (20, "I"), "entry": (24, "Q"), "phoff": (32, "Q"), "shoff": (40, "Q"),
    "flags": (48, "I"), "ehsize": (52, "H"), "phentsize": (54, "H"), "phnum": (56, "H"), "shentsize": (58, "H"),
    "shnum": (60, "H"), "shstrndx": (62, "H"),
}  # fmt: skip
SECTION_FIELDS = ("name", "type", "flags", "addr", "offset", "size", "link", "info", "align", "entsize")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
THIS_MODULE = ".gnu.linkonce.this_module"


class Editor:
    """`data` is the module without its signature, which is kept in `signature`; `tail` comes behind it."""

    def __init__(self, data: bytes) -> None:
        payload = split_signature(data)[0]
        self.data = bytearray(payload)
        self.signature = data[len(payload) :]
        self.tail = b""
        self.parameters = ""

    def result(self) -> bytes:
        return bytes(self.data) + self.tail

    @property
    def raw(self) -> RawModule:
        return RawModule(bytes(self.data))

    def section(self, name: str) -> RawSection:
        return self.raw.sections[self.index(name)]

    def index(self, name: str) -> int:
        """The first section of that name; LookupError for none."""
        names = self.raw.names
        for index in range(1, len(names)):
            if names[index] == name:
                return index
        raise LookupError(name)

    def has(self, name: str) -> bool:
        return name in self.raw.names[1:]

    def content(self, name: str) -> bytes:
        return self.raw.content(self.section(name))

    def set_header(self, field: str, value: int) -> None:
        at, code = HEADER_FIELDS[field]
        struct.pack_into("<" + code, self.data, at, value)

    def set_section(self, index: int, **fields: int) -> None:
        row = self.raw.sections[index]._replace(**fields)
        _SECTION.pack_into(self.data, self.raw.header.shoff + index * SECTION_SIZE, *row)

    def set_content(self, name: str, content: bytes) -> None:
        """New bytes for a section: in its place where they fit, else at the end."""
        index = self.index(name)
        row = self.raw.sections[index]
        if len(content) <= row.size:
            self.data[row.offset : row.offset + len(content)] = content
            self.set_section(index, size=len(content))
            return
        self.data += bytes(-len(self.data) % 64)
        offset = len(self.data)
        self.data += content
        self.set_section(index, offset=offset, size=len(content))

    def rename_section(self, name: str, new: str, *, alloc: bool | None = None) -> None:
        """The new name is appended to the table of names."""
        index = self.index(name)
        flags = self.raw.sections[index].flags
        if alloc is not None:
            flags = flags | SHF_ALLOC if alloc else flags & ~SHF_ALLOC
        self.set_section(index, name=self._add_string(self.raw.header.shstrndx, new), flags=flags)

    def _add_string(self, table: int, text: str) -> int:
        row = self.raw.sections[table]
        content = self.raw.content(row) + text.encode() + b"\0"
        offset = len(self.data)
        self.data += content
        self.set_section(table, offset=offset, size=len(content))
        return row.size

    def modinfo(self) -> list[tuple[str, str]]:
        entries = self.content(".modinfo").split(b"\0")
        return [
            (key.decode(), value.decode()) for key, eq, value in (e.partition(b"=") for e in entries) if eq
        ]

    def set_modinfo(self, items: list[tuple[str, str]]) -> None:
        self.set_content(".modinfo", b"".join(f"{k}={v}".encode() + b"\0" for k, v in items))

    def replace_info(self, key: str, *values: str) -> None:
        """The values of a key anew; none removes it."""
        items = [(k, v) for k, v in self.modinfo() if k != key]
        self.set_modinfo(items + [(key, value) for value in values])

    def info(self, key: str) -> str:
        return next((v for k, v in self.modinfo() if k == key), "")

    def rename(self, name: str) -> None:
        """The module's name, in the struct and in .modinfo."""
        self.rename_struct(name)
        self.replace_info("name", name)

    def rename_struct(self, name: str) -> None:
        at = self.section(THIS_MODULE).offset + NAME_OFFSET
        self.data[at : at + NAME_SIZE] = name.encode().ljust(NAME_SIZE, b"\0")

    @property
    def table(self) -> int:
        return self.raw.symbol_tables[0]

    def symbols(self) -> tuple[RawSymbol, ...]:
        return tuple(self.raw.symbols(self.table))

    def names(self) -> list[str]:
        raw = self.raw
        return [raw.symbol_name(self.table, symbol) for symbol in raw.symbols(self.table)]

    def set_symbol(self, number: int, **fields: int) -> None:
        row = self.raw.sections[self.table]
        symbol = self.symbols()[number]._replace(**fields)
        _SYMBOL.pack_into(self.data, row.offset + number * SYMBOL_SIZE, *symbol)

    def add_symbol(self, name: str, *, shndx: int = 0, info: int = 0x10, value: int = 0) -> None:
        """One more symbol, global and undefined unless something else is said."""
        raw = self.raw
        row = raw.sections[self.table]
        at = self._add_string(row.link, name)
        content = raw.content(row) + _SYMBOL.pack(at, info, 0, shndx, value, 0)
        self.data += bytes(-len(self.data) % 8)
        offset = len(self.data)
        self.data += content
        self.set_section(self.table, offset=offset, size=len(content))

    def versions(self) -> list[tuple[str, int]]:
        """The whole entries."""
        raw = self.content("__versions")
        raw = raw[: len(raw) // ENTRY_SIZE * ENTRY_SIZE]
        return [
            (name.split(b"\0", 1)[0].decode(), crc)
            for crc, name in struct.iter_unpack(f"<Q{ENTRY_SIZE - 8}s", raw)
        ]

    def set_versions(self, versions: list[tuple[str, int]]) -> None:
        packed = b"".join(struct.pack(f"<Q{ENTRY_SIZE - 8}s", crc, name.encode()) for name, crc in versions)
        self.set_content("__versions", packed)

    def sound(self) -> bool:
        """Whether the headers are still there to be changed further."""
        raw = self.raw
        header = raw.header
        return (
            len(self.data) > HEADER_SIZE
            and len(raw.sections) == header.shnum > 0
            and 0 < header.shstrndx < header.shnum
        )
