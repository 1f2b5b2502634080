# SPDX-License-Identifier: MIT
"""One section found with three reads, in all layouts; what is damaged is an error or passed over, as kmod does."""

from __future__ import annotations

import contextlib
import errno
import random
import struct

import pytest

from lkm.formats.elf import parse_elf
from lkm.formats.elf_sections import SectionError, find_section
from tests.builders import make_module
from tests.machine.modules import Layout, ModuleFile, make_module_file

LAYOUTS = [Layout(), Layout(64, ">", 21), Layout(32, "<", 3), Layout(32, ">", 20)]


class File:
    """Bytes that count how often they are read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.reads = data, 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        self.reads += 1
        return self.data[offset : offset + length]

    def find(self, name: bytes) -> bytes | None:
        place = find_section(self.read, len(self.data), name, "a.ko")
        return None if place is None else self.data[place[0] : sum(place)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout(layout: Layout) -> None:
    data = make_module_file(ModuleFile(modinfo=(b"license=GPL",), layout=layout, exports=(("a", 1),)))
    assert File(data).find(b".modinfo") == b"license=GPL\0"
    assert File(data).find(b".nothing") is None
    assert File(data).find(b".modinf") is None


def test_it_finds_what_the_thorough_reader_finds_with_few_reads() -> None:
    data = make_module("demo", versions={"a": 1}, exports={"b": 2})
    for section in parse_elf(data).sections:
        if section.name:
            file = File(data)
            assert file.find(section.name.encode()) == bytes(section.data)
            assert file.reads <= 3


def test_a_name_that_another_one_ends_in_is_not_taken_for_it() -> None:
    """ld shares tails: `.text` is then a part of `.init.text`."""
    extra = (("x.modinfo", b"wrong"), (".modinfo.x", b"wrong"))
    data = make_module_file(ModuleFile(modinfo=(b"a=b",), sections=extra))
    assert File(data).find(b".modinfo") == b"a=b\0"


def test_what_is_no_elf_file() -> None:
    for data in (b"", b"\x7fELF", b"#!/bin/sh\n" * 9, b"\x7fELF" + b"\0" * 12):
        with pytest.raises(SectionError) as caught:
            File(data).find(b".modinfo")
        assert caught.value.errno == errno.ENOEXEC
    with pytest.raises(SectionError) as caught:
        File(b"\x7fELF\x09\x01" + bytes(60)).find(b".modinfo")
    assert caught.value.errno == errno.EINVAL


def test_a_file_that_is_cut_off_says_so() -> None:
    data = make_module("demo")
    with pytest.raises(SectionError, match=r"section headers end at \d+, the file at \d+; is it cut off\?"):
        File(data[:-1]).find(b".modinfo")


def test_a_section_beyond_the_end_is_passed_over() -> None:
    data = bytearray(make_module("demo"))
    shoff = struct.unpack_from("<Q", data, 40)[0]
    number = next(s.number for s in parse_elf(bytes(data)).sections if s.name == ".modinfo")
    struct.pack_into("<Q", data, shoff + 64 * number + 32, 1 << 40)
    assert File(bytes(data)).find(b".modinfo") is None


def test_random_damage_is_an_error_or_an_answer() -> None:
    chance = random.Random(5)
    whole = make_module("demo")
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.choice([chance.randrange(64), chance.randrange(len(data))])
            data[at] = chance.randrange(256)
        with contextlib.suppress(SectionError):
            File(bytes(data)).find(b".modinfo")
