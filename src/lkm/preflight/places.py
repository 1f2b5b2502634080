# SPDX-License-Identifier: MIT
"""Where symbols come to lie, as far as that is known before the load: what relocations are judged by.

Addresses are signed numbers of 64 bits, so that those of the kernel are negative. Sources: simplify_symbols
(kernel/module.c, kernel/module/main.c), Documentation/arch/x86/x86_64/mm.rst, Documentation/arch/arm64/memory.rst
(5.10 to 7.3).
"""

from __future__ import annotations

from functools import cached_property
from typing import Optional

from lkm.formats.elf import SHF_ALLOC, SHN_ABS, SHN_UNDEF, STB_WEAK, Machine
from lkm.formats.raw_module import SYMBOL_SIZE, RawSymbol
from lkm.preflight.load import Load

__all__ = ["NEAR", "Places", "Span", "shifted"]

Span = tuple[int, int]
"""The least and the greatest that a number can be."""

NEAR = 1 << 24
"""Bytes: a symbol's offset in its section and what is added to it; x86's per-CPU variables up to 6.14 (from 0)."""

_MODULES: dict[int, Span] = {
    Machine.X86_64: ((-1 << 31) + NEAR, -NEAR),
    Machine.AARCH64: (-1 << 47, -1 << 36),
}
"""The kernel's image and its modules. x86_64: the last 2 GB, but for their first and last 16 MB. arm64: the lower
end of the kernel's half, which is at -2^47 or above, by the size of virtual addresses (52 bits count as 48)."""


def shifted(span: Optional[Span], by: int) -> Optional[Span]:
    """The span with a number added; None where that may be more than 64 bits hold."""
    if span is None or not -1 << 63 <= span[0] + by <= span[1] + by < 1 << 63:
        return None
    return span[0] + by, span[1] + by


class Places:
    """The symbols of a file that is looked at."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._image = load.image
        tables = load.image.symbol_tables
        self._table = tables[-1 if load.rules.early_checks else 0] if tables else 0
        self.per_cpu = load.image.find(".data..percpu")

    @cached_property
    def count(self) -> int:
        """How many symbols there are."""
        return self._image.sections[self._table].size // SYMBOL_SIZE

    @cached_property
    def wild(self) -> frozenset[int]:
        """Those that are not near the kernel's image, or may not be: absolute ones, weak ones that are missing."""
        count = self._image.header.shnum
        return frozenset(
            number for number, (_, info, _, shndx, value, _) in enumerate(self._image.symbol_rows(self._table))
            if not number or value >= NEAR or shndx >= count or (shndx == SHN_UNDEF and info >> 4 == STB_WEAK)
        )  # fmt: skip

    @property
    def modules(self) -> Span:
        """Where the kernel and its modules are."""
        return _MODULES[self._load.target.machine]

    def symbol(self, number: int) -> Optional[RawSymbol]:
        """The symbol of that number."""
        return self._image.symbol(self._table, number)

    def span(self, number: int) -> Optional[Span]:
        """What its value can be (st_value after simplify_symbols); None if nobody can know."""
        symbol = self.symbol(number)
        if symbol is None:
            return None
        if symbol.shndx == SHN_ABS or not number:
            value = symbol.value - (1 << 64) if symbol.value >> 63 else symbol.value
            return value, value
        if symbol.shndx == SHN_UNDEF:
            return self._imported(self._image.symbol_name(self._table, symbol))
        sections = self._image.sections
        if symbol.shndx >= len(sections) or symbol.value >= NEAR << 6:
            return None
        if symbol.shndx == self.per_cpu:
            return self._of_cpu()
        if not sections[symbol.shndx].flags & SHF_ALLOC:
            return None
        return shifted(self.modules, symbol.value) if symbol.value >= NEAR else self.modules

    def _imported(self, name: str) -> Optional[Span]:
        """Zero for one that nobody has, and is not missed: all others are found before."""
        exports = self._load.target.exports
        if exports is None:
            return None
        return (0, 0) if exports.find(name) is None else self._of_cpu()

    def _of_cpu(self) -> Span:
        """A variable that may be per CPU: on x86 they began at 0 up to 6.14, elsewhere they are like others."""
        low, high = self.modules
        from_zero = self._load.target.machine == Machine.X86_64 and not self._load.rules.per_cpu
        return (low, NEAR) if from_zero else (low, high)
