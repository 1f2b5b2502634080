# SPDX-License-Identifier: MIT
"""A built module under another name: so a sound one is the fixed build of one that gets stuck."""

from __future__ import annotations

from lkm.formats.module import THIS_MODULE, parse_module
from lkm.names import NAME_OFFSET, NAME_SIZE

__all__ = ["renamed"]


def renamed(path: str, name: str) -> bytes:
    """The module file with `name` in its struct module, which is what the kernel goes by."""
    with open(path, "rb") as stream:
        data = bytearray(stream.read())
    section = parse_module(bytes(data), name=path).elf.section(THIS_MODULE)
    assert section
    at = section.offset + NAME_OFFSET
    data[at : at + NAME_SIZE] = name.encode().ljust(NAME_SIZE, b"\0")
    return bytes(data)
