# SPDX-License-Identifier: MIT
"""The CRC of one symbol in the file against the kernel's.

Source: check_version (kernel/module.c 5.10, kernel/module/version.c 6.1 to 7.3).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from lkm.preflight.load import Load

__all__ = ["Match", "VersionResult", "crc_of"]


class Match(Enum):
    """What check_version makes of a symbol. FORCED: no table at all, taken with a taint; MISSING: a table without
    it, taken with a word, once."""

    SAME = "same"
    FORCED = "forced"
    MISSING = "missing"
    OTHER = "other"


class VersionResult(NamedTuple):
    """`lines` are formats of what the kernel prints, with `{name}` and `{symbol}`."""

    match: Match
    words: str = ""
    lines: tuple[str, ...] = ()


_SAME = VersionResult(Match.SAME)


def crc_of(load: Load, symbol: str, wanted: int) -> VersionResult:
    """The verdict on `symbol`, of which the kernel has the CRC `wanted`."""
    extended = load.extended_versions if load.rules.extended_versions else None
    if extended is not None:
        if symbol not in extended or extended[symbol] == wanted:
            return _SAME  # a missing one is told once, and taken
        return _other(extended[symbol], wanted)
    if not load.versions_section:
        forced = load.target.option("MODULE_FORCE_LOAD")
        if forced is None:
            load.doubt("whether this kernel takes modules without __versions (CONFIG_MODULE_FORCE_LOAD)")
            return _SAME
        words = "it has no __versions"
        if forced:
            return VersionResult(Match.FORCED, words)
        return VersionResult(Match.OTHER, f"{words}, and this kernel has no CONFIG_MODULE_FORCE_LOAD")
    found = load.versions.get(symbol)
    if found is None:
        return _missing(load)
    return _SAME if found == wanted else _other(found, wanted)


def _missing(load: Load) -> VersionResult:
    """Mainline takes it for a broken toolchain's, warns once and goes on; Debian's patch ("module: Disable matching
    missing version CRC") has it refused."""
    words = "its __versions has no such symbol: it was built without the kernel's Module.symvers"
    line = ("{name}: no symbol version for {symbol}",)
    if load.target.strict_versions is False:
        return VersionResult(
            Match.MISSING, f"{words}; only Debian's kernels and those made of their source mind", line
        )
    return VersionResult(Match.OTHER, words, line)


def _other(found: int, wanted: int) -> VersionResult:
    return VersionResult(
        Match.OTHER,
        f"it was built with CRC {found:#010x}, this kernel has {wanted:#010x}",
        ("{name}: disagrees about version of symbol {symbol}",),
    )
