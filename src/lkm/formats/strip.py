# SPDX-License-Identifier: MIT
"""A module's bytes without what the kernel compares with itself: for a load that is forced from memory."""

from __future__ import annotations

from lkm.formats.elf import SHF_ALLOC, parse_elf

__all__ = ["strip_versions"]


def strip_versions(image: bytes, *, modversions: bool, vermagic: bool, name: str = "<bytes>") -> bytes:
    """The module, its CRCs hidden (`__versions` is no longer allocated), its vermagic blanked.

    What is not there is left alone. Raises ElfError. The kernel then taints itself (`F`).
    """
    elf = parse_elf(image, name=name)
    changed = bytearray(image)
    versions = elf.section("__versions") if modversions else None
    if versions is not None:
        at, size = elf.flags_place(versions)
        flags = versions.flags & ~SHF_ALLOC
        changed[at : at + size] = flags.to_bytes(size, "little" if elf.byteorder == "little" else "big")
    info = elf.section(".modinfo") if vermagic else None
    if info is not None:
        data = b"\0" + bytes(info.data)
        begin = data.find(b"\0vermagic=")
        if begin >= 0:
            end = data.find(b"\0", begin + 1)
            end = len(data) - 1 if end < 0 else end - 1
            changed[info.offset + begin : info.offset + end] = bytes(end - begin)
    return bytes(changed)
