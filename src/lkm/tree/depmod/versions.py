# SPDX-License-Identifier: MIT
"""The versions of symbols, which only -e and -E ask for: CRCs of exports and imports, and which are weak.

Source: kmod 34, libkmod/libkmod-elf.c (`kmod_elf_get_symbols`, `kmod_elf_resolve_crc`,
`kmod_elf_get_dependency_symbols`).
"""

from __future__ import annotations

from struct import Struct

from lkm.tree.depmod.elf import ElfModule, Read

__all__ = ["Import", "parse_versions"]

Import = tuple[bytes, int, bool]
"""Name, CRC (0: none is known), whether it is weak."""

_CRC = b"__crc_"
_WEAK = 2
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1
_VERSION = 64
_BAD_CRC = 0xFFFFFFFFFFFFFFFF


def parse_versions(read: Read, size: int) -> tuple[dict[bytes, int], list[Import]]:
    """CRC by exported name, and the imports in the order in which kmod has them. Raises `BadModule`."""
    module = ElfModule(read, size)
    names = module.content(b".strtab") + b"\0"
    versions = _versions(module)
    exports: dict[bytes, int] = {}
    imports: list[Import] = []
    first = True
    for at, info, section, value in module.symbols(module.content(b".symtab")):
        if first:
            first = False
            continue
        name = names[at : names.find(b"\0", at)]
        if name.startswith(_CRC):
            exports[name[len(_CRC) :]] = _resolve(module, section, value)
        if section == _UNDEFINED and name and not module.is_register(info):
            imports.append((name, versions.get(name, 0), info >> 4 == _WEAK))
    known = {name for name, _, _ in imports}
    imports += [(name, crc, False) for name, crc in versions.items() if name not in known]
    return exports, imports


def _versions(module: ElfModule) -> dict[bytes, int]:
    """Name → CRC, from __versions."""
    data, word = module.content(b"__versions"), 8 if module.wide else 4
    if len(data) % _VERSION:
        return {}
    order = ">" if module.big else "<"
    fields = Struct(f"{order}{'Q' if module.wide else 'I'}{_VERSION - word}s")
    return {name.partition(b"\0")[0]: crc for crc, name in fields.iter_unpack(data)}


def _resolve(module: ElfModule, section: int, value: int) -> int:
    """The CRC itself, or where it is: the symbol's value is either."""
    if section in (_ABSOLUTE, _UNDEFINED):
        return value
    found = module.section(section)
    if found is None or value + 4 > found[1]:
        return _BAD_CRC
    return int.from_bytes(module.read(found[0] + value, 4), "big" if module.big else "little")
