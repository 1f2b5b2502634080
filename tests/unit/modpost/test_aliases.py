# SPDX-License-Identifier: MIT
"""Aliases of device tables; those of whole objects are compared with modpost's in tests/vm/test_modpost.py."""

from __future__ import annotations

import struct

import pytest

from lkm.formats.elf import SHF_ALLOC, STB_LOCAL, STT_OBJECT, parse_elf
from lkm.formats.elfwriter import NewSection, NewSymbol
from lkm.modpost.aliases import find_aliases
from lkm.modpost.problems import Kind, Problem
from tests.unit.modpost.world import make_object

OLD, NEW = "__mod_{}__table_device_table", "__mod_device_table__kmod_de_mo__{}__table"


def table_of(
    bus: str, entries: bytes, *, name: str = OLD, empty: int = 0, version: tuple[int, int] = (7, 2)
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """What is found in an object with one table, which ends in `empty` bytes of zero."""
    data = entries + bytes(empty)
    section = NewSection(".rodata", data, flags=SHF_ALLOC)
    symbol = NewSymbol(name.format(bus), ".rodata", 0, len(data), STB_LOCAL, STT_OBJECT)
    return find_aliases(parse_elf(make_object(extra=[section], symbols=[symbol])), version)


def usb(flags: int, low: int, high: int) -> bytes:
    return struct.pack("<5H7B", flags, 0x1234, 0x5678, low, high, *bytes(7)).ljust(32, b"\0")


@pytest.mark.parametrize("name", [OLD, NEW])
def test_pci(name: str) -> None:
    entry = struct.pack("<6IQII", 0x8086, 0xFFFFFFFF, 1, 2, 0x020000, 0xFFFF00, 0, 0, 0)
    told = struct.pack("<6IQII", 0x8086, 0x10, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0, 1, 0)
    aliases, problems = table_of("pci", entry + told, name=name, empty=40)
    assert aliases == (
        "pci:v00008086d*sv00000001sd00000002bc02sc00i*", "vfio_pci:v00008086d00000010sv*sd*bc*sc*i*"
    )  # fmt: skip
    assert problems == ()


def test_pci_before_5_16_has_a_shorter_entry() -> None:
    entry = struct.pack("<6IQ", 0x8086, 0x10, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 7)
    told = ("pci:v00008086d00000010sv*sd*bc*sc*i*",)
    for count in (1, 4):  # four and the empty one are as long as four of the newer kind
        last = entry[:-8] + bytes(8)
        assert table_of("pci", entry * (count - 1) + last, empty=32, version=(5, 15)) == (told, ())


def test_auxiliary_before_7_has_a_shorter_entry() -> None:
    entries = b"".join(name.ljust(40, b"\0") for name in (b"a.a", b"b.b", b"c.c", b"d.d", b"e.e"))
    told = tuple(f"auxiliary:{letter}.{letter}" for letter in "abcde")
    assert table_of("auxiliary", entries, empty=40, version=(6, 12)) == (told, ())


def test_a_usb_version_with_digits_above_9_in_bcd_has_an_end() -> None:
    """incbcd takes each for a 9."""
    assert table_of("usb", usb(0xF, 0x0100, 0xA000), empty=32)[1] == ()


@pytest.mark.parametrize(("low", "high", "versions"), [
    (0x0000, 0x9999, ["*"]),
    (0x0100, 0x0100, ["0100"]),
    (0x0000, 0x0103, ["00*", "010[0-3]"]),
    (0x0099, 0x0101, ["0099", "010[0-1]"]),
    (0x0000, 0x0A0F, ["0[0-9]*", "0A0*"]),
])  # fmt: skip
def test_usb_versions_become_patterns(low: int, high: int, versions: list[str]) -> None:
    aliases, _ = table_of("usb", usb(0xF, low, high), empty=32)
    assert sorted(aliases) == sorted(f"usb:v1234p5678d{each}dc*dsc*dp*ic*isc*ip*in*" for each in versions)


def test_others() -> None:
    name = b"demo".ljust(24, b"\0") + bytes(8)
    assert table_of("platform", name, empty=32)[0] == ("platform:demo",)
    assert table_of("i2c", name, empty=32)[0] == ("i2c:demo",)
    assert table_of("spi", b"demo".ljust(40, b"\0"), empty=40)[0] == ("spi:demo",)
    assert table_of("auxiliary", b"a.b".ljust(48, b"\0"), empty=48)[0] == ("auxiliary:a.b",)
    hid = struct.pack("<HHII", 3, 0, 0x46D, 0xFFFFFFFF).ljust(24, b"\0")
    assert table_of("hid", hid, empty=24)[0] == ("hid:b0003g*v0000046Dp*",)
    assert table_of("virtio", struct.pack("<II", 1, 0xFFFFFFFF), empty=8)[0] == ("virtio:d00000001v*",)
    acpi = struct.pack("<16sQII", b"", 0, 0x010601, 0xFFFF00)
    assert table_of("acpi", acpi, empty=32)[0] == ("acpi*:0106??:*",)
    tree = b"".join(
        text.ljust(size, b"\0") for text, size in ((b"a b", 32), (b"", 32), (b"c,d", 128), (b"", 8))
    )
    assert table_of("of", tree, empty=200)[0] == ("of:Na_bT*Cc,d", "of:Na_bT*Cc,dC*")


def test_a_table_that_does_not_end_is_an_error() -> None:
    for empty in (0, 31):
        aliases, (problem,) = table_of("platform", b"demo".ljust(32, b"\0"), empty=empty)
        assert (aliases, problem.kind, problem.fatal) == ((), Kind.DEVICE_TABLE, True)
        assert "platform" in problem.words


def test_a_bus_that_is_not_known_is_told() -> None:
    aliases, (problem,) = table_of("ccw", bytes(64))
    assert (aliases, problem.kind, problem.fatal) == ((), Kind.DEVICE_TABLE, False)
    assert "ccw" in problem.words
