# SPDX-License-Identifier: MIT
"""Hostile files cost no more memory than ten times their size, and no time that grows faster than it.

Memory is what Python gives out at its peak (tracemalloc). Time is the process's own, which other processes do not
lengthen, with a bound that leaves room for tracing and a slow machine: what is bad takes minutes.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest

from lkm.formats.compression import CompressionError, decompress
from lkm.formats.elf import SHF_ALLOC, SHT_RELA, Machine
from lkm.formats.pkcs7 import parse_certificate, parse_certificates, signature_of, signer_of
from lkm.formats.raw_module import HEADER_SIZE, RawSection
from lkm.formats.signature import append_signature
from lkm.formats.signer import parse_signer
from lkm.formats.symvers import Symvers
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Request
from lkm.preflight.parameters import split_arguments
from tests.mutants.editor import Editor
from tests.unit.preflight.test_relocations import ARM_SECTIONS, arm64
from tests.unit.preflight.world import module, target

SIZE = 1 << 18
TIMES = 10
ALWAYS = 4 << 20
"""Bytes that the interpreter and what is imported take whatever the file is like."""
SECONDS = 20.0
RELEASES = ("5.10.0-1-amd64", "6.1.0-1-amd64", "6.12.1-amd64", "7.3.1-amd64")

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QIIq")


def measure(size: int, work: Callable[[], object]) -> None:
    """Run it, and hold both bounds."""
    tracemalloc.start()
    started = time.process_time()
    try:
        work()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < SECONDS
    assert peak <= TIMES * size + ALWAYS, f"{peak / size:.1f} times the file"


def _with(name: str, content: bytes, **fields: int) -> bytes:
    editor = Editor(module(imports=("printk",)))
    editor.set_content(name, content)
    if fields:
        editor.set_section(editor.index(name), **fields)
    return editor.result()


def _headers(row: RawSection, count: int = 0xFFF0) -> bytes:
    """A module with as many section headers as there can be, of which most are this one."""
    editor = Editor(module() + b"x" * SIZE)
    rows = editor.raw.sections
    editor.data += bytes(-len(editor.data) % 8)
    offset = len(editor.data)
    editor.data += b"".join(_SECTION.pack(*each) for each in rows) + _SECTION.pack(*row) * (count - len(rows))
    editor.set_header("shoff", offset)
    editor.set_header("shnum", count)
    return editor.result()


def _symbols(*, shndx: int, info: int = 0x10) -> bytes:
    """A symbol table of that size, each symbol with another name."""
    editor = Editor(module())
    count = SIZE // _SYMBOL.size
    link = editor.raw.sections[editor.table].link
    names = b"".join(b"x%07d\0" % number for number in range(count))
    table = bytes(24) + b"".join(_SYMBOL.pack(1 + 9 * n, info, 0, shndx, n, 0) for n in range(count))
    for section, content in ((link, b"\0" + names), (editor.table, table)):
        offset = len(editor.data)
        editor.data += content
        editor.set_section(section, offset=offset, size=len(content))
    return editor.result()


def _relocations(kind: int, machine: int = Machine.X86_64) -> bytes:
    """A table of relocations of that size, the last of which is bad."""
    from lkm.formats.elfwriter import NewRelocation, NewSection

    extra = [
        NewSection(
            ".text.more", bytes(SIZE), flags=SHF_ALLOC | 4, relocations=[NewRelocation(0, 1, "printk")]
        )
    ]
    extra += [NewSection(name, bytes(8), flags=SHF_ALLOC) for name in ARM_SECTIONS]
    editor = Editor(module(extra=tuple(extra), machine=machine))
    rows = editor.raw.sections
    number = next(
        i for i, r in enumerate(rows) if r.type == SHT_RELA and r.info == editor.index(".text.more")
    )
    entries = [_RELA.pack(4 * n, kind, 1, n) for n in range(SIZE // _RELA.size)]
    content = b"".join(entries) + _RELA.pack(0, 9999, 0, 0)
    offset = len(editor.data)
    editor.data += content
    editor.set_section(number, offset=offset, size=len(content))
    return editor.result()


EMPTY = RawSection(*[0] * 10)
FILES: dict[str, Callable[[], bytes]] = {
    "sections of 4 GB": lambda: _headers(EMPTY._replace(type=1, size=1 << 32)),
    "sections of the file": lambda: _headers(EMPTY._replace(type=1, flags=2, size=SIZE)),
    "long names": lambda: _headers(EMPTY._replace(type=1, name=1 << 12)),
    "symbol tables": lambda: _headers(EMPTY._replace(type=2, size=SIZE, link=1)),
    "tables of relocations": lambda: _headers(EMPTY._replace(type=4, size=SIZE, info=3)),
    "a count without headers": lambda: module()[:60] + b"\xff\xff" + module()[62:],
    "entries of modinfo": lambda: _with(".modinfo", b"a=b\0" * (SIZE // 4)),
    "namespaces": lambda: _with(".modinfo", b"import_ns=a\0" * (SIZE // 12)),
    "modinfo without NUL": lambda: _with(".modinfo", b"license=" + b"G" * SIZE),
    "CRCs": lambda: _with(
        "__versions", b"".join(struct.pack("<Q56s", n, b"%d" % n) for n in range(SIZE // 64))
    ),
    "missing symbols": lambda: _symbols(shndx=0),
    "common symbols": lambda: _symbols(shndx=0xFFF2),
    "symbols in no section": lambda: _symbols(shndx=0xF000),
    "weak symbols": lambda: _symbols(shndx=0, info=0x20),
    "relocations": lambda: _relocations(2),
    "addresses": lambda: _relocations(11),
    "a signature that is all of it": lambda: append_signature(
        module(), b"\x30\x84\x00\x10\x00\x00" + bytes(SIZE)
    ),
    "nothing": lambda: bytes(SIZE),
    "a header and nothing": lambda: module()[:HEADER_SIZE] + bytes(SIZE),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_module(kind: str) -> None:
    data = FILES[kind]()
    for release in RELEASES:
        measure(len(data), lambda release=release: check_module(data, target(release), Request("x=1")))  # type: ignore[misc]


@pytest.mark.parametrize("kind", [283, 280, 275])
def test_a_hostile_module_of_arm64(kind: int) -> None:
    data = _relocations(kind, Machine.AARCH64)
    measure(len(data), lambda: check_module(data, arm64()))


def _nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = b"\x30\x84" + len(inner).to_bytes(4, "big") + inner
    return inner


MESSAGES = {
    "zeros": bytes(SIZE),
    "an object identifier without end": b"\x30\x84\x00\x10\x00\x10\x06\x84\x00\x10\x00\x00" + b"\x81" * SIZE,
    "nested": _nested(2000, bytes(SIZE // 8)),
    "PEM without end": b"-----BEGIN CERTIFICATE-----\n" * (SIZE // 28),
    "a line": b"0x1\tname\tvmlinux\tEXPORT_SYMBOL\t" * (SIZE // 32),
    "lines": b"0x1\tn\tvmlinux\tEXPORT_SYMBOL\t\n" * (SIZE // 30),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_hostile_message_or_list(kind: str) -> None:
    data = MESSAGES[kind]
    signed = append_signature(b"", data)
    measure(len(data), lambda: signer_of(data))
    measure(len(data), lambda: signature_of(data))
    measure(len(data), lambda: parse_certificate(data))
    measure(len(data), lambda: parse_signer(lambda at, size: signed[at : at + size], len(signed)))
    measure(len(data), lambda: sum(1 for _ in Symvers(data)))

    def certificates() -> None:
        with pytest.raises(ValueError, match="certificate"):
            parse_certificates(data)

    measure(len(data), certificates)


def test_a_line_of_parameters() -> None:
    text = 'a=b "c d" ' * (SIZE // 100)
    measure(len(text), lambda: sum(1 for _ in split_arguments(text)))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, None], ids=["gzip", "xz", "zstd"])
def test_a_bomb_is_not_unpacked(pack: Callable[[bytes], bytes] | None) -> None:
    """A small file that unpacks to more than any module comes to is an error, and takes no more than the bound."""
    if pack is None:
        import zstandard

        pack = zstandard.compress
    packed = pack(bytes(65 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError, match=r"FILE: decompresses to more than 67108864 bytes"):
            decompress(packed, name="FILE")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
