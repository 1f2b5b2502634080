# SPDX-License-Identifier: MIT
"""/proc/kcore: its headers, also corrupt, and reads at kernel addresses."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from lkm.errors import LkmError, NeedsRoot
from lkm.system.kcore import Kcore, KcoreError, Segment, _open_error, open_kcore, parse_segments
from tests.builders import make_note
from tests.unit.system.trees import Tree

TEXT, HEAP = 0xFFFF_FFFF_8100_0000, 0xFFFF_8880_0000_0000


def make_core(
    segments: list[tuple[int, bytes]],
    *,
    count: int | None = None,
    entry_size: int = 56,
    magic: bytes = b"\x7fELF\2\1",
    notes: bytes = b"",
) -> bytes:
    """A core file: a note header as the kernel has, then the notes, the segments and their bytes."""
    start = 64 + 56 * (len(segments) + 1)
    table = struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), 0, 0)
    body = notes
    for address, data in segments:
        size = len(data)
        table += struct.pack("<IIQQQQQQ", 1, 7, start + len(body), address, 0, size, size, 4096)
        body += data
    number = len(segments) + 1 if count is None else count
    header = magic.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, entry_size, number, 0, 0, 0
    )
    return header + table + body


def opened(tmp_path: Path, data: bytes) -> Kcore:
    tree = Tree(str(tmp_path))
    tree.write("/proc/kcore", data)
    return open_kcore(tree.root)


def test_memory_is_read_by_its_address(tmp_path: Path) -> None:
    kcore = opened(tmp_path, make_core([(TEXT, b"text" * 4), (HEAP, bytes(range(64)))]))
    assert kcore.read(TEXT + 4, 8) == b"texttext"
    assert kcore.read(HEAP + 63, 1) == b"\x3f"
    assert kcore.read(HEAP, 0) == b""


def test_notes_are_told_apart(tmp_path: Path) -> None:
    notes = (
        make_note(b"CORE", 1, b"registers") + make_note(b"CORE", 4, b"task") + make_note(b"LINUX", 4, b"x")
    )
    kcore = opened(tmp_path, make_core([(TEXT, b"text")], notes=notes))
    assert kcore.own_task() == b"task"
    assert kcore.read(TEXT, 4) == b"text"
    (tmp_path / "other").mkdir()
    assert opened(tmp_path / "other", make_core([(TEXT, b"text")])).own_task() == b""


@pytest.mark.parametrize(
    ("address", "size"), [(HEAP - 1, 1), (HEAP + 60, 5), (0, 8), (TEXT, -1), (TEXT, 1 << 40)]
)
def test_what_is_not_mapped_is_an_error(tmp_path: Path, address: int, size: int) -> None:
    with pytest.raises(KcoreError):
        opened(tmp_path, make_core([(TEXT, bytes(16)), (HEAP, bytes(64))])).read(address, size)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KcoreError, match="expected 16 bytes, found 8"):
        opened(tmp_path, make_core([(HEAP, bytes(64))])[:-56]).read(HEAP, 16)


def test_a_closed_core_is_an_error(tmp_path: Path) -> None:
    kcore = opened(tmp_path, make_core([(HEAP, bytes(64))]))
    kcore.close()
    with pytest.raises(KcoreError):
        kcore.read(HEAP, 8)


def test_the_smaller_of_two_segments_is_the_more_exact() -> None:
    large, small = (HEAP, bytes(64)), (HEAP + 16, bytes(16))
    assert [segment.size for segment in parse_segments(make_core([large, small]))] == [16, 64]


@pytest.mark.parametrize("length", [0, 5, 16, 63, 64, 100, 119])
def test_truncated_headers_are_an_error(length: int) -> None:
    with pytest.raises(KcoreError):
        parse_segments(make_core([(HEAP, b"")])[:length])


@pytest.mark.parametrize(
    "data",
    [
        make_core([], magic=b"\x7fELF\1\1"),
        make_core([], magic=b"\x7fELF\2\2"),
        make_core([], entry_size=32),
        make_core([], count=65535),
        bytes(4096),
    ],
)
def test_what_is_no_core_is_an_error(data: bytes) -> None:
    with pytest.raises(KcoreError):
        parse_segments(data)


def test_segments_beyond_all_addresses_are_left_out() -> None:
    data = bytearray(make_core([(HEAP, bytes(8)), (TEXT, bytes(8))]))
    struct.pack_into("<Q", data, 64 + 56 + 16, (1 << 64) - 4)
    struct.pack_into("<Q", data, 64 + 112 + 8, (1 << 63) - 4)
    assert parse_segments(bytes(data)) == ()


def test_notes_and_empty_segments_are_left_out() -> None:
    assert parse_segments(make_core([(TEXT, b""), (HEAP, b"12345678")])) == (
        Segment(HEAP, 8, 64 + 56 * 3, 0),
    )


def test_a_kernel_without_kcore(tmp_path: Path) -> None:
    with pytest.raises(KcoreError, match="CONFIG_PROC_KCORE"):
        open_kcore(Tree(str(tmp_path)).root)


def test_a_refusal_says_why(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    refusal = OSError(errno.EPERM, os.strerror(errno.EPERM))
    assert isinstance(_open_error(tree.root, refusal), NeedsRoot)
    tree.write("/sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    error = _open_error(tree.root, refusal)
    assert not isinstance(error, NeedsRoot)
    assert "confidentiality" in str(error)


def test_other_errors_are_told_as_they_are(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.directory("/proc/kcore")
    with pytest.raises(LkmError, match="directory"):
        open_kcore(tree.root)
