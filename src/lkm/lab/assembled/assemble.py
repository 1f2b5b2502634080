# SPDX-License-Identifier: MIT
"""A module of the language and a target → the bytes of a `.ko`."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence

from lkm.errors import LabError
from lkm.formats.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_NOTE,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    STT_SECTION,
)
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.export_tables import export_sections
from lkm.formats.exports import Export
from lkm.formats.module import THIS_MODULE as THIS_MODULE_SECTION
from lkm.formats.modversions import Version
from lkm.formats.sibling import modinfo_section, this_module_section, versions_section
from lkm.lab.assembled.arm64 import ARM64
from lkm.lab.assembled.code import Architecture, Strings, compile_function
from lkm.lab.assembled.data import THIS_MODULE, DataSection, parameter_objects
from lkm.lab.assembled.language import Function, Module
from lkm.lab.assembled.target import Target
from lkm.lab.assembled.x86_64 import X86_64
from lkm.names import module_name

__all__ = ["ARCHITECTURES", "assemble_module", "export_crc"]

ARCHITECTURES = {architecture.machine: architecture for architecture in (X86_64, ARM64)}
TEXTS = (".text", ".init.text", ".exit.text")
EXECUTABLE = SHF_ALLOC | SHF_EXECINSTR


def export_crc(symbol: str) -> int:
    """The CRC of a symbol that a fault exports: of its name, since there are no types to make one of."""
    return zlib.crc32(symbol.encode())


def assemble_module(module: Module, target: Target, *, provided: Sequence[str] = ()) -> bytes:
    """The module file; the same input gives the same bytes. `provided` is what the other faults export.

    Raises LabError for what neither they nor the kernel export, and for an architecture without a generator.
    """
    architecture = ARCHITECTURES.get(target.sibling.machine)
    if architecture is None:
        raise LabError(f"{target.release}: no code generator for {target.sibling.elf.machine_name}")
    strings = Strings()
    sections, symbols = _texts(module, architecture, strings)
    for data in _data(module, target, architecture, strings):
        sections.append(data.section())
        symbols += data.symbols
    tables, names = export_sections(
        _exports(module, target), relative=architecture.relative, flagged=target.flagged
    )
    sections += [*tables, NewSection(Strings.section, bytes(strings.data), flags=SHF_ALLOC)]
    symbols += names
    symbols.append(NewSymbol("", Strings.section, bind=STB_LOCAL, type=STT_SECTION, id=Strings.section))
    symbols += _entry_points(module, symbols)
    size = target.sibling.this_module.size
    symbols.append(NewSymbol(THIS_MODULE, THIS_MODULE_SECTION, size=size, type=STT_OBJECT))
    imports = _imports(module, target, sections, symbols, provided)
    symbols += [NewSymbol(version.name) for version in imports]
    sections += _ties(module, target, architecture, imports)
    sections.insert(0, _build_id(sections))
    return build_relocatable(architecture.machine, sections, symbols, flags=target.sibling.elf.flags)


def _exports(module: Module, target: Target) -> list[Export]:
    versioned = target.sibling.versions is not None
    return [
        Export(export.function, export.gpl, export_crc(export.function) if versioned else None, "")
        for export in module.exports
    ]


def _texts(
    module: Module, architecture: Architecture, strings: Strings
) -> tuple[list[NewSection], list[NewSymbol]]:
    """The sections with functions, and their symbols; what is exported is global."""
    exported = {export.function for export in module.exports}
    sections, symbols = [], []
    for name in TEXTS:
        functions = [function for function in module.functions if function.section == name]
        if functions:
            section, places = _text(name, functions, architecture, strings)
            sections.append(section)
            symbols += [
                symbol._replace(bind=STB_GLOBAL if symbol.name in exported else STB_LOCAL)
                for symbol in places
            ]
    return sections, symbols


def _text(
    name: str, functions: Iterable[Function], architecture: Architecture, strings: Strings
) -> tuple[NewSection, list[NewSymbol]]:
    """One section, each function aligned to 16."""
    data = bytearray()
    relocations: list[NewRelocation] = []
    symbols = []
    for function in functions:
        data += bytes(-len(data) % 16)
        code, found = compile_function(function, architecture, strings)
        relocations += [item._replace(offset=item.offset + len(data)) for item in found]
        symbols.append(NewSymbol(function.name, name, len(data), len(code), type=STT_FUNC))
        data += code
    return NewSection(name, bytes(data), flags=EXECUTABLE, align=16, relocations=relocations), symbols


def _data(
    module: Module, target: Target, architecture: Architecture, strings: Strings
) -> Iterable[DataSection]:
    for name, objects, align in (
        (".data", module.objects, 64),
        ("__param", tuple(parameter_objects(module.parameters)), 8),
    ):
        if objects:
            data = DataSection(name, target.btf, strings, pointer=architecture.pointer, align=align)
            for item in objects:
                data.add(item)
            yield data


def _entry_points(module: Module, symbols: Sequence[NewSymbol]) -> Iterable[NewSymbol]:
    """`init_module` and `cleanup_module`, other names of two functions. They come after those, so that the kernel
    shows the function's own name in a trace."""
    places = {symbol.name: symbol for symbol in symbols}
    for alias, function in (("init_module", module.init), ("cleanup_module", module.exit)):
        if function:
            yield places[function]._replace(name=alias, bind=STB_GLOBAL)


def _imports(
    module: Module,
    target: Target,
    sections: Sequence[NewSection],
    symbols: Sequence[NewSymbol],
    provided: Sequence[str],
) -> list[Version]:
    """What relocations name and nothing here defines, with the CRCs of the kernel."""
    defined = {symbol.key for symbol in symbols}
    wanted = {relocation.symbol for section in sections for relocation in section.relocations} - defined
    missing = sorted(name for name in wanted if name not in provided and not target.has(name))
    if missing:
        raise LabError(f"{module.name}: {target.release} does not export {', '.join(missing)}")
    return [
        Version(name, export_crc(name) if name in provided else target.symbols[name])
        for name in sorted(wanted)
    ]


def _ties(
    module: Module, target: Target, architecture: Architecture, imports: Sequence[Version]
) -> list[NewSection]:
    """The sections that make it a module of this kernel."""
    name = module_name(module.name)
    about = [("license", "GPL"), ("description", module.description), ("depends", module.depends)]
    for parameter in module.parameters:
        about.append(("parm", f"{parameter.name}:{parameter.description}"))
        if parameter.type:
            about.append(("parmtype", f"{parameter.name}:{parameter.type}"))
    return [
        modinfo_section(target.sibling, about, name=name),
        *versions_section(target.sibling, imports),
        this_module_section(
            target.sibling, name=name, pointer=architecture.pointer, exit_function=bool(module.exit)
        ),
        *(NewSection(extra, b"\0", flags=EXECUTABLE) for extra in _extra_sections(target, architecture)),
        NewSection(".note.GNU-stack"),
    ]


def _extra_sections(target: Target, architecture: Architecture) -> Iterable[str]:
    """Those of the architecture's own sections that modules of this kernel have."""
    return (name for name in architecture.extra_sections if target.sibling.elf.section(name))


def _build_id(sections: Sequence[NewSection]) -> NewSection:
    """A note (owner GNU, type 3) that tells builds apart, as the linker makes it of the contents."""
    digest = hashlib.sha1(repr(sections).encode(), usedforsecurity=False).digest()
    note = struct.pack("<III4s", 4, len(digest), 3, b"GNU") + digest
    return NewSection(".note.gnu.build-id", note, SHT_NOTE, SHF_ALLOC, 4)
