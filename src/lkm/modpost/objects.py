# SPDX-License-Identifier: MIT
"""A relocatable object as modpost reads it: what it imports, what it exports, what it says of itself.

Source: `read_symbols`, `handle_symbol`, `check_export_symbol` in the kernel's scripts/mod/modpost.c (6.1, 6.12);
`EXPORT_SYMBOL` in include/linux/export.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.formats.elf import (
    ET_REL,
    SHN_COMMON,
    SHN_UNDEF,
    STB_GLOBAL,
    STB_WEAK,
    Elf,
    Section,
    Symbol,
    machine_name,
    parse_elf,
)
from lkm.formats.exports import Export, parse_exports
from lkm.formats.modinfo import ModInfo, parse_modinfo
from lkm.formats.module import THIS_MODULE
from lkm.modpost.problems import Kind, Problem, error

__all__ = ["Import", "ObjectError", "ObjectFile", "read_object"]

_MARK = "__export_symbol_"
_IGNORED = frozenset({"__this_module", "_GLOBAL_OFFSET_TABLE_"})
_SHF_COMPRESSED = 0x800
_SHN_LIVEPATCH = 0xFF20  # include/uapi/linux/elf.h
_MAX_TEXT = 512
"""Bytes of a namespace that are read: a longer one is damage."""


class ObjectError(ParseError):
    """A file that no module can be made of: another architecture, a module already, not relocatable."""


class Import(NamedTuple):
    """A symbol that the object uses and does not define. A `weak` one may stay without a value."""

    name: str
    weak: bool


class ObjectFile(NamedTuple):
    """What an object is made of.

    exports    in the order of the symbol table; a CRC only where the object itself has it (up to 5.18)
    generated  whether the tables of the exports are still to be made (`.export_symbol`, 6.4); else it has them
    problems   what is wrong with the exports and symbols themselves
    """

    elf: Elf
    modinfo: ModInfo
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    generated: bool
    has_init: bool
    has_exit: bool
    problems: tuple[Problem, ...]


def read_object(data: bytes, *, name: str, machine: int) -> ObjectFile:
    """The object in `data`, whose architecture must be `machine` (e_machine). Raises ObjectError, ElfError."""
    elf = parse_elf(data, name=name)
    _check_kind(elf, machine)
    info = elf.section(".modinfo")
    problems: list[Problem] = []
    marked = [section for section in elf.sections if section.name == ".export_symbol"]
    tabled = list(_tabled_exports(elf, problems))
    if marked and tabled:
        raise ObjectError(
            f"{name}: {tabled[0].name} is exported as before 6.4, others as since then (.export_symbol)",
            remedy="compile all its parts with the headers of one kernel",
        )
    seen: set[str] = set()
    found = (export for section in marked for export in _marked_exports(elf, section, seen, problems))
    exports = tuple(tabled or found)
    problems += _commons(elf)
    defined = {symbol.name for symbol in elf.symbols if symbol.shndx not in (SHN_UNDEF, SHN_COMMON)}
    return ObjectFile(
        elf=elf,
        modinfo=parse_modinfo(info.data) if info else ModInfo(),
        imports=tuple(_imports(elf)),
        exports=exports,
        generated=bool(marked),
        has_init="init_module" in defined,
        has_exit="cleanup_module" in defined,
        problems=tuple(problems),
    )


def _check_kind(elf: Elf, machine: int) -> None:
    if elf.bits != 64 or elf.byteorder != "little":
        raise ObjectError(
            f"{elf.name}: a {elf.bits}-bit {elf.byteorder}-endian file for {elf.machine_name}",
            remedy="modules can be made for 64-bit little-endian kernels only",
        )
    if elf.machine != machine:
        raise ObjectError(
            f"{elf.name}: an object for {elf.machine_name}, the kernel is for {machine_name(machine)}",
            remedy="compile it for that architecture, or name another kernel (--kernel, --tree)",
        )
    if elf.type != ET_REL:
        raise ObjectError(
            f"{elf.name}: expected a relocatable object, found ELF type {elf.type}",
            remedy="compile with -c; make one object of several with ld -r",
        )
    if elf.section(THIS_MODULE) is not None:
        raise ObjectError(
            f"{elf.name}: it is a module already: it has a section {THIS_MODULE}",
            remedy="lkm check says whether it would load; give the object that it was made of",
        )
    if elf.symbol_table is None:
        raise ObjectError(
            f"{elf.name}: it has no symbol table", remedy="take the object as it was before strip"
        )
    _check_form(elf)
    count = len(elf.sections)
    for symbol in elf.symbols:
        if count <= symbol.shndx < 0xFF00 or symbol.shndx > 0xFFFF:
            raise ObjectError(f"{elf.name}: symbol {symbol.name!r} is in section {symbol.shndx} of {count}")


def _check_form(elf: Elf) -> None:
    """What cannot be linked here: a compiler's own form, compressed sections, a live patch."""
    if any(symbol.name == "__gnu_lto_slim" for symbol in elf.symbols):
        raise ObjectError(
            f"{elf.name}: it has the compiler's own form of code (slim LTO), and no machine code",
            remedy="compile without -flto, or finish it: gcc -flto -r -flinker-output=nolto-rel",
        )
    if any(section.flags & _SHF_COMPRESSED for section in elf.sections):
        raise ObjectError(
            f"{elf.name}: it has compressed sections, which are not joined",
            remedy="compile without -gz, or unpack them: objcopy --decompress-debug-sections",
        )
    patched = next((symbol.name for symbol in elf.symbols if symbol.shndx == _SHN_LIVEPATCH), "")
    if patched:
        raise ObjectError(
            f"{elf.name}: {patched!r} is a live patch's symbol", remedy="make live patches with kbuild"
        )


def _imports(elf: Elf) -> Iterator[Import]:
    """Undefined symbols in the order of the table, each once; strong if it is so anywhere."""
    found: dict[str, bool] = {}
    for symbol in elf.symbols[1:]:
        if symbol.shndx == SHN_UNDEF and symbol.bind in (STB_GLOBAL, STB_WEAK):
            name = _without_number(symbol.name)
            if name and name not in _IGNORED:
                found[name] = found.get(name, True) and symbol.bind == STB_WEAK
    return (Import(name, weak) for name, weak in found.items())


def _without_number(name: str) -> str:
    """remove_dot: `name.123` as `name`, which is what link-time optimization makes."""
    return re.sub(r"^([^.]+)\.[0-9]+(\..*)?$", r"\1", name, flags=re.DOTALL)


def _commons(elf: Elf) -> Iterator[Problem]:
    for symbol in elf.symbols:
        if symbol.shndx == SHN_COMMON:
            yield error(
                Kind.COMMON_SYMBOL, f"{symbol.name} is a common symbol, with which the kernel refuses the module",
                "compile with -fno-common", symbol.name,
            )  # fmt: skip


def _tabled_exports(elf: Elf, problems: list[Problem]) -> Iterator[Export]:
    """The exports of an object of before 6.4, which has their tables itself: those of symbols that it has."""
    bound: dict[str, bool] = {}
    for symbol in elf.symbols:
        if symbol.shndx != SHN_UNDEF:
            bound[symbol.name] = bound.get(symbol.name, False) or symbol.bind in (STB_GLOBAL, STB_WEAK)
    for export in parse_exports(elf):
        if export.name not in bound:
            problems.append(_undefined(export.name))
        elif not bound[export.name]:
            problems.append(_local(export.name))
        else:
            yield export


def _local(name: str) -> Problem:
    return error(
        Kind.EXPORT_LOCAL, f"{name} is exported and local", "take away `static`, or the export", name
    )


def _undefined(name: str) -> Problem:
    words = f"{name} is exported without definition"
    return error(Kind.EXPORT_UNDEFINED, words, "define it, or drop the export", name)


def _marked_exports(elf: Elf, section: Section, seen: set[str], problems: list[Problem]) -> Iterator[Export]:
    """What `.export_symbol` says: for each export a licence, a namespace, and a pointer to the symbol.

    seen  what is exported by sections before this one
    """
    marks = sorted(
        (
            symbol
            for symbol in elf.symbols
            if symbol.shndx == section.number and symbol.name.startswith(_MARK)
        ),
        key=lambda symbol: symbol.value,
    )
    starts = [mark.value for mark in marks]
    rows = sorted(elf.relocations(section), key=lambda row: row.offset)
    at = -1
    for row in rows:
        while at + 1 < len(starts) and starts[at + 1] <= row.offset:
            at += 1
        symbol = elf.symbols[row.symbol]
        if at < 0 or marks[at].name[len(_MARK) :] != symbol.name:
            wanted = marks[at].name[len(_MARK) :] if at >= 0 else symbol.name
            problems.append(_strange(wanted, symbol))
            continue
        problem, export = _marked_export(section, marks[at], symbol, seen)
        problems.extend(problem)
        yield from export


def _strange(wanted: str, symbol: Symbol) -> Problem:
    """What the section names is not the symbol that the mark is of: a static function has no name there."""
    if symbol.bind not in (STB_GLOBAL, STB_WEAK):
        return _local(wanted)
    return error(
        Kind.EXPORT_STRANGE, f".export_symbol names {symbol.name!r} where {wanted!r} is expected",
        "compile it with the kernel's own EXPORT_SYMBOL", wanted,
    )  # fmt: skip


def _marked_export(
    section: Section, mark: Symbol, symbol: Symbol, seen: set[str]
) -> tuple[list[Problem], list[Export]]:
    name = symbol.name
    if symbol.bind not in (STB_GLOBAL, STB_WEAK):
        return [_strange(name, symbol)], []
    if symbol.shndx == SHN_UNDEF:
        return [_undefined(name)], []
    if name in seen:
        return [error(Kind.EXPORT_TWICE, f"{name} is exported twice", "drop one of the exports", name)], []
    seen.add(name)
    texts = bytes(section.data[mark.value : mark.value + 2 * _MAX_TEXT]).split(b"\0")
    licence, namespace = (text.decode("utf-8", "backslashreplace") for text in (*texts, b"", b"")[:2])
    if licence not in ("", "GPL"):
        return [error(
            Kind.EXPORT_STRANGE, f"unknown licence {licence!r} of the export {name}",
            "compile it with the kernel's own EXPORT_SYMBOL", name,
        )], []  # fmt: skip
    return [], [Export(name, licence == "GPL", None, namespace)]
