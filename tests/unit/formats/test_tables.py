# SPDX-License-Identifier: MIT
"""The small formats in a module: modinfo, versions, notes, the signature trailer."""

from __future__ import annotations

import pytest

from lkm.formats.modinfo import ModInfo, ModInfoError, parse_modinfo, render_modinfo
from lkm.formats.modversions import (
    ENTRY_SIZE,
    ModVersionsError,
    Version,
    parse_ext_versions,
    parse_versions,
    render_versions,
)
from lkm.formats.notes import Note, NoteError, find_build_id, parse_notes
from lkm.formats.signature import MARKER, SignatureError, split_signature
from tests.builders import make_note, make_signature


def test_modinfo_keeps_order_repeats_and_bad_entries() -> None:
    info = parse_modinfo(b"alias=a\0\0\0license=GPL\0junk\0alias=b\0parm=x:int=5\0empty=\0")
    assert info.items == (
        ("alias", "a"),
        ("license", "GPL"),
        ("alias", "b"),
        ("parm", "x:int=5"),
        ("empty", ""),
    )
    assert info.bad == ("junk",)
    assert info.get("alias") == "a"
    assert info.get_all("alias") == ("a", "b")
    assert info.get("nope") == ""
    assert info.get("nope", "?") == "?"
    assert info.has("empty")
    assert not info.has("nope")


def test_modinfo_without_a_last_nul() -> None:
    assert parse_modinfo(b"a=1\0b=2").items == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize("item", [("a=b", "c"), ("a\0", "c"), ("a", "b\0c")])
def test_modinfo_that_cannot_be_written(item: tuple[str, str]) -> None:
    with pytest.raises(ModInfoError):
        render_modinfo(ModInfo((item,)))


def test_versions_have_64_bytes_each() -> None:
    data = render_versions([Version("module_layout", 0x12345678)])
    assert len(data) == ENTRY_SIZE == 64
    assert data[:8] == b"\x78\x56\x34\x12\0\0\0\0"
    assert parse_versions(data) == (Version("module_layout", 0x12345678),)


def test_versions_cut_off() -> None:
    with pytest.raises(ModVersionsError, match="expected a multiple of 64 bytes, found 65"):
        parse_versions(bytes(65))


def test_version_name_must_leave_room_for_its_nul() -> None:
    assert len(render_versions([Version("x" * 55, 1)])) == 64
    with pytest.raises(ModVersionsError, match="does not fit in 55 bytes"):
        render_versions([Version("x" * 56, 1)])


@pytest.mark.parametrize(
    ("crcs", "names", "message"),
    [
        (bytes(5), b"a\0", "multiple of 4 bytes, found 5"),
        (bytes(4), b"a", "expected a NUL at the end"),
        (bytes(8), b"a\0", "expected 2 names, one a CRC, found 1"),
    ],
)
def test_extended_versions_that_disagree(crcs: bytes, names: bytes, message: str) -> None:
    with pytest.raises(ModVersionsError, match=message):
        parse_ext_versions(crcs, names)


def test_extended_versions() -> None:
    assert parse_ext_versions(b"\1\0\0\0\2\0\0\0", b"a\0" + b"n" * 99 + b"\0") == (
        Version("a", 1),
        Version("n" * 99, 2),
    )
    assert parse_ext_versions(b"", b"") == ()


def test_build_id_among_other_notes() -> None:
    data = make_note(b"Linux", 0, b"\1") + make_note(b"GNU", 5, b"") + make_note(b"GNU", 3, b"0123456789")
    notes = parse_notes(data + bytes(4))
    assert notes[0] == Note("Linux", 0, b"\1")
    assert find_build_id(notes) == b"0123456789"
    assert find_build_id(notes[:2]) is None


@pytest.mark.parametrize("data", [b"\4\0\0\0", make_note(b"GNU", 3, b"01234567")[:-1]])
def test_note_cut_off(data: bytes) -> None:
    with pytest.raises(NoteError, match="x: note at 0: expected"):
        parse_notes(data, name="x")


def test_unsigned_file_is_returned_as_it_is() -> None:
    payload, signature = split_signature(b"payload")
    assert (bytes(payload), signature) == (b"payload", None)
    assert split_signature(MARKER[1:])[1] is None


def test_signature_fields() -> None:
    payload, signature = split_signature(b"payload" + make_signature(b"DER"))
    assert bytes(payload) == b"payload"
    assert signature is not None
    assert (signature.payload_len, signature.id_type, signature.signature) == (7, 2, b"DER")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (MARKER, "expected a signature trailer of 12 bytes, found 0"),
        (make_signature(b"DER", size=4), "x.ko: signature of .*4 bytes is not in the 3 before it"),
        (make_signature(b"DER", size=0), "signature of"),
        (make_signature(b"DER", size=0xFFFFFFFF), "signature of"),
    ],
)
def test_signature_with_lengths_that_lie(data: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        split_signature(data, name="x.ko")
