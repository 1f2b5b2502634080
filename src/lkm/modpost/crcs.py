# SPDX-License-Identifier: MIT
"""CRCs of what an object exports, as kbuild leaves them beside it.

    .NAME.o.cmd   #SYMVER obj_export_plain 0x76322ca1
    NAME.mod      the objects that NAME.o was linked of, a line each

genksyms makes them of the preprocessed source, so the object alone does not tell. Until 5.18 they are in the object.
Source: `extract_crcs_for_object`, `mod_set_crcs` in scripts/mod/modpost.c (6.1).
"""

from __future__ import annotations

import os
import re

from lkm.system.files import read_bytes

__all__ = ["parse_symvers_comments", "read_crcs"]

_LINE = re.compile(rb"^#SYMVER (\S+) (0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})$", re.MULTILINE)
_MAX_OBJECTS = 4096


def parse_symvers_comments(data: bytes) -> dict[str, int]:
    """Symbol → CRC of the lines `#SYMVER`; others are passed over."""
    return {
        name.decode("utf-8", "backslashreplace"): int(number, 16 if number[:2] in (b"0x", b"0X") else 10)
        & 0xFFFFFFFF
        for name, number in _LINE.findall(data)
    }


def read_crcs(path: str) -> dict[str, int]:
    """Symbol → CRC of the object `path` and of those that it was linked of; empty where kbuild left nothing."""
    found: dict[str, int] = {}
    for part in (path, *_parts(path)):
        found.update(parse_symvers_comments(_command_file(part, os.path.dirname(path))))
    return found


def _command_file(part: str, directory: str) -> bytes:
    """What kbuild left of the object `part`: where that says it is, else in `directory`, if the build was moved."""
    where, base = os.path.split(part)
    name = f".{base}.cmd"
    return read_bytes(os.path.join(where, name)) or read_bytes(os.path.join(directory, name)) or b""


def _parts(path: str) -> list[str]:
    """The objects in NAME.mod; paths in it are relative to where make ran, so the directory of the object counts."""
    text = read_bytes(f"{path[: -len('.o')]}.mod") if path.endswith(".o") else None
    lines = (text or b"").decode("utf-8", "surrogateescape").split()[:_MAX_OBJECTS]
    return [os.path.join(os.path.dirname(path), line) for line in lines]
