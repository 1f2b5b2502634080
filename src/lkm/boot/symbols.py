# SPDX-License-Identifier: MIT
"""Initcalls out of a kernel's symbols: those of /proc/kallsyms, or of an image.

The variables that hold the functions' addresses are named (include/linux/init.h)

    __initcall_<function><level>                                    up to 5.11
    __initcall__kmod_<module>__<counter>_<line>_<function><level>   since 5.12

where consoles have no level up to 5.11 and `con` since. They are data: a kernel without CONFIG_KALLSYMS_ALL
(Debian's arm64 up to 6.1) has none of them. With Clang's LTO the function is a stub, `__initstub__kmod_…`.
Security modules have a `struct lsm_info` each, `__lsm_<name>` or `__early_lsm_<name>` (include/linux/lsm_hooks.h).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional

from lkm.boot.initcall import SUFFIX, Initcall, Level, level_of_suffix

__all__ = ["BootSymbol", "initcalls_of_symbols"]

_MARK = re.compile(r"__initcall(\d|rootfs)?_(start|end)")
_NAMED = re.compile(r"_kmod_(?P<module>.+?)__(?P<counter>\d+)_(?P<line>\d+)_(?P<rest>.+)")
_LSM = re.compile(r"__(?P<early>early_)?lsm_(?P<name>.+)")


class BootSymbol(NamedTuple):
    """A symbol: its address (0 where the reader may not see it), type as nm has it, name."""

    address: int
    type: str
    name: str


def initcalls_of_symbols(symbols: Iterable[BootSymbol]) -> list[Initcall]:
    """The initcalls, level by level and in their order; none if these symbols have no variables.

    `symbols` are in the order of their addresses, as /proc/kallsyms has them, so that it does without them.
    """
    variables, security = [], []
    functions: dict[str, Optional[int]] = {}
    for symbol in symbols:
        if symbol.name.startswith("__initcall_"):
            if not _MARK.fullmatch(symbol.name):
                variables.append(symbol)
        elif symbol.type in "tTwW":
            functions[symbol.name] = None if symbol.name in functions else symbol.address or None
        elif symbol.type in "dDrR" and _LSM.fullmatch(symbol.name):
            security.append(symbol)
    calls = [_initcall(variable, functions) for variable in variables]
    return number(calls + [_security(symbol) for symbol in security])


def number(calls: Iterable[Initcall]) -> list[Initcall]:
    """The same in the order of the levels, each with its place in its table. Within a level, order stays."""
    ranks = {level: rank for rank, level in enumerate(Level)}
    counts: dict[Optional[Level], int] = {}
    done = []
    for call in sorted(calls, key=lambda call: ranks[call.level]):
        table = None if ranks[call.level] >= ranks[Level.EARLY] else call.level
        counts[table] = counts.get(table, 0) + 1
        done.append(call._replace(order=counts[table]))
    return done


def _initcall(symbol: BootSymbol, functions: Mapping[str, Optional[int]]) -> Initcall:
    rest = symbol.name.removeprefix("__initcall_")
    named = _NAMED.fullmatch(rest)
    rest = named["rest"] if named else rest
    suffix = SUFFIX.search(rest)
    level, sync, function = Level.CONSOLE, False, rest
    if suffix:
        level, sync = level_of_suffix(suffix[0])
        function = rest[: suffix.start()]
    return Initcall(
        level=level,
        order=0,
        function=function,
        sync=sync,
        module=named["module"] if named else "",
        module_from="symbol" if named else "",
        address=functions.get(function),
        entry=symbol.address or None,
        line=int(named["line"]) if named else 0,
    )


def _security(symbol: BootSymbol) -> Initcall:
    """The function is in the structure, which is freed after the boot; an image has it."""
    match = _LSM.fullmatch(symbol.name)
    name = match["name"] if match else ""
    return Initcall(
        level=Level.EARLY_SECURITY if match and match["early"] else Level.SECURITY,
        order=0,
        function="",
        module=name.removesuffix("_NAME").lower(),  # landlock names itself by a macro
        module_from="symbol",
        entry=symbol.address or None,
    )
