# SPDX-License-Identifier: MIT
"""Whatever the bytes are, the checks answer: no exception, no time without end, on every kernel's rules."""

from __future__ import annotations

import struct
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from lkm.formats.elf import SHF_ALLOC
from lkm.formats.elfwriter import NewSection, NewSymbol
from lkm.formats.image_exports import ExportTable, parse_export_tables
from lkm.formats.pkcs7 import parse_certificate, signature_of, signer_of
from lkm.formats.raw_module import RawModule
from lkm.formats.signature import append_signature
from lkm.formats.symvers import Symvers
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Request
from lkm.preflight.parameters import read_parameters, split_arguments
from tests.mutants.editor import SECTION_FIELDS, Editor
from tests.unit.preflight.world import module, target

RELEASES = ("5.10.0-1-amd64", "6.1.0-1-amd64", "6.12.1-amd64", "7.3.1-amd64")
SECONDS = 1.0

MODULE = module(
    imports=("printk", "gpl_function", "spaced"),
    extra=(
        NewSection("__ksymtab", bytes(24), flags=SHF_ALLOC),
        NewSection("__param", bytes(80), flags=SHF_ALLOC),
        NewSection(".BTF", b"\x9f\xeb\x01\0\x18\0\0\0" + bytes(16)),
    ),
    symbols=(NewSymbol("__ksymtab_mine", "__ksymtab"),),
)
SIGNED = append_signature(MODULE, bytes.fromhex("300b06092a864886f70d010702") + bytes(40))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A module with some numbers replaced, perhaps cut off: most of what is wrong lies in its tables."""
    data = bytearray(draw(st.sampled_from([MODULE, SIGNED])))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 8))
        data[at : at + 8] = draw(
            st.one_of(st.binary(min_size=8, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8)))
        )
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@settings(max_examples=400)
@given(damaged(), st.sampled_from(RELEASES))
def test_a_damaged_module_is_answered(data: bytes, release: str) -> None:
    started = time.monotonic()
    prediction = check_module(data, target(release), Request("numdummies=1 x"))
    assert time.monotonic() - started < SECONDS
    assert prediction.loads in (True, False, None)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A module whose header, sections or symbols have other numbers: small ones, extreme ones, those of others."""
    editor = Editor(MODULE)
    for _ in range(draw(st.integers(1, 5))):
        value = draw(
            st.one_of(st.integers(0, 40), st.sampled_from([0xFFFF, 0xFFFFFFFF, 1 << 33, (1 << 64) - 1]))
        )
        what = draw(st.sampled_from(["section", "symbol", "header"]))
        if what == "section" and editor.sound():
            field = draw(st.sampled_from(SECTION_FIELDS))
            limit = (1 << 32) - 1 if field in ("name", "type", "link", "info") else (1 << 64) - 1
            editor.set_section(
                draw(st.integers(1, editor.raw.header.shnum - 1)), **{field: min(value, limit)}
            )
        elif what == "symbol" and editor.raw.symbol_tables and editor.symbols():
            field = draw(st.sampled_from(["name", "shndx", "value"]))
            number = draw(st.integers(0, len(editor.symbols()) - 1))
            editor.set_symbol(number, **{field: min(value, 0xFFFF)})
        elif what == "header" and draw(st.integers(0, 3)) == 0:
            editor.set_header(draw(st.sampled_from(["shnum", "shstrndx"])), min(value, 0xFFFF))
    return editor.result()


@settings(max_examples=600)
@given(bent(), st.sampled_from(RELEASES))
def test_a_bent_module_is_answered(data: bytes, release: str) -> None:
    prediction = check_module(data, target(release), Request("x=1"))
    assert prediction.loads in (True, False, None)


def test_many_sections_with_the_same_long_name_cost_no_more_than_a_second() -> None:
    """65,535 headers, each with a name as long as the file, each a table of relocations."""
    editor = Editor(MODULE)
    rows = editor.raw.sections
    editor.data += b"x" * (1 << 20)
    offset = len(editor.data)
    count = 0xFFFF
    table = bytearray()
    for row in rows:
        table += struct.pack("<IIQQQQIIQQ", *row)
    bad = rows[-1]._replace(name=0, type=4, offset=0, size=len(editor.data), info=3)
    table += struct.pack("<IIQQQQIIQQ", *bad) * (count - len(rows))
    editor.data += table
    editor.set_header("shoff", offset)
    editor.set_header("shnum", count)
    started = time.process_time()
    check_module(editor.result(), target())
    assert time.process_time() - started < 2 * SECONDS


@settings(max_examples=200)
@given(st.binary(max_size=2048), st.sampled_from(RELEASES))
def test_junk_is_answered(data: bytes, release: str) -> None:
    assert check_module(data, target(release)).errno is not None
    assert check_module(b"\x7fELF\x02\x01\x01" + data, target(release)).errno is not None


@given(st.binary(max_size=512))
def test_raw_modules_and_messages(data: bytes) -> None:
    image = RawModule(data)
    assert len(image.names) == len(image.sections)
    read_parameters(image)
    signer_of(data)
    signature_of(data)
    parse_certificate(data)
    list(Symvers(data))


@given(st.binary(max_size=256), st.binary(max_size=64), st.binary(max_size=64))
def test_tables_of_exports(symbols: bytes, crcs: bytes, flags: bytes) -> None:
    memory = bytes(range(256)) * 4
    found = parse_export_tables(
        [ExportTable(0, symbols, crcs, flags)], lambda at, size: memory[max(at, 0) : max(at, 0) + size]
    )
    assert len(found) == len(symbols) // 12


@given(st.text(alphabet='ab= "-\t\n,', max_size=40))
def test_argument_lines(text: str) -> None:
    for name, value in split_arguments(text):
        assert name or value is not None or '"' in text
