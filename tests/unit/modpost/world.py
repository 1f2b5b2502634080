# SPDX-License-Identifier: MIT
"""A kernel that is made up, and objects for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lkm.formats.elf import (
    R_X86_64_64,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_NOTE,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_SECTION,
    Machine,
)
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.module import parse_module
from lkm.modpost.kernel import Kernel
from lkm.preflight.kernel import KernelExport
from tests.builders import make_module

CALL = 4
"""R_X86_64_PLT32."""

EXPORTS = (
    KernelExport("module_layout", gpl=False, crc=0x1111),
    KernelExport("_printk", gpl=False, crc=0x2222),
    KernelExport("kernel_gpl", gpl=True, crc=0x3333),
    KernelExport("kernel_spaced", gpl=False, crc=0x4444, namespace="SPACE"),
    KernelExport("for_demo", gpl=False, crc=0x5555, namespace="module:demo,other"),
    KernelExport("other_add", gpl=False, crc=0x6666, owner="other-mod"),
    KernelExport("third_add", gpl=False, crc=0x7777, owner="third"),
    KernelExport("other_sub", gpl=False, crc=0x8888, owner="other-mod"),
    KernelExport("unversioned", gpl=False, crc=None, owner="third"),
    KernelExport("a" * 60, gpl=False, crc=0x9999),
)


class Table:
    """Exports by name."""

    def __init__(self, rows: Sequence[KernelExport]) -> None:
        self.rows = {row.name: row for row in rows}

    def find(self, name: str) -> KernelExport | None:
        return self.rows.get(name)


def make_kernel(
    release: str = "6.1.0-test",
    *,
    versions: bool = True,
    extended: bool = False,
    config: Mapping[str, str] | None = None,
    machine: int = Machine.X86_64,
    exports: Sequence[KernelExport] = EXPORTS,
) -> Kernel:
    """A kernel, with a sibling that has the notes of its build."""
    extra = [NewSection(".note.Linux", b"note", SHT_NOTE, SHF_ALLOC, 4), NewSection(".orc_header", bytes(range(20)),
             flags=SHF_ALLOC)]  # fmt: skip
    if extended:
        extra.append(NewSection("__version_ext_crcs", b"\x11\x11\0\0", flags=SHF_ALLOC, align=4))
        extra.append(NewSection("__version_ext_names", b"module_layout\0", flags=SHF_ALLOC))
    magic = f"{release} SMP preempt mod_unload "
    info = (("license", "GPL"), ("retpoline", "Y"), ("intree", "Y"), ("name", "sibling"), ("vermagic", magic))
    crcs = {"module_layout": 0x1111} if versions else None
    sibling = make_module("sibling", modinfo=info, machine=machine, versions=crcs, extra=extra)
    return Kernel(release, parse_module(sibling), Table(exports), ("here",), config or {})


def make_object(
    *,
    modinfo: Sequence[tuple[str, str]] = (("license", "GPL"),),
    imports: Sequence[str] = ("_printk",),
    weak: Sequence[str] = (),
    marks: Sequence[tuple[str, str, str]] = (),
    extra: Sequence[NewSection] = (),
    symbols: Sequence[NewSymbol] = (),
    init: bool = True,
    leave: bool = True,
    machine: int = Machine.X86_64,
) -> bytes:
    """An object that calls each import. `marks`: what it exports by .export_symbol: symbol, licence, namespace."""
    wanted = [*imports, *weak]
    calls = [NewRelocation(5 * index + 1, CALL, name, -4) for index, name in enumerate(wanted)]
    calls.append(NewRelocation(5 * len(wanted) + 1, CALL, ".text.unlikely", 4))
    sections = [
        NewSection(".text", b"\xe8\0\0\0\0" * (len(wanted) + 1), flags=CODE, align=16, relocations=calls),
        NewSection(".text.unlikely", b"\x90" * 16, flags=CODE, align=8),
        NewSection(".rodata.str1.1", b"hello\0", flags=SHF_ALLOC | SHF_MERGE | SHF_STRINGS, entsize=1),
        NewSection(".bss", type=SHT_NOBITS, flags=SHF_ALLOC | SHF_WRITE, size=24, align=8),
        NewSection("__bug_table", bytes(12), flags=SHF_ALLOC | SHF_WRITE),
        NewSection(".discard.addressable", bytes(8), flags=SHF_ALLOC),
        NewSection(".modinfo", render_modinfo(ModInfo(tuple(modinfo))), flags=SHF_ALLOC),
        NewSection(".comment", b"\0CC 1\0", flags=SHF_MERGE | SHF_STRINGS, entsize=1),
        *_mark_sections(marks),
        *extra,
    ]
    made = [
        NewSymbol("", section.name, bind=STB_LOCAL, type=STT_SECTION, id=section.name) for section in sections
    ]
    made += [NewSymbol("demo_local", ".text.unlikely", 8, bind=STB_LOCAL, type=STT_FUNC)]
    made += [
        NewSymbol(f"__export_symbol_{name}", ".export_symbol", at, bind=STB_LOCAL, id=f"mark {at}")
        for name, at in _places(marks)
    ]
    made += [NewSymbol("init_module", ".text", 0, type=STT_FUNC)] if init else []
    made += [NewSymbol("cleanup_module", ".text", 5, type=STT_FUNC)] if leave else []
    defined = {symbol.name for symbol in symbols}
    made += [NewSymbol(name, ".text", type=STT_FUNC) for name, _, _ in marks if name not in defined]
    made += [NewSymbol(name, bind=STB_GLOBAL) for name in imports]
    made += [NewSymbol(name, bind=STB_WEAK) for name in weak]
    return build_relocatable(machine, sections, [*made, *symbols])


CODE = SHF_ALLOC | SHF_EXECINSTR


def _entry(licence: str, namespace: str) -> bytes:
    text = f"{licence}\0{namespace}\0".encode()
    return text + bytes(-len(text) % 8) + bytes(8)


def _places(marks: Sequence[tuple[str, str, str]]) -> list[tuple[str, int]]:
    places, at = [], 0
    for name, licence, namespace in marks:
        places.append((name, at))
        at += len(_entry(licence, namespace))
    return places


def _mark_sections(marks: Sequence[tuple[str, str, str]]) -> list[NewSection]:
    """EXPORT_SYMBOL of 6.4: licence, namespace, and a pointer to what is exported."""
    if not marks:
        return []
    data, pointers = b"", []
    for name, licence, namespace in marks:
        data += _entry(licence, namespace)
        pointers.append(NewRelocation(len(data) - 8, R_X86_64_64, name))
    return [NewSection(".export_symbol", data, flags=SHF_ALLOC, align=8, relocations=pointers)]
