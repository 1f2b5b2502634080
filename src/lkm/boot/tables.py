# SPDX-License-Identifier: MIT
"""The tables of initcalls in a kernel's image, found without the names of their places.

An entry is 32 bits, the distance to the function from where it stands (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS:
x86_64 and arm64 since 4.19; include/linux/init.h). The tables are one run, early to late and then consoles
(INIT_DATA_SECTION, include/asm-generic/vmlinux.lds.h); `initcall_levels` (init/main.c) has nine pointers into
it: where the levels 0 to 7 begin, and the end.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple, Optional

from lkm.formats.arm64_image import ALIGNMENT
from lkm.formats.kernel_image import KernelImage

__all__ = ["POINTERS", "Run", "find_pointers", "find_runs"]

POINTERS = 9
"""Of `initcall_levels`."""

FEWEST = 64
"""Entries of a run; the smallest kernels have more initcalls."""


class Run(NamedTuple):
    """Entries that stand together: where in the image, and the address of each one's function."""

    offset: int
    functions: tuple[int, ...]


class Pointers(NamedTuple):
    """`initcall_levels`: where in the image each points to, and what to subtract from a pointer in the image
    to have an address as `KernelImage` counts them (0, but for a flat image)."""

    offsets: tuple[int, ...]
    shift: int


def find_runs(image: KernelImage, functions: Container[int], start: int) -> Iterator[Run]:
    """Each long row of entries from `start` (an offset) on that all lead to one of `functions`."""
    base = image.address(start)
    if base is None:
        return
    end = start + (len(image.data) - start) // 4 * 4
    current: list[int] = []
    for index, value in enumerate(memoryview(image.data)[start:end].cast("i")):
        address = base + 4 * index + value
        if value and address in functions:
            current.append(address)
        elif current:
            if len(current) >= FEWEST:
                yield Run(start + 4 * (index - len(current)), tuple(current))
            current = []


def find_pointers(image: KernelImage, first: int, count: int, start: int) -> Optional[Pointers]:
    """The nine pointers into the `count` entries at offset `first`, searched from the offset `start` on.

    They are compared within `ALIGNMENT`: a flat image does not say where it is linked to.
    """
    base = image.address(first)
    if base is None:
        return None
    low, size = base % ALIGNMENT, 4 * count
    end = start + (len(image.data) - start) // 8 * 8
    found: list[int] = []
    for word in memoryview(image.data)[start:end].cast("Q"):
        distance = (word - low) % ALIGNMENT
        if distance <= size and word >> 63 and not distance % 4:
            if found and distance < found[-1]:
                found = []
            found = [*found[1 - POINTERS :], distance]
            if len(found) == POINTERS and found[0] < found[-1]:
                return Pointers(tuple(first + each for each in found), word - found[-1] - base)
        elif found:
            found = []
    return None
