# SPDX-License-Identifier: MIT
"""Initcalls out of a kernel's image: by the names that it has, or by its tables alone.

A kernel without CONFIG_KALLSYMS_ALL has names for functions only (Debian's arm64 up to 6.1): there the tables
tell level, order and function, and nothing tells module, source line and which are synchronous.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from lkm.boot.initcall import FIRST_OF_TABLE, Initcall, Level
from lkm.boot.symbols import BootSymbol, initcalls_of_symbols, number
from lkm.boot.tables import find_pointers, find_runs
from lkm.errors import LkmError
from lkm.formats.image_kallsyms import ImageSymbol, find_symbols
from lkm.formats.kernel_image import KernelImage, KernelImageError

__all__ = ["initcalls_of_image", "initcalls_of_tables"]

_LEVELS = (
    Level.EARLY, Level.PURE, Level.CORE, Level.POSTCORE, Level.ARCH, Level.SUBSYS, Level.FS, Level.DEVICE,
    Level.LATE, Level.CONSOLE,
)  # fmt: skip
"""What begins at the start of the tables, and then at each pointer of `initcall_levels`."""

_LSM_INFO = 48
"""Bytes of the smallest `struct lsm_info` (5.10 to 6.12); 7.3 has 112, its `init` within these."""


def initcalls_of_image(image: KernelImage) -> list[Initcall]:
    """The initcalls of a kernel that need not run. LkmError where its symbols or its tables are not found."""
    symbols = find_symbols(image)
    calls = initcalls_of_symbols(BootSymbol(*symbol) for symbol in symbols)
    if not any(call.level is Level.EARLY for call in calls):
        return initcalls_of_tables(image, symbols)
    functions = _functions(symbols)
    shift = _shift(image, calls, _end_of_init_code(image, symbols)) if image.flat else 0
    return [_with_function(call, image, functions, shift) for call in calls]


def initcalls_of_tables(image: KernelImage, symbols: Sequence[ImageSymbol]) -> list[Initcall]:
    """The initcalls by the tables alone: for a kernel whose symbols are functions only."""
    functions = _functions(symbols)
    start = _end_of_init_code(image, symbols)
    for run in find_runs(image, functions, start & ~3):
        pointers = find_pointers(image, run.offset, len(run.functions), start & ~7)
        if pointers is None:
            continue
        calls = []
        for index, address in enumerate(run.functions):
            place = run.offset + 4 * index
            level = _LEVELS[sum(1 for begin in pointers.offsets if begin <= place)]
            entry = image.address(place)
            calls.append(Initcall(level, 0, functions[address], sync=None, address=address, entry=entry))
        return number(calls)
    raise LkmError(f"{image.name}: no table of initcalls was found in it")


def _end_of_init_code(image: KernelImage, symbols: Sequence[ImageSymbol]) -> int:
    """The offset where its data follows."""
    end = max((symbol.address for symbol in symbols if symbol.name == "_einittext"), default=0)
    offset = image.offset(end)
    if offset is None:
        raise LkmError(f"{image.name}: its symbols do not say where its init code ends")
    return offset


def _functions(symbols: Sequence[ImageSymbol]) -> dict[int, str]:
    """Names by address: the first of several, but not a prefixed copy (arm64's position-independent code)."""
    found: dict[int, str] = {}
    for symbol in symbols:
        if symbol.type in "tTwW" and not symbol.name.startswith("__pi_"):
            found.setdefault(symbol.address, symbol.name)
    return found


def _shift(image: KernelImage, calls: Sequence[Initcall], start: int) -> int:
    """What a flat image's pointers are above the addresses that count from its start; 0 if nothing tells."""
    places = [place for call in calls if call.level not in FIRST_OF_TABLE and (place := call.entry)]
    first = image.offset(min(places))
    if first is None:
        return 0
    pointers = find_pointers(image, first, (max(places) - min(places)) // 4 + 1, start & ~7)
    return pointers.shift if pointers else 0


def _with_function(call: Initcall, image: KernelImage, functions: Mapping[int, str], shift: int) -> Initcall:
    """`call` with the function that its entry leads to."""
    place = image.offset(call.entry or 0)
    if place is None or call.entry is None:
        return call
    if call.level not in {Level.EARLY_SECURITY, Level.SECURITY}:
        (distance,) = struct.unpack("<i", _entry(image, place, 4, call))
        return call._replace(address=call.entry + distance)
    for (word,) in struct.iter_unpack("<Q", _entry(image, place, _LSM_INFO, call)):
        name = functions.get(word - shift)
        if word and name:  # the first function of the structure is its init, in every release
            return call._replace(function=name, address=word - shift)
    return call


def _entry(image: KernelImage, place: int, size: int, call: Initcall) -> bytes:
    """What stands in the table for `call`."""
    entry = image.data[place : place + size]
    if len(entry) < size:
        raise KernelImageError(
            f"{image.name}: it ends within the initcall {call.function}", remedy="is the file truncated?"
        )
    return entry
