# SPDX-License-Identifier: MIT
"""The symbols that a kernel image carries for /proc/kallsyms, found without any symbol.

Source: scripts/kallsyms.c (`write_src`) and kernel/kallsyms.c (`kallsyms_expand_symbol`, `kallsyms_sym_address`).

    names        each symbol: a length (one byte; since 6.1 two, 7 bits each, where it is 128 or more), then
                 that many token numbers; the first character is the type
    markers      where every 256th name begins, 32 bits each
    token_table  256 strings; that of a character which symbols use is the character itself
    token_index  where each begins, 16 bits each

Around them, tables are aligned to 8 bytes, since 7.x to 4:

    up to 6.1, 6.2 and 6.3     offsets, relative_base, num_syms, names, markers, [seqs_of_names,] tokens
    since 6.4                  num_syms, names, markers, tokens, offsets, relative_base, seqs_of_names
    7.x                        num_syms, names, markers, tokens, offsets, seqs_of_names

(seqs_of_names, three bytes a symbol, is of 6.2 and in 6.1-stable.) An offset is 32 bits: from relative_base;
with CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86 up to 6.14) a negative one -1 - offset from the base, and a
positive one an address by itself; in 7.x from the place where it stands. Which it is, is told by the data.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.errors import ParseError
from lkm.formats.arm64_image import ALIGNMENT
from lkm.formats.kernel_image import KernelImage

__all__ = ["ImageSymbol", "ImageSymbolsError", "find_symbols"]

TOKENS = 256
GROUP = 256
"""Names from one marker to the next."""
DIGITS = b"".join(b"%c\0" % digit for digit in b"0123456789")
LONGEST_TOKEN = 512
MARKER_STEPS = range(2 * GROUP, 600 * GROUP)
"""Bytes from one marker to the next: names of 1 to 599 bytes."""
REACH = 1 << 24
"""Bytes before the tokens in which the markers are."""
PADDING = 16
TABLES = 4
"""Places that may be the token table and have no names before them, each of which costs a look at `REACH` bytes."""
TRIES = 16
"""Rows of numbers that may be markers and have no names before them: a few in a real kernel."""


class ImageSymbolsError(ParseError):
    """The kernel image has no kallsyms tables that can be read."""


class ImageSymbol(NamedTuple):
    """One symbol: its address as `KernelImage` counts them, its type as nm has it, its name."""

    address: int
    type: str
    name: str


class _Tokens(NamedTuple):
    table: int
    end: int
    strings: tuple[bytes, ...]


class _Names(NamedTuple):
    start: int
    """Of num_syms."""
    names: int
    number: int
    """How many there are."""


def find_symbols(image: KernelImage) -> list[ImageSymbol]:
    """All symbols, in the order of their addresses. Raises `ImageSymbolsError`."""
    for tokens in itertools.islice(_find_tokens(image.data), TABLES):
        names = _find_names(image.data, tokens.table)
        if names:
            texts = _expand(image.data, names, tokens.strings)
            return [
                ImageSymbol(address, text[:1], text[1:])
                for address, text in zip(_addresses(image, names, tokens), texts)
            ]
    raise ImageSymbolsError(
        f"{image.name}: no kallsyms tables in it", remedy="the kernel needs CONFIG_KALLSYMS"
    )


def _find_tokens(data: bytes) -> Iterator[_Tokens]:
    """Every place that is a token table with its index behind it: found by the digits, which stand together."""
    at = data.find(DIGITS)
    while at >= 0:
        start = _walk_back(data, at, ord("0"))
        if start is not None:
            found = _tokens(data, start)
            if found:
                yield found
        at = data.find(DIGITS, at + 1)


def _walk_back(data: bytes, at: int, count: int) -> Optional[int]:
    """Where the string `count` strings before the one at `at` begins."""
    for _ in range(count):
        at = data.rfind(b"\0", max(0, at - 1 - LONGEST_TOKEN), at - 1) + 1
        if not at:
            return None
    return at


def _tokens(data: bytes, start: int) -> Optional[_Tokens]:
    at, places, strings = start, [], []
    for _ in range(TOKENS):
        end = data.find(b"\0", at, at + LONGEST_TOKEN)
        if end < 0:
            return None
        places.append(at - start)
        strings.append(data[at:end])
        at = end + 1
    if places[-1] >= 1 << 16:
        return None
    index = data.find(struct.pack(f"<{TOKENS}H", *places), at, at + PADDING + 2 * TOKENS)
    return _Tokens(start, index + 2 * TOKENS, tuple(strings)) if index >= 0 else None


def _find_names(data: bytes, tokens: int) -> Optional[_Names]:
    """The names before the token table. Markers show themselves: 0, and then steady small steps."""
    end = tokens & ~3
    start = max(0, end - REACH) & ~3
    words = memoryview(data)[start:end].cast("I")
    tries = TRIES
    for first in range(len(words) - 2, -1, -1):
        if words[first] == 0 and words[first + 1] in MARKER_STEPS:
            last = first + 1
            while last + 1 < len(words) and words[last + 1] - words[last] in MARKER_STEPS:
                last += 1
            found = _names_before(data, start + 4 * first, words[first : last + 1].tolist())
            tries -= 1
            if found or not tries:
                return found
    return None


def _names_before(data: bytes, place: int, markers: list[int]) -> Optional[_Names]:
    """The names whose `markers` are at `place`: where the first groups have the length that markers say."""
    newest = place - markers[-1] - 2
    for at in range(newest & ~3, max(4, newest - MARKER_STEPS.stop), -4):
        if _skip(data, at, GROUP) != at + markers[1]:
            continue
        for start in (at - 4, at - 8):
            (count,) = struct.unpack_from("<I", data, start)
            if (count + GROUP - 1) // GROUP == len(markers) and 0 <= place - _skip(data, at, count) < 8:
                return _Names(start, at, count)
    return None


def _skip(data: bytes, at: int, count: int) -> int:
    """Where the names end that begin at `at`; -1 where a length is 0, or the image ends."""
    try:
        for _ in range(count):
            length = data[at]
            at += 1
            if length & 0x80:
                length = length & 0x7F | data[at] << 7
                at += 1
            if not length:
                return -1
            at += length
    except IndexError:
        return -1
    return at


def _expand(data: bytes, names: _Names, tokens: tuple[bytes, ...]) -> list[str]:
    at, texts, token = names.names, [], tokens.__getitem__
    for _ in range(names.number):
        length = data[at]
        at += 1
        if length & 0x80:
            length = length & 0x7F | data[at] << 7
            at += 1
        texts.append(b"".join(map(token, data[at : at + length])).decode("utf-8", "backslashreplace"))
        at += length
    return texts


def _addresses(image: KernelImage, names: _Names, tokens: _Tokens) -> list[int]:
    """The address of each symbol, by the first layout in which they ascend, and the image holds the middle one.

    They are sorted; what is beyond the image is its zeroed data, and before it x86's per-CPU variables.
    """
    size = 4 * names.number
    padded = (size + 7) & ~7
    after = (tokens.end + 7) & ~7
    tries = (
        _from_base(image, names.start - 8 - padded, names.start - 8, names.number),
        _from_base(image, after, after + padded, names.number),
        _from_place(image, tokens.end, names.number),
    )
    for addresses in tries:
        held = addresses and image.offset(addresses[len(addresses) // 2]) is not None
        if held and addresses == sorted(addresses):
            return addresses
    raise ImageSymbolsError(f"{image.name}: its kallsyms tables have a layout that is not known")


def _from_base(image: KernelImage, offsets: int, base: int, count: int) -> list[int]:
    """Offsets from relative_base, with x86's per-CPU variables among them or not."""
    if offsets < 0 or base + 8 > len(image.data):
        return []
    (start,) = struct.unpack_from("<Q", image.data, base)
    if image.flat:
        start %= ALIGNMENT  # the lowest symbol need not be the image's start
    elif image.offset(start) is None:
        return []
    signed = struct.unpack_from(f"<{count}i", image.data, offsets)
    if not image.flat and min(signed) < 0:
        return [start - 1 - each if each < 0 else each for each in signed]
    return [start + (each & 0xFFFFFFFF) for each in signed]


def _from_place(image: KernelImage, offsets: int, count: int) -> list[int]:
    start = image.address(offsets)
    if start is None or offsets + 4 * count > len(image.data):
        return []
    signed = struct.unpack_from(f"<{count}i", image.data, offsets)
    return [start + 4 * number + each for number, each in enumerate(signed)]
