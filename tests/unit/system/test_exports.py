# SPDX-License-Identifier: MIT
"""Variables by the kernel's table of exports, and per-CPU offsets on kernels that hide them."""

from __future__ import annotations

import struct

import pytest

from lkm.system.exports import exported, symbol_or_export
from lkm.system.kcore import KcoreError
from lkm.system.per_cpu import per_cpu_offsets
from tests.unit.system.kernel import FakeKernel

IMAGE = 0xFFFF_FFFF_8100_0000
ENTRIES, NAMES, END = IMAGE + 0x100, IMAGE + 0x800, IMAGE + 0x1000


def image(exports: dict[str, int]) -> FakeKernel:
    """An image with a table of these names, behind it the names; a name is also where no entry leads to."""
    kernel = FakeKernel(None)
    kernel.place(IMAGE, END - IMAGE)
    kernel.symbols = {"_etext": IMAGE, "_sinittext": END}
    text, table = b"\0nr_cpu_ids_of\0", b""
    for index, (name, address) in enumerate(exports.items()):
        at, entry = NAMES + len(text), ENTRIES + 12 * index
        table += struct.pack("<iii", address - entry, at - entry - 4, 0)
        text += name.encode() + b"\0"
    kernel.put(NAMES, text)
    kernel.put(ENTRIES, table)
    kernel.put(IMAGE + 0x40, b"\0nr_cpu_ids\0")  # BTF has the names too
    return kernel


def test_an_export_is_found_by_its_name() -> None:
    memory = image({"jiffies": END + 0x10, "nr_cpu_ids": END + 0x20}).memory()
    assert exported(memory, "nr_cpu_ids") == END + 0x20
    assert exported(memory, "jiffies") == END + 0x10
    assert exported(memory, "nr_cpu_ids_of") == 0
    assert exported(memory, "absent") == 0


def test_a_symbol_comes_first_and_what_neither_has_is_an_error() -> None:
    kernel = image({"jiffies": END + 0x10})
    kernel.symbols["jiffies"] = END + 0x80
    assert symbol_or_export(kernel.memory(), "jiffies") == END + 0x80
    with pytest.raises(KcoreError, match="absent is not in /proc/kallsyms"):
        symbol_or_export(kernel.memory(), "absent")


@pytest.mark.parametrize("counted", [True, False], ids=["nr_cpu_ids", "a constant number"])
def test_offsets_of_each_cpu_where_symbols_are_hidden(counted: bool) -> None:
    offsets, count, mask = END + 0x100, END + 0x200, END + 0x210
    exports = {"__per_cpu_offset": offsets, "__cpu_possible_mask": mask}
    kernel = image({**exports, "nr_cpu_ids": count} if counted else exports)
    kernel.place(END, 0x400)
    kernel.put(offsets, struct.pack("<4Q", 0x1000, 0x2000, 0x3000, 0x4000))
    kernel.put(count, 3)
    kernel.put(mask, 0b111)
    assert per_cpu_offsets(kernel.memory()) == (0x1000, 0x2000, 0x3000)
