# SPDX-License-Identifier: MIT
"""Corrupt input: the answer is a value, or a `ParseError` of one line with the file's name."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from functools import partial

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm.errors import ParseError
from lkm.formats.btf import Btf
from lkm.formats.compression import decompress
from lkm.formats.elf import parse_elf
from lkm.formats.kallsyms import Kallsyms
from lkm.formats.kmsg import parse_kmsg_record
from lkm.formats.module import parse_module
from lkm.formats.notes import parse_notes
from lkm.formats.procmodules import parse_proc_modules
from lkm.formats.stack import parse_stack
from tests.builders import make_elf, make_module, make_signature
from tests.unit.formats.test_btf import small_kernel

MODULE = make_module(exports={"a": 1}, gpl_exports={"b": 2}, versions={"c": 3}) + make_signature()
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)


def bent(data: bytes) -> st.SearchStrategy[bytes]:
    """The file with a few numbers overwritten, mostly by extreme ones, and perhaps cut off."""
    change = st.tuples(
        st.integers(0, len(data) - 1),
        st.sampled_from([1, 2, 4, 8]),
        st.one_of(st.sampled_from(NUMBERS), st.integers(0, 255)),
    )

    def apply(changes: list[tuple[int, int, int]], end: int) -> bytes:
        made = bytearray(data)
        for at, size, value in changes:
            part = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            made[at : at + size] = part[: len(made) - at]
        return bytes(made[:end])

    return st.builds(
        apply,
        st.lists(change, min_size=1, max_size=4),
        st.one_of(st.just(len(data)), st.integers(0, len(data))),
    )


def error_of(read: Callable[[], object]) -> str:
    """What it says when it refuses; empty when it reads."""
    try:
        read()
    except ParseError as error:
        return str(error)
    return ""


def check(read: Callable[[], object]) -> bool:
    """Whether it reads; if not, in one line that names the file."""
    error = error_of(read)
    assert "\n" not in error
    assert not error or "victim" in error
    return not error


@settings(max_examples=400)
@given(bent(MODULE))
def test_module(data: bytes) -> None:
    check(lambda: parse_module(data, name="victim.ko"))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["little", "big"])
def test_elf(bits: int, order: str) -> None:
    def read(data: bytes) -> None:
        elf = parse_elf(data, name="victim")
        for section in elf.sections:
            elf.relocations(section)

    @settings(max_examples=150)
    @given(bent(make_elf(bits, order, extended=True)))
    def run(data: bytes) -> None:
        check(lambda: read(data))

    run()


@settings(max_examples=400)
@given(bent(small_kernel()))
def test_btf(data: bytes) -> None:
    if not check(lambda: Btf(data, name="victim")):
        return
    btf = Btf(data, name="victim")
    for path in ("state", "name", "mkobj.kobj", "right", "refcnt.counter", "names", "nope"):
        check(partial(btf.member_size, "module", path))
    for name in ("module_state", "wide"):
        check(partial(btf.enum, name))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress])
def test_compressed(pack: Callable[[bytes], bytes]) -> None:
    @settings(max_examples=100)
    @given(bent(pack(MODULE)))
    def run(data: bytes) -> None:
        check(lambda: decompress(data, name="victim", limit=1 << 20))

    run()


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    error_of(lambda: parse_kmsg_record(data))
    error_of(lambda: parse_notes(data))
    symbols = Kallsyms(data)
    symbols.address("a")
    symbols.nearest(1 << 63)
    symbols.module_symbols("a")


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    error_of(lambda: parse_proc_modules(text))
    error_of(lambda: parse_stack(text))
