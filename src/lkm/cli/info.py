# SPDX-License-Identifier: MIT
"""One module file in full: what it says of itself, what it was built with, needs and gives, who signed it, and the
sections it is made of."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any

from lkm.cli.chosen_kernel import choose_kernel
from lkm.cli.files import is_path, read_named_bytes
from lkm.errors import UsageError
from lkm.formats.compression import decompress
from lkm.formats.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHF_WRITE,
    SHT_NOBITS,
    Section,
)
from lkm.formats.module import ModuleFile, parse_module
from lkm.formats.raw_module import RawModule
from lkm.formats.signer import Signer, parse_signer
from lkm.preflight.parameters import Parameter, read_parameters
from lkm.tree.tree import Tree

__all__ = ["configure", "run"]

SCHEMA = "lkm.info/1"
REMEDY = "name a module file (.ko), or a module of a kernel's tree (--kernel)"
_ROW = 16
_FLAGS = ((SHF_ALLOC, "A"), (SHF_WRITE, "W"), (SHF_EXECINSTR, "X"), (SHF_MERGE, "M"), (SHF_STRINGS, "S"))


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm info`."""
    parser.add_argument(
        "modules", metavar="FILE|NAME", nargs="+", help="module files, or names of the kernel's tree"
    )
    parser.add_argument("--kernel", metavar="RELEASE", default="", help="names are of this kernel's tree")
    parser.add_argument("--versions", action="store_true", help="the CRC of every import (__versions)")
    parser.add_argument("--exports", action="store_true", help="every export, with its CRC and namespace")
    parser.add_argument("--sections", action="store_true", help="the section table")
    parser.add_argument("--section", metavar="NAME", default="", help="one section, as hexadecimal and text")
    parser.add_argument("--json", action="store_true", help=f"one JSON object with all, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Show them. 0: shown; 1: one cannot be read."""
    tree = Tree(choose_kernel(arguments.kernel, "")[0])
    found = [_read(tree, word) for word in arguments.modules]
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "modules": [_as_object(*each) for each in found]}, indent=1))
        return 0
    for path, data, module in found:
        for line in _lines(path, data, module, arguments):
            print(line)
    return 0


def _read(tree: Tree, word: str) -> tuple[str, bytes, ModuleFile]:
    """The path, the content (decompressed, with its signature) and the module."""
    path = _path(tree, word)
    data = read_named_bytes(path, remedy=REMEDY)
    content = decompress(data, name=path)
    return path, content, parse_module(content, name=path)


def _path(tree: Tree, word: str) -> str:
    """The file that `word` names, itself or as a module of the tree."""
    if is_path(word) or os.path.isfile(word):
        return word
    matches = tree.lookup(word) if tree.is_name(word) else ()
    for match in matches:
        path = tree.path(match.name)
        if path:
            return path
        if tree.is_builtin(match.name):
            raise UsageError(
                f"{word} is built into the kernel, and has no file", remedy=f"lkm life {match.name} says more"
            )
    if not os.path.isdir(tree.directory):
        raise UsageError(f"there is no {tree.directory} in which to look for {word!r}", remedy=REMEDY)
    raise UsageError(f"no module {word!r} below {tree.directory}", remedy=REMEDY)


def _signer(data: bytes) -> Signer | None:
    return parse_signer(lambda offset, size: data[offset : offset + size], len(data))


def _lines(path: str, data: bytes, module: ModuleFile, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.section:
        yield from _dump(module, arguments.section)
        return
    chosen = arguments.versions or arguments.exports or arguments.sections
    if not chosen:
        yield from _summary(path, data, module)
    if arguments.versions:
        yield from (f"{version.crc:#010x} {version.name}" for version in module.versions or ())
    if arguments.exports:
        for export in module.exports:
            crc = f"{export.crc:#010x}" if export.crc is not None else "no CRC    "
            space = f" in {export.namespace}" if export.namespace else ""
            yield f"{crc} {export.name}{' (GPL only)' if export.gpl else ''}{space}"
    if arguments.sections:
        yield f"{'no':>3} {'name':<32} {'size':>9} {'offset':>9} {'align':>5}  flags"
        yield from map(_section_row, module.elf.sections)


def _summary(path: str, data: bytes, module: ModuleFile) -> Iterator[str]:
    yield f"{module.name}: {path}"
    this = module.this_module
    rows = [
        ("vermagic", module.vermagic),
        ("architecture", module.elf.machine_name),
        ("srcversion", module.modinfo.get("srcversion")),
        ("build-id", (module.build_id or b"").hex()),
        ("licence", module.modinfo.get("license")),
        ("in-tree", "yes" if module.intree else "no"),
        ("needs", ", ".join(module.depends)),
        ("imports", _imports(module)),
        ("exports", str(len(module.exports)) if module.exports else ""),
        ("namespaces", ", ".join(module.modinfo.get_all("import_ns"))),
        ("parameters", ", ".join(map(_parameter, read_parameters(RawModule(bytes(module.elf.data)))))),
        ("struct module", f"{this.size} bytes, init at {this.init_offset}, exit at {this.exit_offset}"),
        ("signature", _signature(data)),
    ]  # fmt: skip
    for key, value in rows:
        if value:
            yield f"  {key + ':':<14} {value}"


def _imports(module: ModuleFile) -> str:
    if module.versions is None:
        return f"{len(module.imports)}, without CRCs"
    return f"{len(module.imports)}, with {len(module.versions)} CRCs (--versions)"


def _parameter(parameter: Parameter) -> str:
    kind = parameter.kind or "a function of its own"
    return f"{parameter.name} ({kind}{f' × {parameter.maximum}' if parameter.maximum else ''})"


def _signature(data: bytes) -> str:
    signer = _signer(data)
    if signer is None:
        return "none"
    name = signer.name.decode("utf-8", "backslashreplace")
    return f"{signer.id_type} by {name or 'nobody named'}, key {signer.key_id.hex(':')}, {signer.digest}"


def _flag_letters(section: Section) -> str:
    return "".join(letter for flag, letter in _FLAGS if section.flags & flag)


def _section_row(section: Section) -> str:
    offset = "-" if section.type == SHT_NOBITS else f"{section.offset:#x}"
    return (
        f"{section.number:>3} {section.name:<32} {section.size:>9} {offset:>9} {section.align:>5}"
        f"  {_flag_letters(section)}"
    )


def _dump(module: ModuleFile, name: str) -> Iterator[str]:
    """As `objdump -s` has it: offset, four words, text."""
    section = module.elf.section(name)
    if section is None:
        names = ", ".join(each.name for each in module.elf.sections if each.name)
        raise UsageError(f"{module.elf.name} has no section {name}", remedy=f"it has {names}")
    data = bytes(section.data)
    yield f"{name}: {section.size} bytes"
    for at in range(0, len(data), _ROW):
        row = data[at : at + _ROW]
        words = " ".join(row[i : i + 4].hex() for i in range(0, len(row), 4))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f" {at:04x} {words:<35}  {text}"


def _as_object(path: str, data: bytes, module: ModuleFile) -> dict[str, Any]:
    signer, this = _signer(data), module.this_module
    return {
        "module": module.name, "path": path, "vermagic": module.vermagic, "machine": module.elf.machine_name,
        "srcversion": module.modinfo.get("srcversion"), "build_id": (module.build_id or b"").hex(),
        "intree": module.intree, "depends": list(module.depends), "imports": list(module.imports),
        "modinfo": [list(item) for item in module.modinfo.items],
        "versions": None if module.versions is None else {v.name: v.crc for v in module.versions},
        "exports": [e._asdict() for e in module.exports],
        "parameters": [p._asdict() for p in read_parameters(RawModule(bytes(module.elf.data)))],
        "struct_module": {"size": this.size, "init": this.init_offset, "exit": this.exit_offset},
        "signature": None if signer is None else {
            "type": signer.id_type, "signer": signer.name.decode("utf-8", "backslashreplace"),
            "key": signer.key_id.hex(), "hash": signer.digest,
        },
        "sections": [
            {"name": s.name, "type": s.type, "flags": _flag_letters(s), "size": s.size, "offset": s.offset,
             "align": s.align}
            for s in module.elf.sections
        ],
    }  # fmt: skip
