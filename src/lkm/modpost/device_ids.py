# SPDX-License-Identifier: MIT
"""Entries of device tables → aliases: one function a bus, for the buses that most drivers are for.

Sizes and offsets are those of 64-bit kernels. Source: include/linux/mod_devicetable.h and scripts/mod/file2alias.c
(5.10 to 7.3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["BUSES", "Bus"]

_ANY = 0xFFFFFFFF


class Bus(NamedTuple):
    """How a bus writes its tables: the size of an entry in bytes, and what makes aliases of one.

    since     the release from which on it is so
    old_size  of an entry before
    """

    size: int
    aliases: Callable[[bytes], Iterator[str]]
    since: tuple[int, int] = (0, 0)
    old_size: int = 0

    def entry_size(self, version: tuple[int, int]) -> int:
        """In tables for that kernel."""
        return self.size if version >= self.since else self.old_size


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _field(sign: str, value: int, digits: int, *, given: bool) -> str:
    """`v00001DE5`, or `v*` where nothing is asked for."""
    return f"{sign}{value:0{digits}X}" if given else f"{sign}*"


def _open(alias: str) -> str:
    """add_wildcard: what comes behind does not matter."""
    return alias if alias.endswith("*") else f"{alias}*"


def _pci(entry: bytes) -> Iterator[str]:
    """do_pci_entry. The last word came with 5.16: 1 is for those that take a device only when they are told to."""
    vendor, device, subvendor, subdevice, number, mask = struct.unpack_from("<6I", entry)
    override = struct.unpack_from("<I", entry, 32)[0] if len(entry) > 32 else 0
    prefix = {0: "pci", 1: "vfio_pci"}.get(override)
    masks = [mask >> shift & 0xFF for shift in (16, 8, 0)]
    if prefix is None or any(each not in (0, 0xFF) for each in masks):
        return
    alias = f"{prefix}:"
    for sign, value in (("v", vendor), ("d", device), ("sv", subvendor), ("sd", subdevice)):
        alias += _field(sign, value, 8, given=value != _ANY)
    for sign, shift, each in zip(("bc", "sc", "i"), (16, 8, 0), masks):
        alias += _field(sign, number >> shift & 0xFF, 2, given=each == 0xFF)
    yield _open(alias)


_USB = struct.Struct("<5H7B")
_LOW, _HIGH = 0x4, 0x8
_USB_PARTS = (
    ("dc", 0x10),
    ("dsc", 0x20),
    ("dp", 0x40),
    ("ic", 0x80),
    ("isc", 0x100),
    ("ip", 0x200),
    ("in", 0x400),
)


def _usb(entry: bytes) -> Iterator[str]:
    """do_usb_entry_multi: a range of device versions becomes patterns, a digit at a time from the last one on."""
    flags, vendor, product, low, high, *parts = _USB.unpack_from(entry)
    if not (vendor | parts[0] | parts[3]):
        return  # a place that is filled in at run time would match everything
    low = low if flags & _LOW else 0
    high = high if flags & _HIGH else _ANY
    bounded = min(high, 0x9999)
    digits = [number >> 4 * place & 0xF for number in (low, bounded) for place in range(4)]
    top = 9 if max(digits) <= 9 else 0xF  # in BCD, or in hexadecimal
    head = (
        f"usb:{_field('v', vendor, 4, given=bool(flags & 1))}{_field('p', product, 4, given=bool(flags & 2))}"
    )
    tail = "".join(_field(s, v, 2, given=bool(flags & bit)) for (s, bit), v in zip(_USB_PARTS, parts))
    for pattern in _versions(low, high, top):
        yield _open(f"{head}d{pattern}{tail}")


def _versions(low: int, high: int, top: int) -> Iterator[str]:
    for count in range(3, -1, -1):
        if low > high:
            return
        first, last = low & 0xF, min(high & 0xF, top)
        low, high = low >> 4, high >> 4
        if low == high or not count:
            yield _version(low, count, first, last, top)
            return
        if first > 0:
            yield _version(low, count, first, top, top)
            low = _next(low, 1, top)
        if last < top:
            yield _version(high, count, 0, last, top)
            high = _next(high, -1, top)


def _version(start: int, count: int, first: int, last: int, top: int) -> str:
    """The first `count` digits, and what the next one may be; what comes behind does not matter."""
    text = f"{start:0{count}X}" if count else ""
    if first == last:
        text += f"{first:X}"
    elif first > 0 or last < top:
        if first > 9 or last < 10:
            text += f"[{first:X}-{last:X}]"
        else:
            text += f"[{first:X}-9" if first < 9 else f"[{first:X}"
            text += f"A-{last:X}]" if last > 10 else f"{last:X}]"
    return text if count == 3 else f"{text}*"


def _next(number: int, step: int, top: int) -> int:
    """The next number, in BCD if that is what it is (incbcd, where no digit is greater than 9)."""
    if top > 9:
        return number + step
    decimal = int("".join(str(min(int(digit, 16), 9)) for digit in f"{number:x}"))
    return int(str(decimal + step), 16)


def _of(entry: bytes) -> Iterator[str]:
    """do_of_entry: with what comes behind `compatible`, and without."""
    name, kind, compatible = _text(entry[:32]), _text(entry[32:64]), _text(entry[64:192])
    alias = f"of:N{name or '*'}T{kind or '*'}"
    if compatible:
        alias += f"{'*' if kind else ''}C{compatible}"
    alias = "".join("_" if char in " \t\n\v\f\r" else char for char in alias)
    yield alias
    yield _open(f"{alias}C")


def _acpi(entry: bytes) -> Iterator[str]:
    """do_acpi_entry: an identifier, or a class of PCI with a mask."""
    name = _text(entry[:16])
    if name:
        yield f"acpi*:{name}:*"
        return
    number, mask = struct.unpack_from("<II", entry, 24)
    parts = [f"{number >> shift & 0xFF:02x}" if mask >> shift & 0xFF else "??" for shift in (16, 8, 0)]
    yield f"acpi*:{''.join(parts)}:*"


def _hid(entry: bytes) -> Iterator[str]:
    bus, group, vendor, product = struct.unpack_from("<HHII", entry)
    yield (
        f"hid:{_field('b', bus, 4, given=bus != 0xFFFF)}{_field('g', group, 4, given=group != 0)}"
        f"{_field('v', vendor, 8, given=vendor != _ANY)}{_field('p', product, 8, given=product != _ANY)}"
    )


def _virtio(entry: bytes) -> Iterator[str]:
    device, vendor = struct.unpack_from("<II", entry)
    alias = (
        f"virtio:{_field('d', device, 8, given=device != _ANY)}{_field('v', vendor, 8, given=vendor != _ANY)}"
    )
    yield _open(alias)


def _named(prefix: str, size: int) -> Bus:
    """A bus whose devices have a name of their own, and a word of the driver's behind it."""

    def aliases(entry: bytes) -> Iterator[str]:
        yield f"{prefix}:{_text(entry[: len(entry) - 8])}"

    return Bus(size, aliases)


BUSES = {
    # override_only came with 5.16
    "pci": Bus(40, _pci, since=(5, 16), old_size=32),
    "usb": Bus(32, _usb),
    "of": Bus(200, _of),
    "acpi": Bus(32, _acpi),
    "hid": Bus(24, _hid),
    "virtio": Bus(8, _virtio),
    "platform": _named("platform", 32),
    "i2c": _named("i2c", 32),
    "spi": _named("spi", 40),
    # AUXILIARY_NAME_SIZE is 32 in 6.18 and 40 in 7.2; those between were not seen
    "auxiliary": _named("auxiliary", 48)._replace(since=(7, 0), old_size=40),
}
"""By the word in MODULE_DEVICE_TABLE."""
