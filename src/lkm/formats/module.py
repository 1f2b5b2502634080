# SPDX-License-Identifier: MIT
"""A kernel module's file (`.ko`, also compressed and signed) as one value.

Source: `load_module` and its helpers in the kernel's `kernel/module/main.c` (6.1), `add_header` in
`scripts/mod/modpost.c` for `.gnu.linkonce.this_module`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.formats.compression import decompress
from lkm.formats.elf import (
    ET_REL,
    SHN_ABS,
    SHN_UNDEF,
    STB_WEAK,
    Elf,
    Section,
    Symbol,
    is_elf,
    machine_name,
    parse_elf,
)
from lkm.formats.exports import Export, parse_exports
from lkm.formats.modinfo import ModInfo, parse_modinfo
from lkm.formats.modversions import Version, parse_ext_versions, parse_versions
from lkm.formats.notes import find_build_id, parse_notes
from lkm.formats.signature import ModuleSignature, split_signature
from lkm.names import NAME_OFFSET, NAME_SIZE, ModuleName, module_name, module_name_from_path

__all__ = ["THIS_MODULE", "ModuleError", "ModuleFile", "ThisModule", "parse_module"]

THIS_MODULE = ".gnu.linkonce.this_module"
BUILD_ID = ".note.gnu.build-id"


class ModuleError(ParseError):
    """A file that is not a kernel module, or is one of another architecture."""


class ThisModule(NamedTuple):
    """What the file tells of this kernel's `struct module`; all in bytes.

    `size` is `sizeof(struct module)`. `init_offset` and `exit_offset` are where the addresses of
    `init_module` and `cleanup_module` go, None for a module without one. `name_offset` is where its
    name stands.
    """

    size: int
    init_offset: int | None
    exit_offset: int | None
    name_offset: int | None


class ModuleFile(NamedTuple):
    """One module file. `imports` are its undefined symbols; `weak_imports`, a part of them, may stay so.

    `versions` is None where the kernel has no MODVERSIONS. `elf` is the file itself, decompressed and
    without its signature.
    """

    name: ModuleName
    modinfo: ModInfo
    machine: int
    this_module: ThisModule
    versions: tuple[Version, ...] | None
    exports: tuple[Export, ...]
    imports: tuple[str, ...]
    weak_imports: tuple[str, ...]
    build_id: bytes | None
    signature: ModuleSignature | None
    elf: Elf

    @property
    def vermagic(self) -> str:
        """As the kernel compares it: `6.1.0-42-amd64 SMP preempt mod_unload modversions `."""
        return self.modinfo.get("vermagic")

    @property
    def release(self) -> str:
        """The kernel release that it was built for (`uname -r`), the first word of its vermagic."""
        return self.vermagic.split(" ", 1)[0]

    @property
    def depends(self) -> tuple[ModuleName, ...]:
        """The modules that it needs, as modpost recorded them."""
        return tuple(module_name(word) for word in self.modinfo.get("depends").split(",") if word)

    @property
    def intree(self) -> bool:
        """Whether it was built with the kernel, by what it says itself."""
        return self.modinfo.has("intree")


def parse_module(
    data: bytes | memoryview, *, name: str = "<bytes>", machines: Collection[int] | None = None
) -> ModuleFile:
    """The module in `data`; `name` is the file's, for messages and where the file has no name of its own.

    `machines` are the `e_machine` values to accept; None is all. Raises `ParseError`: `ModuleError`,
    `ElfError`, `CompressionError`, `SignatureError`, … by what is wrong.
    """
    content, signature = split_signature(decompress(data, name=name), name=name)
    if not is_elf(content):
        found = bytes(content[:4]).hex(" ") or "nothing"
        raise ModuleError(f"{name}: not a kernel module: expected an ELF file, found {found}")
    elf = parse_elf(content, name=name)
    _check_foreign(elf, machines)
    section = elf.section(THIS_MODULE)
    if section is None:
        raise ModuleError(
            f"{name}: not a kernel module: it has no section {THIS_MODULE}",
            remedy="make a module of the object: lkm modpost, or kbuild",
        )
    info = elf.section(".modinfo")
    modinfo = parse_modinfo(info.data) if info else ModInfo()
    own_name = modinfo.get("name") or _embedded_name(section)
    notes = elf.section(BUILD_ID)
    undefined = [symbol for symbol in elf.symbols[1:] if symbol.shndx == SHN_UNDEF and symbol.name]
    return ModuleFile(
        name=module_name(own_name) if own_name else module_name_from_path(name),
        modinfo=modinfo,
        machine=elf.machine,
        this_module=_read_this_module(elf, section, own_name),
        versions=_read_versions(elf),
        exports=parse_exports(elf),
        imports=tuple(symbol.name for symbol in undefined),
        weak_imports=tuple(symbol.name for symbol in undefined if symbol.bind == STB_WEAK),
        build_id=find_build_id(parse_notes(notes.data, name=f"{name}: {BUILD_ID}")) if notes else None,
        signature=signature,
        elf=elf,
    )


def _check_foreign(elf: Elf, machines: Collection[int] | None) -> None:
    if elf.bits != 64 or elf.byteorder != "little":
        raise ModuleError(
            f"{elf.name}: a {elf.bits}-bit {elf.byteorder}-endian file for {elf.machine_name}",
            remedy="lkm reads modules of 64-bit little-endian kernels",
        )
    if elf.type != ET_REL:
        raise ModuleError(
            f"{elf.name}: not a kernel module: expected a relocatable file, found ELF type {elf.type}"
        )
    if machines is not None and elf.machine not in machines:
        wanted = " or ".join(machine_name(number) for number in machines)
        raise ModuleError(
            f"{elf.name}: for {elf.machine_name}, expected {wanted}", remedy="build it for this architecture"
        )


def _embedded_name(section: Section) -> str:
    raw = bytes(section.data[NAME_OFFSET : NAME_OFFSET + NAME_SIZE])
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _read_this_module(elf: Elf, section: Section, name: str) -> ThisModule:
    places = {
        symbol.name: symbol for symbol in elf.symbols if symbol.name in {"init_module", "cleanup_module"}
    }
    offsets = _pointer_offsets(elf, section, places)
    at = bytes(section.data).find(name.encode() + b"\0") if name else -1
    return ThisModule(
        size=section.size,
        init_offset=offsets.get("init_module"),
        exit_offset=offsets.get("cleanup_module"),
        name_offset=at if at >= 0 else None,
    )


def _pointer_offsets(elf: Elf, section: Section, places: Mapping[str, Symbol]) -> dict[str, int]:
    """Where in `section` the addresses of these symbols go, by name.

    A relocation may name the symbol, an alias of it, or its section with an addend: an exact name wins,
    else what counts is the place that it points to.
    """
    named: dict[str, int] = {}
    placed: dict[str, int] = {}
    for relocation in elf.relocations(section):
        symbol = elf.symbols[relocation.symbol]
        target = (symbol.shndx, symbol.value + (relocation.addend or 0))
        for name, place in places.items():
            if symbol.name == name:
                named.setdefault(name, relocation.offset)
            elif symbol.shndx not in {SHN_UNDEF, SHN_ABS} and target == (place.shndx, place.value):
                placed.setdefault(name, relocation.offset)
    return {**placed, **named}


def _read_versions(elf: Elf) -> tuple[Version, ...] | None:
    """The extended table where there is one, as the kernel prefers it (6.14), else the classic one."""
    crcs, names = elf.section("__version_ext_crcs"), elf.section("__version_ext_names")
    if crcs and names:
        return parse_ext_versions(crcs.data, names.data, name=elf.name)
    table = elf.section("__versions")
    return parse_versions(table.data, name=elf.name) if table else None
