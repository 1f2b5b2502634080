# SPDX-License-Identifier: MIT
"""Sections of a new module that tie it to a kernel, made after a sibling: a `.ko` of that very kernel.

A sibling tells the vermagic, the CRCs, the size of `struct module` and where `init` and `exit` stand in it.
Source: `add_header`, `add_versions` in the kernel's `scripts/mod/modpost.c` (6.1), `add_extended_versions` (6.14).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, SHF_WRITE
from lkm.formats.elfwriter import NewRelocation, NewSection
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.module import THIS_MODULE, ModuleFile
from lkm.formats.modversions import Version, render_ext_versions, render_versions
from lkm.names import MAX_NAME, NAME_OFFSET

__all__ = ["modinfo_section", "this_module_section", "versions_section"]


def modinfo_section(sibling: ModuleFile, items: Sequence[tuple[str, str]], *, name: str) -> NewSection:
    """`.modinfo` with the items, and with what the kernel of the sibling wants to find in it."""
    own = [("retpoline", sibling.modinfo.get("retpoline"))] if sibling.modinfo.has("retpoline") else []
    own += [("name", name), ("vermagic", sibling.vermagic)]
    return NewSection(".modinfo", render_modinfo(ModInfo((*items, *own))), flags=SHF_ALLOC)


def versions_section(sibling: ModuleFile, imports: Iterable[Version] = ()) -> list[NewSection]:
    """The CRC of `module_layout` and of what is imported, in `__versions`, `__version_ext_crcs` and
    `__version_ext_names`: those of them that the sibling has, so none without MODVERSIONS.

    Where there is the extended form, names too long for the other one are in it alone. Raises LkmError for a sibling
    that has CRCs, but not that one.
    """
    if sibling.versions is None:
        return []
    layout = [version for version in sibling.versions if version.name == "module_layout"]
    if not layout:
        raise LkmError(
            f"{sibling.elf.name}: its __versions has no module_layout", remedy="take another sibling"
        )
    rows = [*layout[:1], *imports]
    made = []
    extended = sibling.elf.section("__version_ext_crcs") is not None
    basic = sibling.elf.section("__versions")
    if basic is not None or not extended:
        short = [row for row in rows if not extended or len(row.name.encode()) <= MAX_NAME]
        made.append(
            NewSection(
                "__versions", render_versions(short), flags=SHF_ALLOC, align=basic.align if basic else 8
            )
        )
    if extended:
        crcs, names = render_ext_versions(rows)
        made.append(NewSection("__version_ext_crcs", crcs, flags=SHF_ALLOC, align=4))
        made.append(NewSection("__version_ext_names", names, flags=SHF_ALLOC))
    return made


def this_module_section(
    sibling: ModuleFile, *, name: str, pointer: int, init_function: bool = True, exit_function: bool = False
) -> NewSection:
    """`struct module` with the name, and with the addresses of `init_module` and `cleanup_module`, as far as wanted.

    `pointer` is the relocation of an address. Raises LkmError for a name that is too long, and for a sibling
    that has no such function to go by.
    """
    layout = sibling.this_module
    wanted = [("init", "init_module", layout.init_offset)] if init_function else []
    if exit_function:
        wanted.append(("exit", "cleanup_module", layout.exit_offset))
    relocations = []
    for what, function, offset in wanted:
        if offset is None:
            raise LkmError(
                f"{sibling.elf.name}: it has no {what} function to go by", remedy="take another sibling"
            )
        relocations.append(NewRelocation(offset, pointer, function))
    encoded = name.encode()
    if len(encoded) > MAX_NAME:
        raise LkmError(f"module name {name!r} is longer than {MAX_NAME} characters")
    data = bytearray(layout.size)
    data[NAME_OFFSET : NAME_OFFSET + len(encoded)] = encoded
    return NewSection(
        THIS_MODULE, bytes(data), flags=SHF_ALLOC | SHF_WRITE, align=64, relocations=relocations
    )
