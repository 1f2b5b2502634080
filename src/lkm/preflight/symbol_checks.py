# SPDX-License-Identifier: MIT
"""What it exports and what it imports.

Sources: check_module_license_and_versions, find_symbol, resolve_symbol, simplify_symbols, verify_exported_symbols
(kernel/module.c 5.10, kernel/module/main.c 6.1 to 7.3); check_export_symbol_sections, verify_module_namespace
(7.3).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Optional

from lkm.formats.elf import SHN_ABS, SHN_COMMON, SHN_LORESERVE, SHN_UNDEF, STB_WEAK, Machine
from lkm.formats.raw_module import RawSymbol
from lkm.preflight.kernel import KernelExport, Providers
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Certainty, Problem, StageResult
from lkm.preflight.versions import Match, crc_of

__all__ = [
    "check_duplicate_exports",
    "check_export_tables",
    "check_import_namespaces",
    "check_symbols",
    "is_named",
]

_SHN_LIVEPATCH = 0xFF20  # include/uapi/linux/elf.h
_EXPORT_SIZE = 12
"""struct kernel_symbol with PREL32 relocations, as x86 and arm64 have it: value, name, namespace."""
_MOST = 1000
"""Symbols of which each fault is told; a damaged file can have millions, each a thousand times its size in words."""
_REBUILD = "build it against the headers of this very kernel"


def check_export_tables(load: Load) -> StageResult:
    """Exports need their CRCs, and on 7.x their flags."""
    image = load.image
    tables = [("__ksymtab", "__kcrctab")]
    if not load.rules.flagstab:
        tables.append(("__ksymtab_gpl", "__kcrctab_gpl"))
    exporting = [pair for pair in tables if image.sections[image.find(pair[0])].size >= _EXPORT_SIZE]
    found: list[Problem] = []
    if load.rules.flagstab and exporting and not image.find("__kflagstab"):
        found.append(Problem(
            Cause.EXPORT_TABLES, errno.ENOEXEC, "it exports symbols and has no __kflagstab, as 7.x wants it",
            _REBUILD, "check_export_symbol_sections", (f"{load.struct_name}: no flags for exported symbols",),
            load.certainty,
        ))  # fmt: skip
    if load.target.option("MODVERSIONS") and any(not image.find(crcs) for _, crcs in exporting):
        forced = load.target.option("MODULE_FORCE_LOAD")
        found.append(Problem(
            Cause.EXPORT_TABLES, None if forced else errno.ENOEXEC,
            "it exports symbols without CRCs", "build it with the kernel's Module.symvers",
            "check_module_license_and_versions",
            (f"{load.struct_name}: no versions for exported symbols: kernel tainted.",) if forced else (),
        ))  # fmt: skip
    return StageResult(tuple(found))


def check_import_namespaces(load: Load) -> StageResult:
    """setup_modinfo (6.16): the namespaces `module:…` cannot be imported by name."""
    if not load.rules.module_namespace:
        return StageResult(())
    for value in load.namespaces:
        if value.startswith("module:"):
            return StageResult((Problem(
                Cause.NAMESPACE_FORBIDDEN, errno.EPERM,
                f"it imports the namespace {value}, which the kernel gives to the modules named in it alone",
                "drop that MODULE_IMPORT_NS", "setup_modinfo",
                (f"{load.struct_name}: module tries to import module namespace: {value}",), load.certainty,
            ),))  # fmt: skip
    return StageResult(())


def check_symbols(load: Load) -> StageResult:
    """simplify_symbols: every symbol, in the order of the table; the error of the last bad one counts."""
    image = load.image
    if not image.symbol_tables:
        return StageResult(())
    table = image.symbol_tables[-1] if load.rules.early_checks else image.symbol_tables[0]
    resolver = _Resolver(load)
    found: list[Problem] = []
    more = 0
    for symbol in image.odd_symbols(table):
        for problem in _symbol(load, resolver, table, symbol):
            if len(found) >= _MOST:
                more += 1
                if problem.errno is not None:
                    found[-1] = problem  # the last one decides
            else:
                found.append(problem)
    if more:
        found.append(
            Problem(Cause.SYMBOL_MISSING, None, f"and {more} more of its symbols", "", "simplify_symbols")
        )
    return StageResult(tuple(found), last_wins=True)


def _symbol(load: Load, resolver: _Resolver, table: int, symbol: RawSymbol) -> Iterator[Problem]:
    """One that is in no section."""
    image, index = load.image, symbol.shndx
    if index == SHN_UNDEF:
        name = image.symbol_name(table, symbol)
        if not resolver.is_plain(name):
            yield from resolver.resolve(name, symbol)
    elif index == SHN_COMMON:
        yield from _common(load, image.symbol_name(table, symbol))
    elif index not in (SHN_ABS, _SHN_LIVEPATCH) and index >= image.header.shnum:
        yield from _bad_index(load, image.symbol_name(table, symbol), index)


def _common(load: Load, name: str) -> Iterator[Problem]:
    if not name.startswith("__gnu_lto"):
        yield Problem(
            Cause.SYMBOL_COMMON, errno.ENOEXEC, f"{name} is a common symbol", "compile with -fno-common",
            "simplify_symbols", (f"{load.struct_name}: please compile with -fno-common",), symbol=name,
        )  # fmt: skip


def _bad_index(load: Load, name: str, index: int) -> Iterator[Problem]:
    count = load.image.header.shnum
    words = f"{name or 'a symbol'} is said to be in section {index} of {count}"
    if load.rules.symbol_index:
        yield Problem(
            Cause.SYMBOL_INDEX, errno.ENOEXEC, words, "the file is damaged: build it again", "simplify_symbols",
            (f"{load.struct_name}: Symbol {name} has an invalid section index {index} (max {count - 1})",),
            load.certainty, name,
        )  # fmt: skip
    else:
        load.doubt(
            f"{words}: this kernel reads beyond its table of sections"
            + (" (a reserved index)" if index >= SHN_LORESERVE else "")
        )


class _Resolver:
    """resolve_symbol; what was resolved before changes what may come after (taints)."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.proprietary = load.proprietary
        self.uses_gpl_only = False
        self.extended = load.rules.extended_versions

    def resolve(self, name: str, symbol: RawSymbol) -> Iterator[Problem]:
        load = self.load
        exports = load.target.exports
        if exports is None:
            load.doubt("which symbols this kernel exports")
            return
        export = exports.find(name)
        why = self._hidden(name, export)
        if export is None or why is not None:
            ignored = name == "_GLOBAL_OFFSET_TABLE_" and load.target.machine == Machine.X86_64
            if symbol.info >> 4 != STB_WEAK and not ignored:
                yield why or self._missing(name)
            return
        if export.gpl:
            self.uses_gpl_only = True
        yield from self._allowed(name, export, weak=symbol.info >> 4 == STB_WEAK)

    def is_plain(self, name: str) -> bool:
        """Whether nothing can be wrong with it: so it is with nearly all, and there are 100 in a module."""
        exports = self.load.target.exports
        export = exports.find(name) if exports else None
        if export is None or export.namespace or (export.gpl and self.proprietary):
            return False
        if export.owner:
            loaded = self.load.target.loaded.get(export.owner)
            if loaded is None and self.load.target.providers is Providers.LOADED:
                return False
            if loaded is not None and (loaded.proprietary or loaded.state != "live"):
                return False
        if export.crc is not None and (self.extended or self.load.versions.get(name) != export.crc):
            return False
        self.uses_gpl_only = self.uses_gpl_only or export.gpl
        return True

    def _hidden(self, name: str, export: Optional[KernelExport]) -> Optional[Problem]:
        """Why find_symbol would not return an export that there is."""
        if export is None:
            return None
        target = self.load.target
        if export.owner and target.providers is Providers.LOADED:
            loaded = target.loaded.get(export.owner)
            if loaded is None:
                return self._unknown(
                    name, errno.ENOENT, Cause.PROVIDER_NOT_LOADED,
                    f"{name} is in {export.owner}, which is not loaded",
                    f"load {export.owner} first: modprobe {export.owner}",
                )  # fmt: skip
        if export.gpl and self.proprietary:
            licence = self.load.modinfo_value("license") or "unspecified"
            return self._unknown(
                name, errno.ENOENT, Cause.GPL_ONLY,
                f"{name} is for GPL-compatible modules only, and its licence is '{licence}'",
                "its licence decides: MODULE_LICENSE(\"GPL\") if that is so",
            )  # fmt: skip
        return None

    def _missing(self, name: str) -> Problem:
        return self._unknown(
            name, errno.ENOENT, Cause.SYMBOL_MISSING, f"nobody exports {name}",
            f"build it for {self.load.target.release}, or find the module that has {name}",
        )  # fmt: skip

    def _unknown(
        self, name: str, number: int, cause: Cause, words: str, remedy: str, *, before: tuple[str, ...] = ()
    ) -> Problem:  # fmt: skip
        line = f"{self.load.struct_name}: Unknown symbol {name} (err -{number})"
        return Problem(
            cause, number, words, remedy, "resolve_symbol", (*before, line), Certainty.CERTAIN, name
        )

    def _allowed(self, name: str, export: KernelExport, *, weak: bool) -> Iterator[Problem]:
        """inherit_taint, check_version, verify_namespace_is_imported, ref_module."""
        load = self.load
        owner = load.target.loaded.get(export.owner) if export.owner else None
        if owner is not None and owner.proprietary:
            problem = self._taint(name, export.owner)
            if problem.errno is not None and weak:
                return
            yield problem
            if problem.errno is not None:
                return
        if export.crc is not None:
            found = crc_of(load, name, export.crc)
            lines = tuple(line.format(name=load.info_name, symbol=name) for line in found.lines)
            if found.match is Match.MISSING:
                yield Problem(
                    Cause.SYMBOL_VERSION, None, f"{name}: {found.words}", _REBUILD, "check_version", lines,
                    Certainty.LIKELY, name,
                )  # fmt: skip
            elif found.match is Match.OTHER:
                yield self._unknown(
                    name, errno.EINVAL, Cause.SYMBOL_VERSION, f"{name}: {found.words}", _REBUILD, before=lines
                )
                return
        if export.namespace and not self._imports(export.namespace):
            yield from self._namespace(name, export.namespace)
            return
        if owner is not None and owner.state == "coming":
            load.doubt(f"whether {export.owner} finishes its init within 30 s: the load waits for it")
        elif owner is not None and owner.state == "going":
            yield self._unknown(
                name, errno.ENOENT, Cause.PROVIDER_NOT_LOADED, f"{export.owner}, which has {name}, is being removed",
                f"load {export.owner} again",
            )  # fmt: skip

    def _taint(self, name: str, owner: str) -> Problem:
        own = self.load.struct_name
        which = f" {name}" if self.load.rules.taint_symbol else ""
        if self.uses_gpl_only:
            return self._unknown(
                name, errno.ENOENT, Cause.PROPRIETARY_PROVIDER,
                f"it uses GPL-only symbols, so {name} of the proprietary module {owner} is closed to it",
                f"do without {owner}, or without GPL-only symbols",
                before=(
                    f"{own}: module using GPL-only symbols uses symbols{which} from proprietary module {owner}.",
                ),
            )  # fmt: skip
        self.proprietary = True
        line = f"{own}: module uses symbols{which} from proprietary module {owner}, inheriting taint."
        return Problem(
            Cause.PROPRIETARY_PROVIDER, None, f"it inherits the taint P from {owner}", "", "inherit_taint",
            (line,), symbol=name,
        )  # fmt: skip

    def _imports(self, namespace: str) -> bool:
        if self.load.rules.module_namespace and namespace.startswith("module:"):
            return is_named(namespace, self.load.struct_name)
        return namespace in self.load.namespaces

    def _namespace(self, name: str, namespace: str) -> Iterator[Problem]:
        load = self.load
        line = (
            f"{load.struct_name}: module uses symbol ({name}) from namespace {namespace},"
            " but does not import it."
        )
        words = f"{name} is in the namespace {namespace}, which it does not import"
        if load.target.option("MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS"):
            yield Problem(
                Cause.NAMESPACE, None, words, "", "verify_namespace_is_imported", (line,), symbol=name
            )
        else:
            yield self._unknown(
                name,
                errno.EINVAL,
                Cause.NAMESPACE,
                words,
                f'add MODULE_IMPORT_NS("{namespace}")',
                before=(line,),
            )


def is_named(namespace: str, module: str) -> bool:
    """verify_module_namespace: `module:a,b*` names a, and all that begin with b; `-` equals `_`."""
    own = module.replace("-", "_")
    for pattern in namespace[len("module:") :].split(","):
        wanted = pattern.replace("-", "_")
        if own == wanted or (wanted.endswith("*") and own.startswith(wanted[:-1])):
            return True
    return False


def check_duplicate_exports(load: Load) -> StageResult:
    """verify_exported_symbols: the first of its exports that somebody has already."""
    exports = load.target.exports
    for name in _own_exports(load):
        other = exports.find(name) if exports else None
        if other is None or other.owner == load.struct_name:
            continue
        if other.owner and other.owner not in load.target.loaded:
            continue
        owner = other.owner or "kernel"
        return StageResult((Problem(
            Cause.DUPLICATE_EXPORT, errno.ENOEXEC, f"{name}, which it exports, is exported by {owner} already",
            "rename the symbol" if not other.owner else f"unload {owner} first, or rename the symbol",
            "verify_exported_symbols",
            (f"{load.struct_name}: exports duplicate symbol {name} (owned by {owner})",), symbol=name,
        ),))  # fmt: skip
    return StageResult(())


def _own_exports(load: Load) -> Iterator[str]:
    """The names in `__ksymtab` and `__ksymtab_gpl`, in the order of the tables.

    An entry names its symbol by relocation only; the symbols `__ksymtab_X` stand at the entries.
    """
    image = load.image
    if not image.symbol_tables:
        return
    table = image.symbol_tables[0]
    wanted = [image.find("__ksymtab")]
    if not load.rules.flagstab:
        wanted.append(image.find("__ksymtab_gpl"))
    for section in filter(None, wanted):
        rows = sorted((symbol.value, symbol.name) for symbol in image.symbols_within(table, (section,)))
        for _, place in rows:
            name = image.text(table, place)
            if name.startswith("__ksymtab_"):
                yield name[len("__ksymtab_") :]
