# SPDX-License-Identifier: MIT
"""The types that a module brings: their header and strings. What the types themselves say is not looked at.

Sources: btf_module_notify, btf_parse_module, btf_parse_hdr, btf_check_sec_info and btf_parse_str_sec
(kernel/bpf/btf.c, 5.11 to 7.3).
"""

from __future__ import annotations

import errno
import functools
import struct
from typing import Optional

from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_btf"]

_HEADER = struct.Struct("<HBBIIIII")
"""magic, version, flags, hdr_len, then offset and length of the types and of the strings."""
_LAYOUT = struct.Struct("<II")
"""Offset and length of what describes the kinds of types: a third part, where it is not empty."""
_MAX_STRINGS = 0x00FFFFFF + 1
_ENOTSUPP = 524
"""User space has no name for it."""

Fault = tuple[str, int]
"""What is said, and the errno."""


def check_btf(load: Load) -> StageResult:
    """btf_module_notify: fatal only without CONFIG_MODULE_ALLOW_BTF_MISMATCH (5.18; before, always told only)."""
    index = load.image.find_all(".BTF")
    enabled = load.target.option("DEBUG_INFO_BTF_MODULES")
    if not index or enabled is False:
        return StageResult(())
    row = load.image.sections[index[0]]
    data = load.image.content(row)
    if not row.size:
        return StageResult(())
    fault = _btf_fault(data, layout=load.rules.btf_layout)
    allowed = load.target.option("MODULE_ALLOW_BTF_MISMATCH")
    if fault is None:
        return StageResult(())
    text, number = fault
    fatal = allowed is False
    lines = (f"BPF: {text}", f"failed to validate module [{load.struct_name}] BTF: -{number}")
    words = f"its BTF is damaged ({text})"
    return StageResult((Problem(
        Cause.BTF, number if fatal else None, words if fatal else f"{words}: taken without it",
        "build it again, or strip .BTF", "btf_module_notify", lines if fatal else (), load.certainty,
    ),))  # fmt: skip


def _btf_fault(data: bytes, *, layout: bool) -> Optional[Fault]:
    """btf_parse_hdr, btf_check_sec_info, btf_parse_str_sec: the first fault."""
    if len(data) < 8:
        return "hdr_len not found", errno.EINVAL
    length = int.from_bytes(data[4:8], "little")
    if len(data) < length:
        return "btf_header not found", errno.EINVAL
    known = _HEADER.size + layout * _LAYOUT.size
    if any(data[known:length]):
        return "Unsupported btf_header", errno.E2BIG
    raw = data[: min(length, known)].ljust(_HEADER.size + _LAYOUT.size, b"\0")
    magic, version, flags, _, *parts = _HEADER.unpack_from(raw)
    if magic != 0xEB9F:
        return "Invalid magic", errno.EINVAL
    if version != 1:
        return "Unsupported version", _ENOTSUPP
    if flags:
        return "Unsupported flags", _ENOTSUPP
    places = [(parts[0], parts[1]), (parts[2], parts[3])]
    third = _LAYOUT.unpack_from(raw, _HEADER.size)
    if layout and length >= known and third[1]:
        places.append(third)
    return _part_fault(places, len(data) - length) or _string_fault(
        data, length, *places[1], last=len(places) == 2
    )


def _part_fault(places: list[tuple[int, int]], room: int) -> Optional[Fault]:
    """They must fill what is behind the header, without gaps."""
    total = 0
    for start, size in sorted(places, key=functools.cmp_to_key(_compare)):
        if room < start:
            return "Invalid section offset", errno.EINVAL
        if total < start:
            return "Unsupported section found", errno.EINVAL
        if total > start:
            return "Section overlap found", errno.EINVAL
        if room - total < size:
            return "Total section length too long", errno.EINVAL
        total += size
    return ("Unsupported section found", errno.EINVAL) if total != room else None


def _compare(one: tuple[int, int], other: tuple[int, int]) -> int:
    """btf_sec_info_cmp: the difference of two unsigned numbers, taken for a signed one of 32 bits."""
    offsets, lengths = ((a - b + (1 << 31)) % (1 << 32) - (1 << 31) for a, b in zip(one, other))
    return offsets or lengths


def _string_fault(data: bytes, header: int, start: int, size: int, *, last: bool) -> Optional[Fault]:
    end = header + start + size
    if last and end != len(data):
        return "String section is not at the end", errno.EINVAL
    if size and (size > _MAX_STRINGS or data[end - 1]):
        return "Invalid string section", errno.EINVAL
    return None
