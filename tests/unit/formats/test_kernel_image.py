# SPDX-License-Identifier: MIT
"""A kernel is unpacked from whatever it lies in /boot as; what is truncated or foreign is an error of one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
from collections.abc import Callable

import pytest
import zstandard

from lkm.errors import ParseError
from lkm.formats import lz4
from lkm.formats.arm64_image import relocate
from lkm.formats.kernel_image import KernelImageError, parse_kernel_image
from tests.kernel_images import BASE, make_arm64, make_bzimage, make_elf, make_relocations

CONTENT = bytes(range(256)) * 300
SIZE = struct.pack("<I", 0x2000)


def lz4_of(data: bytes) -> bytes:
    """A legacy frame with literals alone, in one block."""
    more = len(data) - 15
    block = b"\xf0" + b"\xff" * (more // 255) + bytes([more % 255]) + data
    return lz4.MAGIC + struct.pack("<I", len(block)) + block


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32) + SIZE,
    "zstd": lambda data: zstandard.compress(data) + SIZE,
    "lz4": lambda data: lz4_of(data) + SIZE,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + SIZE,
    "bzip2": lambda data: bz2.compress(data) + SIZE,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bzimage_of_each_packer(packer: str) -> None:
    image = parse_kernel_image(make_bzimage(PACKERS[packer](make_elf(CONTENT))))
    assert (image.kind, image.machine, image.flat) == ("bzImage", 62, False)
    offset = image.offset(BASE + 5)
    assert offset is not None
    assert image.data[offset] == 5
    assert image.address(offset) == BASE + 5
    assert image.offset(BASE + len(CONTENT)) is None
    assert image.address(0) is None


def test_an_elf_file_itself() -> None:
    assert parse_kernel_image(make_elf(CONTENT)).kind == "vmlinux"


@pytest.mark.parametrize("packer", [None, "gzip", "xz", "zstd"])
def test_an_arm64_image_plain_and_packed(packer: str | None) -> None:
    plain = make_arm64(CONTENT)
    image = parse_kernel_image(PACKERS[packer](plain).removesuffix(SIZE) if packer else plain)
    assert (image.machine, image.flat, image.data) == (183, True, plain)
    assert image.offset(100) == image.address(100) == 100


def test_an_efi_zboot() -> None:
    packed = gzip.compress(make_arm64(CONTENT))
    header = b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(8) + b"gzip"
    image = parse_kernel_image(header.ljust(64, b"\0") + packed + b"after it")
    assert (image.kind, image.data) == ("EFI zboot", make_arm64(CONTENT))


def test_an_image_that_is_relocated_has_its_pointers_and_its_address() -> None:
    base = 0xFFFF800008000000
    plain = make_arm64(CONTENT + make_relocations([(0x100, 0x4567)], base=base))
    image = parse_kernel_image(plain)
    assert not image.flat
    assert image.offset(base + 0x100) == 0x100
    assert struct.unpack_from("<Q", image.data, 0x100) == (base + 0x4567,)


def test_relocations_beyond_the_image_are_none() -> None:
    assert relocate(make_arm64(CONTENT) + make_relocations([(1 << 20, 0)], base=0xFFFF800008000000)) is None
    assert relocate(make_arm64(CONTENT)) is None


WRONG = {
    "": "begins with nothing",
    "text": "no kernel image",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_kernel(text: str) -> None:
    with pytest.raises(KernelImageError, match=WRONG[text]):
        parse_kernel_image(text.encode(), name="FILE")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (make_bzimage(b"\x89LZO" + bytes(20)), "LZO"),
        (make_bzimage(b"??????" + bytes(20)), "unknown kind: 3f 3f"),
        (make_bzimage(gzip.compress(CONTENT)), "ELF"),
        (make_bzimage(gzip.compress(make_elf(CONTENT)), version=0x207), "protocol 0x207"),
        (make_bzimage(gzip.compress(make_elf(CONTENT)))[:-9], "expected"),
        (make_bzimage(lzma.compress(b"1", lzma.FORMAT_ALONE)[:13] + b"\xff" * 30), "lzma"),
        (gzip.compress(b"something else" * 9), "no arm64 Image"),
        (make_elf(CONTENT)[:40], "expected 58 bytes"),
    ],
)
def test_what_is_damaged(data: bytes, says: str) -> None:
    with pytest.raises(ParseError, match=says):
        parse_kernel_image(data, name="FILE")


def unpack(data: bytes) -> bytes:
    return b"".join(lz4.decompress_chunks(data, ValueError))


def lz4_block(block: bytes) -> bytes:
    return lz4.MAGIC + struct.pack("<I", len(block)) + block


def test_lz4_repeats_what_it_has_made() -> None:
    assert unpack(lz4_block(b"\x35abc\x03\x00" + b"\x10z")) == b"abc" + b"abcabcabc" + b"z"
    assert unpack(lz4_block(b"\x41abcd\x02\x00" + b"\x10z")) == b"abcd" + b"cdcdc" + b"z"
    long = b"\x1fx\x01\x00" + b"\xff\x05" + b"\x10z"
    assert unpack(lz4_block(long)) == b"x" * (1 + 19 + 255 + 5) + b"z"


def test_lz4_blocks_and_frames_after_one_another() -> None:
    assert unpack(lz4_block(b"\x20ab") + lz4_block(b"\x10c")) == b"abc"
    assert unpack(b"") == b""


@pytest.mark.parametrize(
    "data",
    [
        lz4_block(b"\x20ab")[:-1],
        lz4_block(b"\x30ab"),
        lz4_block(b"\x11a\x02\x00\x10z"),
        lz4_block(b"\x11a\x00\x00\x10z"),
        lz4_block(b"\x11a\x01"),
        lz4_block(b"\x1fa\x01\x00" + b"\xff" * 33000 + b"\x00"),
    ],
)
def test_lz4_that_is_corrupt(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends early|refers"):
        unpack(data)


@pytest.mark.parametrize("packer", ["lzma", "bzip2"])
def test_a_payload_that_is_cut_off(packer: str) -> None:
    packed = PACKERS[packer](make_elf(CONTENT)).removesuffix(SIZE)
    with pytest.raises(KernelImageError, match=f"{packer} stream: "):
        parse_kernel_image(make_bzimage(packed[:-20] + SIZE), name="FILE")


@pytest.mark.parametrize(("packer", "module"), [("lzma", "lzma"), ("bzip2", "bz2")])
def test_a_python_without_the_unpacker(packer: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_bzimage(PACKERS[packer](make_elf(CONTENT)))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(KernelImageError, match=f"{packer} stream: import of {module} halted"):
        parse_kernel_image(data, name="FILE")


def test_an_lzma_stream_that_wants_too_much_memory() -> None:
    packed = bytearray(lzma.compress(make_elf(CONTENT), lzma.FORMAT_ALONE))
    packed[1:5] = struct.pack("<I", 3 << 29)
    with pytest.raises(KernelImageError, match="lzma stream: Memory usage limit"):
        parse_kernel_image(make_bzimage(bytes(packed) + SIZE), name="FILE")
