# SPDX-License-Identifier: MIT
"""`/proc/kallsyms`: a few names out of some 200,000 lines.

    ADDRESS TYPE NAME[\\t[MODULE]]

Source: `s_show` in the kernel's `kernel/kallsyms.c` (6.1). Addresses are 0 for a reader who may not see them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.names import ModuleName

__all__ = ["KallsymsError", "KernelSymbol", "iter_kallsyms", "parse_kallsyms"]


class KallsymsError(ParseError):
    """A line that is not one of `/proc/kallsyms`."""


class KernelSymbol(NamedTuple):
    """One line. `type` is nm's letter.

    `module` is None for the kernel proper; `bpf` and `__builtin__…` stand for code that was generated.
    """

    name: str
    address: int
    type: str
    module: ModuleName | None


def parse_kallsyms(data: bytes, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
    """The symbols of these names, each with all that bear it, in file order; an absent name has no key.

    One `bytes.find` run over the data per name: quicker than lines for up to some hundred names.
    Raises `KallsymsError`.
    """
    found: dict[str, list[KernelSymbol]] = {}
    for name in names:
        symbols = list(_find(data, name))
        if symbols:
            found[name] = symbols
    return found


def iter_kallsyms(data: bytes) -> Iterator[KernelSymbol]:
    """Every symbol, in file order. Raises `KallsymsError`."""
    for line in data.splitlines():
        if line:
            yield _parse_line(line)


def _find(data: bytes, name: str) -> Iterator[KernelSymbol]:
    wanted = b" " + name.encode()
    at = data.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        # A name ends at the line's end or at the tab before its module, and stands after a one-letter type.
        if data[end : end + 1] in {b"\n", b"\t", b""} and data[at - 2 : at - 1] == b" ":
            stop = data.find(b"\n", end)
            yield _parse_line(data[data.rfind(b"\n", 0, at) + 1 : stop if stop >= 0 else len(data)])
        at = data.find(wanted, end)


def _parse_line(line: bytes) -> KernelSymbol:
    fields = line.decode("utf-8", "backslashreplace").split()
    if len(fields) not in {3, 4}:
        raise KallsymsError(f"/proc/kallsyms: expected 3 or 4 fields, found {len(fields)}: {line[:200]!r}")
    try:
        address = int(fields[0], 16)
    except ValueError as error:
        raise KallsymsError(f"/proc/kallsyms: {error}: {line[:200]!r}") from error
    module = ModuleName(fields[3].strip("[]")) if len(fields) == 4 else None
    return KernelSymbol(fields[2], address, fields[1], module)
