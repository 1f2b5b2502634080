# SPDX-License-Identifier: MIT
"""Files are decompressed by their magic; a truncated, corrupt or exploding one is an error of one line."""

from __future__ import annotations

import gzip
import lzma
import sys
from collections.abc import Callable, Iterator

import pytest
import zstandard

from lkm.formats import zstd
from lkm.formats.compression import Compression, CompressionError, Decompressor, compression_of, decompress

PLAIN = bytes(range(256)) * 3000 + bytes(5000)


def xz_as_the_kernel_does(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32)


CODECS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress,
    Compression.XZ: xz_as_the_kernel_does,
    Compression.ZSTD: zstandard.compress,
}
EACH = pytest.mark.parametrize("kind", CODECS)


@EACH
def test_round_trip(kind: Compression) -> None:
    packed = CODECS[kind](PLAIN)
    assert compression_of(packed) is kind
    assert decompress(packed) == PLAIN
    assert decompress(memoryview(packed)) == PLAIN


def test_what_is_not_compressed_stays() -> None:
    assert compression_of(b"\x7fELF") is Compression.NONE
    assert decompress(b"\x7fELF") == b"\x7fELF"
    assert decompress(b"") == b""


@EACH
def test_streams_and_padding_after_one_another(kind: Compression) -> None:
    pack = CODECS[kind]
    assert decompress(pack(b"one") + pack(b"two") + bytes(8)) == b"onetwo"


@EACH
def test_something_else_after_the_stream(kind: Compression) -> None:
    with pytest.raises(CompressionError, match="5 bytes after the"):
        decompress(CODECS[kind](PLAIN) + b"extra")


@EACH
@pytest.mark.parametrize("cut", [1, 4, 9])
def test_truncated(kind: Compression, cut: int) -> None:
    with pytest.raises(CompressionError) as caught:
        decompress(CODECS[kind](PLAIN)[:-cut], name="x.ko")
    assert "x.ko: " in str(caught.value)
    assert "ends early; is the file truncated?" in str(caught.value)


@EACH
def test_corrupt(kind: Compression) -> None:
    packed = bytearray(CODECS[kind](PLAIN))
    packed[8:40] = b"\xff" * 32
    with pytest.raises(CompressionError, match=r"x\.ko: corrupt ") as caught:
        decompress(bytes(packed), name="x.ko")
    assert "\n" not in str(caught.value)


@EACH
def test_bomb_is_an_error(kind: Compression) -> None:
    packed = CODECS[kind](bytes(50_000_000))
    assert len(packed) < 100_000
    with pytest.raises(CompressionError, match="decompresses to more than 1000000 bytes"):
        decompress(packed, limit=1_000_000)


@EACH
def test_exactly_the_limit_is_none(kind: Compression) -> None:
    assert len(decompress(CODECS[kind](PLAIN), limit=len(PLAIN))) == len(PLAIN)


BackEnd = Callable[[bytes, str], Iterator[bytes]]
HERE = zstd.BACK_ENDS[0 if sys.version_info >= (3, 14) else 1 :]
"""The first one came with Python 3.14; the tests need the others on every host."""


@pytest.mark.parametrize("load", HERE, ids=lambda load: load.__name__)
def test_every_zstd_gives_the_same(load: Callable[[], BackEnd]) -> None:
    run = load()
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)
    zeros = zstandard.compress(bytes(300_000))
    assert b"".join(run(frame + zeros + bytes(9), "x")) == PLAIN + bytes(300_000)
    with pytest.raises(CompressionError, match="ends early"):
        list(run(frame[:-1], "x"))
    with pytest.raises(CompressionError, match="corrupt zstd stream"):
        list(run(frame[:-1] + b"\0", "x"))
    with pytest.raises(CompressionError, match="3 bytes after"):
        list(run(frame + b"end", "x"))


def test_the_first_zstd_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> BackEnd:
        raise OSError

    def first() -> BackEnd:
        return lambda _data, _name: iter([b"first"])

    monkeypatch.setattr(zstd, "BACK_ENDS", (missing, first, *zstd.BACK_ENDS))
    assert decompress(zstandard.compress(PLAIN)) == b"first"


def test_no_zstd_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> BackEnd:
        raise ImportError

    monkeypatch.setattr(zstd, "BACK_ENDS", (missing,))
    with pytest.raises(CompressionError, match=r"x\.ko: zstd needs .*; install libzstd1"):
        decompress(zstandard.compress(PLAIN), name="x.ko")


@EACH
@pytest.mark.parametrize("back_end", range(len(zstd.WHOLE_BACK_ENDS)))
def test_a_decompressor_for_many_files_says_the_same(
    kind: Compression, back_end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zstd, "WHOLE_BACK_ENDS", zstd.WHOLE_BACK_ENDS[back_end:])
    packed, other = CODECS[kind](PLAIN), CODECS[kind](b"other")
    limit = len(PLAIN)
    many = Decompressor(limit)
    cases = [packed, packed + other, packed + bytes(8), packed + b"extra", packed[:-3], packed[:9], packed[:100],
             packed[:60] + bytes(40) + packed[100:], CODECS[kind](PLAIN + b"1"), b"\x7fELF", b"", other]  # fmt: skip
    for case in cases:
        assert said(lambda data: bytes(many(data)), case) == said(
            lambda data: decompress(data, limit=limit), case
        )


def said(run: Callable[[bytes], bytes], data: bytes) -> bytes | str:
    """The content, or what is wrong."""
    try:
        return run(data)
    except CompressionError as error:
        return str(error)


def test_a_zstd_frame_that_does_not_tell_its_size() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    packed = stream.compress(PLAIN) + stream.flush()
    assert bytes(Decompressor()(packed)) == PLAIN
