# SPDX-License-Identifier: MIT
"""What modpost finds wrong with an object, and what it finds out for the module: CRCs of imports, dependencies.

Source: `read_symbols`, `check_exports`, `add_versions`, `add_depends`, `add_exported_symbols` in the kernel's
scripts/mod/modpost.c (5.10 to 7.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lkm.formats.exports import Export
from lkm.formats.modinfo import is_gpl_compatible
from lkm.formats.modversions import Version
from lkm.modpost.kernel import Kernel
from lkm.modpost.objects import Import, ObjectFile
from lkm.modpost.problems import Kind, Problem, error, warning
from lkm.names import MAX_NAME
from lkm.preflight.kernel import KernelExport
from lkm.preflight.symbol_checks import is_named

__all__ = ["Findings", "check_object"]

_OURS = ("vermagic", "name", "depends")
"""What modpost alone writes into .modinfo: the kernel and kmod take the first one of a key."""


class Findings(NamedTuple):
    """What the tables of the module are made of, and all that is wrong.

    versions  the imports that somebody exports, with CRC, in the order of the object
    depends   the modules that have them, as their files are called, in that order
    exports   with the CRC that each shall have; None without MODVERSIONS
    """

    versions: tuple[Version, ...]
    depends: tuple[str, ...]
    exports: tuple[Export, ...]
    problems: tuple[Problem, ...]


def check_object(found: ObjectFile, kernel: Kernel, *, name: str, crcs: Mapping[str, int]) -> Findings:
    """All that is wrong with an object that is to be the module `name`; `crcs` are known ones of its exports."""
    problems = [*_check_self(found, name), *found.problems, *_check_namespaces(found, kernel)]
    resolved: list[tuple[Import, KernelExport]] = []
    importer = _Importer.of(found, name)
    for wanted in found.imports:
        export = kernel.exports.find(wanted.name)
        if export is not None:
            problems += _check_import(importer, export, kernel)
            resolved.append((wanted, export))
        elif not wanted.weak:
            problems.append(_missing(wanted.name, kernel))
    versions, about_crcs = _versions(resolved, kernel)
    exports, about_exports = _exports(found, kernel, crcs)
    owners = dict.fromkeys(export.owner for _, export in resolved if export.owner)
    return Findings(versions, tuple(owners), exports, (*problems, *about_crcs, *about_exports))


def _check_self(found: ObjectFile, name: str) -> Iterator[Problem]:
    if not found.modinfo.has("license"):
        yield error(
            Kind.NO_LICENSE, "it has no MODULE_LICENSE()", 'state its licence, such as MODULE_LICENSE("GPL")'
        )
    if len(name.encode()) > MAX_NAME:
        yield error(
            Kind.NAME_TOO_LONG, f"the module's name {name!r} has more than {MAX_NAME} bytes",
            "give the file a shorter name (-o)",
        )  # fmt: skip
    for key in _OURS:
        if found.modinfo.has(key):
            yield error(
                Kind.OWN_INFO, f"its .modinfo has {key}={found.modinfo.get(key)!r} already",
                f'drop that MODULE_INFO({key}, …): it is modpost\'s to write',
            )  # fmt: skip
    if found.modinfo.has("version"):
        yield warning(
            Kind.NO_SRCVERSION, "it has a MODULE_VERSION, and gets no srcversion= to go with it",
            "srcversion is a checksum of the sources, which an object does not have; nothing needs it to load",
        )  # fmt: skip
    if found.elf.section("alloc_tags") is not None:
        yield error(
            Kind.NOT_SUPPORTED, "its section alloc_tags (CONFIG_MEM_ALLOC_PROFILING) needs symbols at its ends",
            "make this module with kbuild",
        )  # fmt: skip


def _check_namespaces(found: ObjectFile, kernel: Kernel) -> Iterator[Problem]:
    """Those of the form `module:…` are for the modules named in them alone (6.16)."""
    for namespace in found.modinfo.get_all("import_ns"):
        if kernel.rules.module_namespace and namespace.startswith("module:"):
            yield error(
                Kind.NAMESPACE_FORBIDDEN, f"it imports the namespace {namespace}, which nobody can import",
                "drop that MODULE_IMPORT_NS",
            )  # fmt: skip


def _missing(name: str, kernel: Kernel) -> Problem:
    return error(
        Kind.SYMBOL_MISSING, f"{name} is undefined: neither {kernel.release} nor a module of it exports it",
        "name the module that has it (--with), or compile against the headers of this kernel", name,
    )  # fmt: skip


class _Importer(NamedTuple):
    """What it says of itself: `bad` is its first licence that closes GPL-only symbols to it, None without one."""

    name: str
    bad: str | None
    namespaces: frozenset[str]

    @classmethod
    def of(cls, found: ObjectFile, name: str) -> _Importer:
        licences = found.modinfo.get_all("license")
        bad = next((licence for licence in licences if not is_gpl_compatible(licence)), None)
        return cls(name, bad, frozenset(found.modinfo.get_all("import_ns")))


def _check_import(importer: _Importer, export: KernelExport, kernel: Kernel) -> Iterator[Problem]:
    if export.gpl and importer.bad is not None:
        yield error(
            Kind.GPL_ONLY, f"{export.name} is for GPL-compatible modules only, and its licence is {importer.bad!r}",
            'its licence decides: MODULE_LICENSE("GPL") if that is so', export.name,
        )  # fmt: skip
    space = export.namespace
    if not space or space in importer.namespaces:
        return
    if kernel.rules.module_namespace and space.startswith("module:"):
        if is_named(space, importer.name):
            return
        words, remedy = f"{export.name} is for certain modules only ({space})", "do without it"
    else:
        words = f"{export.name} is in the namespace {space}, which it does not import"
        remedy = f'add MODULE_IMPORT_NS("{space}")'
    allowed = kernel.option("MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS")
    yield Problem(Kind.NAMESPACE, not allowed, words, remedy, export.name)


def _versions(
    resolved: list[tuple[Import, KernelExport]], kernel: Kernel
) -> tuple[tuple[Version, ...], list[Problem]]:
    if not kernel.modversions:
        return (), []
    extended = kernel.sibling.elf.section("__version_ext_crcs") is not None
    made, problems = [], []
    for wanted, export in resolved:
        if export.crc is None:
            problems.append(warning(
                Kind.NO_CRC, f"the CRC of {wanted.name} is not known, and the kernel will not load it without",
                f"build {export.owner or 'the kernel'} with CRCs, or name the Module.symvers that has them",
                wanted.name,
            ))  # fmt: skip
        elif len(wanted.name.encode()) > MAX_NAME and not extended:
            problems.append(error(
                Kind.SYMBOL_TOO_LONG, f"{wanted.name} has more than {MAX_NAME} bytes, and does not fit in __versions",
                "take a kernel with CONFIG_EXTENDED_MODVERSIONS, or give it a shorter name", wanted.name,
            ))  # fmt: skip
        else:
            made.append(Version(wanted.name, export.crc))
    return tuple(made), problems


def _exports(
    found: ObjectFile, kernel: Kernel, crcs: Mapping[str, int]
) -> tuple[tuple[Export, ...], list[Problem]]:
    problems = []
    made = []
    if found.exports and not found.generated and kernel.rules.flagstab:
        problems.append(error(
            Kind.EXPORT_FORM, f"its exports have the form of kernels before 6.4, which {kernel.release} cannot use",
            "compile it against the headers of this kernel",
        ))  # fmt: skip
    for export in found.exports:
        other = kernel.exports.find(export.name)
        if other is not None and not other.owner:
            problems.append(error(
                Kind.EXPORT_TWICE, f"{export.name}, which it exports, is exported by the kernel already",
                "rename the symbol", export.name,
            ))  # fmt: skip
        crc = export.crc if export.crc is not None else crcs.get(export.name)
        if kernel.modversions and crc is None:
            problems.append(warning(
                Kind.EXPORT_CRC, f"the CRC of {export.name}, which it exports, is not known: it gets 0",
                "leave kbuild's .NAME.o.cmd beside the object: genksyms has written it there; users of the symbol"
                " made with this module (--with) agree with it as it is", export.name,
            ))  # fmt: skip
        made.append(export._replace(crc=(crc or 0) if kernel.modversions else None))
    return tuple(made), problems
