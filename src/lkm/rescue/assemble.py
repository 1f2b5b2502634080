# SPDX-License-Identifier: MIT
"""The helper module, assembled in memory for the running kernel: no compiler, no headers, no file.

Everything that ties a module to a kernel is taken from a sibling, a `.ko` of that kernel: vermagic, the CRC
of `module_layout`, the size of `struct module` and where `init` stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, STB_LOCAL, STT_FUNC, STT_SECTION
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.module import THIS_MODULE, ModuleFile
from lkm.formats.modversions import Version, render_versions
from lkm.names import MAX_NAME, NAME_OFFSET
from lkm.rescue.helper import HelperCode
from lkm.rescue.plan import Step
from lkm.rescue.table import Table, render_table

__all__ = ["assemble_helper"]


def assemble_helper(
    code: HelperCode, sibling: ModuleFile, step: Step, *, symbols: Mapping[str, int], name: str
) -> bytes:
    """A module file whose init does what `step` says and then fails, so that it never stays.

    `symbols` are kernel addresses by name (`lkm.rescue.table`). Raises LkmError where one is missing, or where
    the sibling lacks what the helper needs.
    """
    extra = [section for section in code.extra_sections if sibling.elf.section(section)]
    return build_relocatable(
        code.machine,
        [
            _text_section(code),
            _data_section(code, render_table(step, symbols)),
            NewSection(".modinfo", _modinfo(sibling, name), flags=SHF_ALLOC),
            *_versions(sibling),
            _this_module(code, sibling, name),
            *(NewSection(section, b"\0", flags=_RX) for section in extra),
            NewSection(".note.GNU-stack"),
        ],
        [
            NewSymbol("", ".data", bind=STB_LOCAL, type=STT_SECTION, id=".data"),
            NewSymbol("init_module", ".text", size=len(code.text), type=STT_FUNC),
        ],
        flags=sibling.elf.flags,
    )


_RW = SHF_ALLOC | SHF_WRITE
_RX = SHF_ALLOC | SHF_EXECINSTR


def _text_section(code: HelperCode) -> NewSection:
    relocations = [
        NewRelocation(item.offset, item.type, item.symbol, item.addend) for item in code.relocations
    ]
    return NewSection(".text", code.text, flags=_RX, align=16, relocations=relocations)


def _data_section(code: HelperCode, table: Table) -> NewSection:
    pointers = [
        NewRelocation(offset, code.pointer_relocation, ".data", target)
        for offset, target in table.pointers.items()
    ]
    return NewSection(".data", table.data, flags=_RW, align=8, relocations=pointers)


def _modinfo(sibling: ModuleFile, name: str) -> bytes:
    items = [("license", "GPL"), ("description", "lkm: conditional edits, never stays loaded")]
    if sibling.modinfo.has("retpoline"):
        items.append(("retpoline", sibling.modinfo.get("retpoline")))
    items += [("name", name), ("vermagic", sibling.vermagic)]
    return render_modinfo(ModInfo(tuple(items)))


def _versions(sibling: ModuleFile) -> list[NewSection]:
    layout = [version for version in sibling.versions or () if version.name == "module_layout"]
    if sibling.versions is not None and not layout:
        raise LkmError(
            f"{sibling.elf.name}: its __versions has no module_layout", remedy="take another sibling"
        )
    data = render_versions(Version(version.name, version.crc) for version in layout)
    return [NewSection("__versions", data, flags=SHF_ALLOC, align=32)] if layout else []


def _this_module(code: HelperCode, sibling: ModuleFile, name: str) -> NewSection:
    layout = sibling.this_module
    if layout.init_offset is None:
        raise LkmError(f"{sibling.elf.name}: it has no init function to go by", remedy="take another sibling")
    encoded = name.encode()
    if len(encoded) > MAX_NAME:
        raise LkmError(f"helper name {name!r} is longer than {MAX_NAME} characters")
    data = bytearray(layout.size)
    data[NAME_OFFSET : NAME_OFFSET + len(encoded)] = encoded
    init = NewRelocation(layout.init_offset, code.pointer_relocation, "init_module")
    return NewSection(THIS_MODULE, bytes(data), flags=_RW, align=64, relocations=[init])
