# SPDX-License-Identifier: MIT
"""From the blacklist to the module's place in the list: layout, vermagic, section flags, its name.

Sources: check_modstruct_version, check_modinfo, same_magic, module_enforce_rwx_sections, add_unformed_module
(kernel/module.c 5.10; kernel/module/main.c, version.c, strict_rwx.c 6.1 to 7.3).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.formats.elf import SHF_EXECINSTR, SHF_WRITE
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Certainty, Problem, StageResult
from lkm.preflight.versions import Match, crc_of

__all__ = ["check_layout", "check_name", "check_section_flags", "check_vermagic"]

_REBUILD = "build it against the headers of this very kernel"
_REMADE = f"{_REBUILD}; of an object file (.o) that was, lkm modpost makes a module of this kernel"


def check_layout(load: Load) -> StageResult:
    """check_modstruct_version: the CRC of `module_layout`, which stands for the struct module."""
    exports = load.target.exports
    if exports is None:
        if load.versions_section:
            load.doubt("the CRC of module_layout: this kernel's exports are not known")
        return StageResult(())
    layout = exports.find("module_layout")
    if layout is None or layout.crc is None:
        return StageResult(())  # without MODVERSIONS nobody compares
    found = crc_of(load, "module_layout", layout.crc)
    if found.match is Match.SAME:
        return StageResult(())
    lines = tuple(line.format(name=load.info_name, symbol="module_layout") for line in found.lines)
    if found.match is Match.FORCED:
        return StageResult((_forced(found.words, lines, Cause.MODULE_LAYOUT),))
    if found.match is Match.MISSING:
        words = f"module_layout: {found.words}"
        note = Problem(Cause.MODULE_LAYOUT, None, words, _REBUILD, "check_version", lines, Certainty.LIKELY)
        return StageResult((note,))
    return StageResult(
        (
            Problem(
                Cause.MODULE_LAYOUT,
                errno.ENOEXEC,
                f"module_layout: {found.words}",
                _REBUILD,
                "check_modstruct_version",
                lines,
            ),
        )
    )


def _forced(words: str, lines: tuple[str, ...], cause: Cause) -> Problem:
    """try_to_force_load with CONFIG_MODULE_FORCE_LOAD: a taint, and on it goes."""
    return Problem(cause, None, f"{words}: taken all the same, and taints the kernel (F)", _REBUILD,
                   "try_to_force_load", lines)  # fmt: skip


def check_vermagic(load: Load) -> StageResult:
    """check_modinfo: the version magic, and the mark of a live patch."""
    return StageResult((*_vermagic(load), *_livepatch(load)))


def _vermagic(load: Load) -> Iterator[Problem]:
    has = None if load.request.ignore_vermagic else load.modinfo_value("vermagic")
    wanted = load.target.vermagic
    if has is None:
        yield from _no_vermagic(load)
    elif wanted is None:
        load.doubt("this kernel's vermagic: no module of its own was found to go by")
    elif not _same(has, wanted, has_crcs=bool(load.versions_section)):
        yield Problem(
            Cause.VERMAGIC,
            errno.ENOEXEC,
            _compare(has, wanted, has_crcs=bool(load.versions_section)),
            _REMADE,
            "check_modinfo",
            (f"{load.info_name}: version magic '{has}' should be '{wanted}'",),
        )


def _no_vermagic(load: Load) -> Iterator[Problem]:
    forced = load.target.option("MODULE_FORCE_LOAD")
    words = "it has no vermagic" if not load.request.ignore_vermagic else "its vermagic is to be ignored"
    if forced is None:
        load.doubt("whether this kernel takes modules without vermagic (CONFIG_MODULE_FORCE_LOAD)")
    elif forced:
        yield _forced(words, (f"{load.struct_name}: bad vermagic: kernel tainted.",), Cause.VERMAGIC)
    else:
        yield Problem(
            Cause.VERMAGIC, errno.ENOEXEC, f"{words}, and this kernel has no CONFIG_MODULE_FORCE_LOAD",
            _REMADE, "check_modinfo",
        )  # fmt: skip


def _same(has: str, wanted: str, *, has_crcs: bool) -> bool:
    """same_magic: with CRCs in the file, the release does not count."""
    return _counted(has, has_crcs=has_crcs) == _counted(wanted, has_crcs=has_crcs)


def _counted(magic: str, *, has_crcs: bool) -> str:
    at = magic.find(" ")
    return (magic[at:] if at >= 0 else "") if has_crcs else magic


def _compare(has: str, wanted: str, *, has_crcs: bool) -> str:
    """Which tokens differ, and whether the release counts."""
    own, other = has.split(), wanted.split()
    parts = []
    if own[:1] != other[:1]:
        counts = "does not count, as its symbols have CRCs" if has_crcs else "counts, as it has no CRCs"
        parts.append(
            f"built for {' '.join(own[:1]) or 'nothing'}, this is {' '.join(other[:1])}: that {counts}"
        )
    missing = [token for token in other[1:] if token not in own[1:]]
    extra = [token for token in own[1:] if token not in other[1:]]
    if missing:
        parts.append(f"it lacks {' '.join(missing)}")
    if extra:
        parts.append(f"it has {' '.join(extra)}, which this kernel has not")
    if not missing and not extra and own[1:] != other[1:]:
        parts.append("the same words in another order")
    return "vermagic: " + ("; ".join(parts) or "it differs in spaces")


def _livepatch(load: Load) -> Iterator[Problem]:
    if load.modinfo_value("livepatch") is not None and load.target.option("LIVEPATCH") is False:
        yield Problem(
            Cause.LIVEPATCH,
            errno.ENOEXEC,
            "it is a live patch, and this kernel has no CONFIG_LIVEPATCH",
            "use a kernel with live patching",
            "check_modinfo_livepatch",
            (f"{load.struct_name}: module is marked as livepatch module, but livepatch support is disabled",),
        )


def check_section_flags(load: Load) -> StageResult:
    """module_enforce_rwx_sections: the first section that is both writable and executable."""
    strict = load.target.option("STRICT_MODULE_RWX")
    both = SHF_WRITE | SHF_EXECINSTR
    bad = [i for i, row in enumerate(load.image.sections) if row.flags & both == both]
    if not bad or strict is False:
        return StageResult(())
    name = load.image.name(bad[0])
    return StageResult(
        (
            Problem(
                Cause.WRITE_EXEC,
                errno.ENOEXEC,
                f"its section {name} is both writable and executable",
                "let the linker keep code and data apart",
                "module_enforce_rwx_sections",
                (f"{load.struct_name}: section {name} (index {bad[0]}) has invalid WRITE|EXEC flags",),
                load.certainty if strict else Certainty.LIKELY,
            ),
        )
    )


def check_name(load: Load) -> StageResult:
    """add_unformed_module, and module_patient_check_exists since 6.4: the name in the list of modules."""
    name = load.struct_name
    loaded = load.target.loaded.get(name)
    if loaded is None:
        return StageResult(())
    if loaded.state == "live":
        return StageResult(
            (
                Problem(
                    Cause.LOADED,
                    errno.EEXIST,
                    f"a module {name} is loaded",
                    f"unload it first: lkm unload {name}",
                    "add_unformed_module",
                ),
            )
        )
    if loaded.state == "going":
        return StageResult(
            (
                Problem(
                    Cause.IN_PROGRESS,
                    errno.EBUSY,
                    f"a module {name} is being removed",
                    f"wait for it; if it never ends: lkm why {name}",
                    "add_unformed_module",
                ),
            )
        )
    load.doubt(
        f"how the load of {name} ends that is in progress: this one would wait for it (lkm why {name})"
    )
    return StageResult(())
