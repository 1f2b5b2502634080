# SPDX-License-Identifier: MIT
"""Whatever an object is, it becomes a module or an error of lkm's: no traceback, no file beyond measure."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, parse_elf
from lkm.formats.elfwriter import NewSection, NewSymbol
from lkm.modpost.crcs import parse_symvers_comments
from lkm.modpost.kernel import Kernel
from lkm.modpost.run import Outcome, make_module
from tests.unit.modpost.test_make import CRCS, MARKS, old_exports
from tests.unit.modpost.world import make_kernel, make_object

SECONDS = 1.0
KERNELS = tuple(make_kernel(release) for release in ("5.10.1", "6.1.1", "6.12.1", "7.3.1"))
OLD_SECTIONS, OLD_SYMBOLS = old_exports()
TABLE = NewSection(".rodata", b"demo".ljust(64, b"\0"), flags=SHF_ALLOC)
OBJECTS = (
    make_object(marks=MARKS, weak=("nobody",), imports=("_printk", "other_add", "kernel_gpl")),
    make_object(extra=OLD_SECTIONS, symbols=OLD_SYMBOLS),
    make_object(extra=[TABLE], symbols=[NewSymbol("__mod_usb__t_device_table", ".rodata", 0, 64, type=1)]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An object with some numbers replaced, most of them in its tables, perhaps cut off."""
    data = bytearray(draw(st.sampled_from(OBJECTS)))
    headers = int.from_bytes(data[40:48], "little")
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.sampled_from([0, headers]))
        at = draw(st.integers(start, len(data) - 8))
        size = draw(st.sampled_from([1, 2, 4, 8]))
        data[at : at + size] = draw(
            st.one_of(st.binary(min_size=size, max_size=size), st.just(b"\xff" * size), st.just(bytes(size)))
        )
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@settings(max_examples=400)
@given(damaged(), st.sampled_from(KERNELS))
def test_a_damaged_object_is_answered(data: bytes, kernel: Kernel) -> None:
    started = time.monotonic()
    outcome = answer(data, kernel)
    assert time.monotonic() - started < SECONDS
    if isinstance(outcome, str):
        assert outcome
    elif outcome.image:
        assert len(outcome.image) < (1 << 23) + 10 * len(data)
        parse_elf(outcome.image)
    else:
        assert any(problem.fatal for problem in outcome.problems)


def answer(data: bytes, kernel: Kernel) -> Outcome | str:
    """The outcome, or the message of the error; anything but an LkmError is a traceback."""
    try:
        return make_module(data, kernel, name="demo", where="demo.o", crcs=CRCS)
    except LkmError as error:
        return error.message


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    parse_symvers_comments(b"\n#SYMVER " + data)
    assert isinstance(answer(b"\x7fELF\x02\x01\x01" + data, KERNELS[0]), str)
