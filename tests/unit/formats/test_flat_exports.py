# SPDX-License-Identifier: MIT
"""The exports of a flat image, found by how their tables look; compared with Module.symvers in tests/vm."""

from __future__ import annotations

import random
import struct

import pytest

from lkm.formats.flat_exports import parse_flat_exports

NAMES = sorted({f"symbol_{number}" for number in range(300)} | {"kfree", "module_layout"})
GPL = [f"gpl_{number:03}" for number in range(200)]


def image(*, version: str = "6.1.9", crcs: bool = True, flags: bool = False) -> bytes:
    """Junk, then the tables and their strings as the linker script has them, then junk."""
    rng = random.Random(1)
    before = rng.randbytes(4096) + b"Linux version " + version.encode() + b"-x\0" + b"a name: kfree\0"
    before += bytes(-len(before) % 8)
    names = sorted(NAMES + GPL) if flags else NAMES + GPL
    strings = b"SPACE\0" + b"".join(name.encode() + b"\0" for name in names)
    numbers = struct.pack(f"<{len(names)}I", *range(1000, 1000 + len(names))) if crcs else b""
    bits = bytes(name.startswith("gpl") for name in names) if flags else b""
    behind = numbers + bits + bytes(-len(numbers + bits) % 8)
    strings_at = len(before) + 12 * len(names) + len(behind)
    table = bytearray()
    for name in names:
        at = len(before) + len(table)
        place = strings_at + strings.index(b"\0" + name.encode() + b"\0") + 1
        space = strings_at - at - 8 if name == "symbol_7" else 0
        table += struct.pack("<iii", -at, place - at - 4, space)
    return before + bytes(table) + behind + strings + rng.randbytes(4096)


def test_two_tables_and_their_crcs() -> None:
    found = parse_flat_exports(image())
    assert [export.name for export in found] == NAMES + GPL
    assert [export.crc for export in found] == list(range(1000, 1000 + len(found)))
    assert {export.name for export in found if export.gpl} == set(GPL)
    assert {export.name: export.namespace for export in found if export.namespace} == {"symbol_7": "SPACE"}


def test_without_modversions_there_are_no_crcs() -> None:
    assert {export.crc for export in parse_flat_exports(image(crcs=False))} == {None}


@pytest.mark.parametrize("crcs", [True, False])
def test_one_table_with_flags(*, crcs: bool) -> None:
    found = parse_flat_exports(image(version="7.3.4", crcs=crcs, flags=True))
    assert [export.name for export in found] == sorted(NAMES + GPL)
    assert {export.name for export in found if export.gpl} == set(GPL)
    assert found[5].crc == (1005 if crcs else None)


def test_what_is_not_read() -> None:
    """CRCs that are distances, and images without tables."""
    assert parse_flat_exports(image(version="5.10.2")) == ()
    assert parse_flat_exports(b"Linux version 6.1.0 kfree\0" * 100) == ()
    assert parse_flat_exports(b"") == ()
