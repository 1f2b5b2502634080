# SPDX-License-Identifier: MIT
"""What the kernel's standard parameter types take, and what they answer to the rest.

Source: kernel/params.c (5.10 to 7.3), kstrtoull and kstrtobool (lib/kstrtox.c).
"""

from __future__ import annotations

import errno
import re
from typing import Optional

from lkm.preflight.rules import Rules

__all__ = ["NO_VALUE_NEEDED", "is_standard", "judge_value"]

_RANGES = {
    "byte": (0, 8), "ushort": (0, 16), "uint": (0, 32), "hexint": (0, 32), "ulong": (0, 64), "ullong": (0, 64),
    "short": (1, 16), "int": (1, 32), "long": (1, 64),
}  # fmt: skip
"""Type → signed, bits."""

_BOOLEANS = frozenset({"bool", "invbool", "bint", "bool_enable_only"})
NO_VALUE_NEEDED = _BOOLEANS
"""KERNEL_PARAM_OPS_FL_NOARG: the name alone sets them."""


def is_standard(kind: str) -> bool:
    """Whether `param_ops_KIND` is one whose set function is known here."""
    return kind in _RANGES or kind in _BOOLEANS or kind in ("charp", "string")


def judge_value(kind: str, value: Optional[str], rules: Rules, limit: int = 0) -> tuple[int, str]:
    """Errno (0: taken) and the extra line that the kernel prints for `value` of type `kind`.

    `limit` is the size of a string's buffer. `{name}` in the line stands for the parameter's name.
    """
    if kind in _BOOLEANS:
        return (0 if value is None or _is_bool(value, rules) else errno.EINVAL), ""
    if value is None:
        return errno.EINVAL, ""
    if kind in _RANGES:
        return _number(value, *_RANGES[kind]), ""
    if kind == "charp":
        return (errno.ENOSPC, "{name}: string parameter too long") if len(value.encode()) > 1024 else (0, "")
    if limit and len(value.encode()) + 1 > limit:
        return errno.ENOSPC, f"{{name}}: string doesn't fit in {limit - 1} chars."
    return 0, ""


def _is_bool(value: str, rules: Rules) -> bool:
    first = value[:1].lower()
    if first == "o":
        return value[1:2].lower() in ("n", "f") and value[1:2] != ""
    return bool(first) and first in rules.booleans


def _number(value: str, signed: int, bits: int) -> int:
    """kstrtou8 … kstrtoll with base 0: 0x…, 0…, decimal; a sign; one newline at the end."""
    text = value.removesuffix("\n")
    negative = bool(signed) and text.startswith("-")
    digits = text[1:] if negative or text.startswith("+") else text
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", digits):
        number = int(digits, 16)
    elif re.fullmatch(r"0[0-7]*", digits):
        number = int(digits, 8)
    elif re.fullmatch(r"[1-9][0-9]*", digits):
        number = int(digits)
    else:
        return _junk(digits)
    if number >= 1 << 64:
        return errno.ERANGE
    number = -number if negative else number
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    return 0 if low <= number < high else errno.ERANGE


def _junk(digits: str) -> int:
    """No number: EINVAL, unless what stands before the junk overflows already (_parse_integer)."""
    match = re.match(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", digits)
    if match and int(match[0], 16 if match[0][:2].lower() == "0x" else 10) >= 1 << 64:
        return errno.ERANGE
    return errno.EINVAL
