# SPDX-License-Identifier: MIT
"""Inputs for tests, made from nothing: ELF files, kernel modules, BTF, signature trailers.

Nothing here uses the readers under test. Modules go through `lkm.formats.elfwriter`, which has an oracle of
its own (pyelftools); `make_elf` writes all four ELF layouts by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from lkm.formats.elf import (
    R_AARCH64_ABS64,
    R_X86_64_64,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOTE,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    Machine,
)
from lkm.formats.elfwriter import ABSOLUTE, NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.modversions import Version, render_versions

VERMAGIC = "6.1.0-test SMP preempt mod_unload modversions "
BUILD_ID = bytes(range(20))


def make_note(owner: bytes, kind: int, descriptor: bytes) -> bytes:
    """One ELF note, padded to 4 bytes."""
    name = owner + b"\0"
    parts = [struct.pack("<III", len(name), len(descriptor), kind)]
    parts += [part + bytes(-len(part) % 4) for part in (name, descriptor)]
    return b"".join(parts)


def make_signature(signature: bytes = b"PKCS7", *, size: int | None = None, algo: int = 0) -> bytes:
    """What is appended to a module: signature, `struct module_signature`, marker. `size` may lie."""
    trailer = struct.pack(">BBBBB3xI", algo, 0, 2, 0, 0, len(signature) if size is None else size)
    return signature + trailer + b"~Module signature appended~\n"


def make_module(
    name: str = "demo",
    *,
    modinfo: Sequence[tuple[str, str]] | None = None,
    machine: int = Machine.X86_64,
    this_module_size: int = 896,
    init_offset: int | None = 312,
    exit_offset: int | None = 848,
    versions: Mapping[str, int] | None = None,
    imports: Sequence[str] = ("_printk",),
    weak_imports: Sequence[str] = (),
    exports: Mapping[str, int] | None = None,
    gpl_exports: Mapping[str, int] | None = None,
    build_id: bytes | None = BUILD_ID,
    extra: Sequence[NewSection] = (),
    by_section: bool = False,
) -> bytes:
    """A module file with the layout of a 6.1 kernel. `exports` and `versions` are symbol → CRC.

    With `by_section` the relocations of `struct module` name `.text` and an addend, not the functions.
    """
    symbols = [NewSymbol("", ".text", bind=STB_LOCAL, type=3, id="text")]
    pointers: list[NewRelocation] = []
    absolute = R_X86_64_64 if machine == Machine.X86_64 else R_AARCH64_ABS64
    for place, function, at in (("init_module", "my_init", 0), ("cleanup_module", "my_exit", 16)):
        offset = init_offset if at == 0 else exit_offset
        if offset is not None:
            symbols.append(NewSymbol(function, ".text", at, 16, bind=STB_LOCAL, type=STT_FUNC))
            symbols.append(NewSymbol(place, ".text", at, 16, type=STT_FUNC))
            target = ("text", at) if by_section else (place, 0)
            pointers.append(NewRelocation(offset, absolute, *target))
    symbols += [NewSymbol(symbol) for symbol in imports]
    symbols += [NewSymbol(symbol, bind=STB_WEAK) for symbol in weak_imports]
    this_module = bytearray(this_module_size)
    this_module[24 : 24 + len(name)] = name.encode()
    items = default_modinfo(name) if modinfo is None else tuple(modinfo)
    sections = [
        NewSection(".text", b"\xf3\x0f\x1e\xfa" * 8, flags=SHF_ALLOC | SHF_EXECINSTR, align=16),
        NewSection(".modinfo", render_modinfo(ModInfo(items)), flags=SHF_ALLOC),
        NewSection(
            ".gnu.linkonce.this_module", bytes(this_module), flags=SHF_ALLOC | SHF_WRITE, align=64,
            relocations=pointers,
        ),
    ]  # fmt: skip
    for suffix, table in (("", exports), ("_gpl", gpl_exports)):
        made = _make_exports(suffix, table or {})
        sections += made[0]
        symbols += made[1]
    if versions is not None:
        rows = render_versions(Version(*row) for row in versions.items())
        sections.append(NewSection("__versions", rows, flags=SHF_ALLOC, align=32))
    if build_id is not None:
        note = make_note(b"GNU", 3, build_id)
        sections.append(NewSection(".note.gnu.build-id", note, SHT_NOTE, SHF_ALLOC, 4))
    return build_relocatable(machine, [*sections, *extra], symbols)


def default_modinfo(name: str) -> tuple[tuple[str, str], ...]:
    """What modpost writes for an out-of-tree module without dependencies."""
    return (("license", "GPL"), ("depends", ""), ("name", name), ("vermagic", VERMAGIC))


def _make_exports(suffix: str, table: Mapping[str, int]) -> tuple[list[NewSection], list[NewSymbol]]:
    """The tables of 6.1: 12 bytes an entry, CRCs as words in a table of their own."""
    if not table:
        return [], []
    symbols: list[NewSymbol] = []
    for index, name in enumerate(table):
        symbols.append(NewSymbol(f"__ksymtab_{name}", f"__ksymtab{suffix}", 12 * index, bind=STB_LOCAL))
        symbols.append(NewSymbol(f"__crc_{name}", f"__kcrctab{suffix}", 4 * index, bind=STB_LOCAL))
        symbols.append(NewSymbol(name, ".text", type=STT_FUNC))
    sections = [
        NewSection(f"__ksymtab{suffix}", bytes(12 * len(table)), flags=SHF_ALLOC, align=4),
        NewSection(
            f"__kcrctab{suffix}", struct.pack(f"<{len(table)}I", *table.values()), flags=SHF_ALLOC, align=4
        ),
    ]
    return sections, symbols


def make_absolute_crc(name: str, crc: int) -> NewSymbol:
    """A CRC as kernels until 5.18 have it."""
    return NewSymbol(f"__crc_{name}", ABSOLUTE, crc)


def make_elf(
    bits: int, byteorder: str, *, machine: int = 62, extended: bool = False, rel: bool = False
) -> bytes:
    """An object with `.text`, a symbol `start` at 4 of it, and one relocation there, in any of four layouts.

    `extended` has the section count, the index of names and the symbol's section by extended numbering.
    """
    order = "<" if byteorder == "little" else ">"
    wide = bits == 64
    names = b"\0.text\0.symtab\0.strtab\0.rel.text\0.shndx\0"
    section = 0xFFFF if extended else 1
    if wide:
        symbol = struct.pack(order + "IBBHQQ", 1, 0x12, 0, section, 4, 8)
        relocation = struct.pack(order + ("QQ" if rel else "QQq"), 4, 1 << 32 | 2, *([] if rel else [-4]))
    else:
        symbol = struct.pack(order + "IIIBBH", 1, 4, 8, 0x12, 0, section)
        relocation = struct.pack(order + ("II" if rel else "IIi"), 4, 1 << 8 | 2, *([] if rel else [-4]))
    made = [  # name, type, data, link, info, entry size
        ("", 0, b"", 0, 0, 0),
        (".text", 1, b"\x90" * 16, 0, 0, 0),
        (".symtab", 2, bytes(len(symbol)) + symbol, 3, 1, len(symbol)),
        (".strtab", 3, b"\0start\0" + names, 0, 0, 0),
        (".rel.text", 9 if rel else 4, relocation, 2, 1, len(relocation)),
        (".shndx", 18, struct.pack(order + "II", 0, 1), 2, 0, 4),
    ]
    header = struct.Struct(order + ("16xHHIQQQIHHHHHH" if wide else "16xHHIIIIIHHHHHH"))
    row = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    body = bytearray(header.size)
    table = bytearray()
    for name, kind, data, link, info, entsize in made:
        at = 7 + names.index(name.encode() + b"\0") if name else 0
        first = extended and not kind
        size = len(made) if first else len(data)
        table += row.pack(at, kind, 0, 0, len(body), size, 3 if first else link, info, 1, entsize)
        body += data
    count, strings = (0, 0xFFFF) if extended else (len(made), 3)
    header.pack_into(body, 0, 1, machine, 1, 0, 0, len(body), 0, header.size, 0, 0, row.size, count, strings)
    body[:7] = b"\x7fELF" + bytes([bits // 32, 1 if byteorder == "little" else 2, 1])
    return bytes(body + table)


class BtfBuilder:
    """Types one after the other; each `add_` returns the type's number."""

    def __init__(self, byteorder: str = "little") -> None:
        self.order = "<" if byteorder == "little" else ">"
        self.types = bytearray()
        self.strings = bytearray(b"\0")
        self.count = 0
        self._places = {"": 0}

    def string(self, text: str) -> int:
        """The offset of a string, which is there once."""
        if text not in self._places:
            self._places[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._places[text]

    def add(
        self, kind: int, name: str = "", size_or_type: int = 0, *words: int, vlen: int = 0, flag: bool = False
    ) -> int:
        """A type of any kind, with the words that follow its three."""
        info = flag << 31 | kind << 24 | vlen
        values = [self.string(name), info, size_or_type, *words]
        self.types += struct.pack(f"{self.order}{len(values)}I", *(value & 0xFFFFFFFF for value in values))
        self.count += 1
        return self.count

    def add_int(self, name: str, size: int) -> int:
        """An integer of `size` bytes."""
        return self.add(1, name, size, size * 8)

    def add_pointer(self, target: int = 0) -> int:
        """A pointer; 0 is void."""
        return self.add(2, "", target)

    def add_array(self, element: int, count: int) -> int:
        """An array; its index type is its element, for want of another."""
        return self.add(3, "", 0, element, element, count)

    def add_struct(
        self,
        name: str,
        size: int,
        members: Sequence[tuple[str, int, int]],
        *,
        union: bool = False,
        bits: bool = False,
    ) -> int:
        """A struct of (name, type, bit offset); with `bits` offsets are `bit_size << 24 | bit_offset`."""
        words = [word for text, kind, at in members for word in (self.string(text), kind, at)]
        return self.add(5 if union else 4, name, size, *words, vlen=len(members), flag=bits)

    def add_enum(self, name: str, values: Mapping[str, int], *, signed: bool = False, size: int = 4) -> int:
        """An enum of 4 bytes, or an ENUM64 of 8."""
        words: list[int] = []
        for text, value in values.items():
            words += [self.string(text), value] if size == 4 else [self.string(text), value, value >> 32]
        return self.add(6 if size == 4 else 19, name, size, *words, vlen=len(values), flag=signed)

    def build(self) -> bytes:
        """The file: header, types, strings."""
        places = (0, len(self.types), len(self.types), len(self.strings))
        header = struct.pack(self.order + "HBBIIIII", 0xEB9F, 1, 0, 24, *places)
        return header + bytes(self.types) + bytes(self.strings)
