# SPDX-License-Identifier: MIT
"""The helper module, assembled in memory for the running kernel: no compiler, no headers, no file.

Everything that ties a module to a kernel is taken from a sibling, a `.ko` of that kernel: vermagic, the CRC
of `module_layout`, the size of `struct module` and where `init` stands in it.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, STB_LOCAL, STT_FUNC, STT_SECTION
from lkm.formats.elfwriter import ABSOLUTE, NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.module import THIS_MODULE, ModuleFile
from lkm.formats.modversions import Version, render_versions
from lkm.names import MAX_NAME, NAME_OFFSET
from lkm.rescue.helper import HelperCode
from lkm.rescue.plan import Edit, EditKind

__all__ = ["HelperAnswer", "HelperOutcome", "assemble_helper", "decode_answer", "render_table"]

MAX_EDITS = 255
KINDS = {EditKind.CHECK: 0, EditKind.STORE: 1, EditKind.CMPXCHG: 2}


class HelperOutcome(Enum):
    """What the helper answers. The numbers are the helper's own (helper/ARCH.S), beyond any errno."""

    WRITTEN = "written"
    MUTEX_HELD = "module_mutex is held"
    DIFFERS = "another value than expected"
    UNREADABLE = "the address cannot be read"
    UNWRITABLE = "the address cannot be written"
    CHANGED = "the value changed at the last moment"
    NOT_RUN = "the helper did not run"
    UNKNOWN = "the helper gave no answer"


class HelperAnswer(NamedTuple):
    """The outcome, and the index of the edit that it is about (None where it is about none)."""

    outcome: HelperOutcome
    edit: int | None = None


def decode_answer(errno: int) -> HelperAnswer:
    """The helper's answer from the errno of its load. Any other errno is the kernel's: it did not run."""
    if errno == 2400:
        return HelperAnswer(HelperOutcome.WRITTEN)
    if errno == 1024:
        return HelperAnswer(HelperOutcome.MUTEX_HELD)
    bases = (
        (1280, HelperOutcome.DIFFERS),
        (1536, HelperOutcome.UNREADABLE),
        (1792, HelperOutcome.UNWRITABLE),
        (2048, HelperOutcome.CHANGED),
    )
    for base, outcome in bases:
        if base <= errno <= base + MAX_EDITS:
            return HelperAnswer(outcome, errno - base)
    return HelperAnswer(HelperOutcome.NOT_RUN)


def render_table(edits: tuple[Edit, ...], mutex: int) -> bytes:
    """The helper's table, in the layout that helper/ARCH.S describes. `mutex` is an address, 0 for none."""
    if len(edits) > MAX_EDITS:
        raise LkmError(f"{len(edits)} edits: the helper takes {MAX_EDITS} at most")
    entries = (
        struct.pack("<QQQII", edit.address, edit.expected, edit.new, edit.width, KINDS[edit.kind])
        for edit in edits
    )
    return struct.pack("<QII", mutex, len(edits), 0) + b"".join(entries)


def assemble_helper(
    code: HelperCode, sibling: ModuleFile, edits: tuple[Edit, ...], *, symbols: dict[str, int], name: str
) -> bytes:
    """A module file whose init makes `edits` and then fails, so that it never stays.

    `symbols` are kernel addresses: each function that the code calls, and `module_mutex` if it is wanted.
    Raises LkmError where one is missing, or where the sibling lacks what the helper needs.
    """
    return build_relocatable(
        code.machine,
        [
            _text_section(code),
            NewSection(".data", render_table(edits, symbols.get("module_mutex", 0)), flags=_RW, align=8),
            NewSection(".modinfo", _modinfo(sibling, name), flags=SHF_ALLOC),
            *_versions(sibling),
            _this_module(code, sibling, name),
            *(NewSection(extra, b"\0", flags=_RX) for extra in code.extra_sections),
            NewSection(".note.GNU-stack"),
        ],
        [
            NewSymbol("", ".data", bind=STB_LOCAL, type=STT_SECTION, id=".data"),
            NewSymbol("init_module", ".text", size=len(code.text), type=STT_FUNC),
            *_absolute_symbols(code, symbols),
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


def _absolute_symbols(code: HelperCode, symbols: dict[str, int]) -> list[NewSymbol]:
    """The kernel's functions as symbols without a name: the loader has nothing to resolve, so that what the
    kernel does not export can be called as well."""
    functions = sorted({item.symbol for item in code.relocations if not item.symbol.startswith(".")})
    missing = [function for function in functions if not symbols.get(function)]
    if missing:
        raise LkmError(
            f"the address of {', '.join(missing)} is not known",
            remedy="the helper needs /proc/kallsyms: be root, and set kernel.kptr_restrict to 1 or 0",
        )
    return [NewSymbol("", ABSOLUTE, value=symbols[function], id=function) for function in functions]


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
