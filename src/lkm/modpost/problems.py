# SPDX-License-Identifier: MIT
"""What is wrong with an object, as modpost says it: errors, with which no file is made, and warnings."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Kind", "Problem", "error", "warning"]


class Kind(Enum):
    """Kinds of problems; the values are for programs."""

    NO_LICENSE = "no-license"
    NAME_TOO_LONG = "name-too-long"
    OWN_INFO = "own-info"
    COMMON_SYMBOL = "common-symbol"
    SYMBOL_MISSING = "symbol-missing"
    GPL_ONLY = "gpl-only"
    NAMESPACE = "namespace"
    NAMESPACE_FORBIDDEN = "namespace-forbidden"
    NO_CRC = "no-crc"
    SYMBOL_TOO_LONG = "symbol-too-long"
    EXPORT_STRANGE = "export-strange"
    EXPORT_LOCAL = "export-local"
    EXPORT_UNDEFINED = "export-undefined"
    EXPORT_TWICE = "export-twice"
    EXPORT_FORM = "export-form"
    EXPORT_CRC = "export-crc"
    DEVICE_TABLE = "device-table"
    NO_SRCVERSION = "no-srcversion"
    NOT_SUPPORTED = "not-supported"


class Problem(NamedTuple):
    """One fault of an object for one kernel.

    fatal   no module is made of it
    words   what is wrong, and where
    remedy  what to do
    symbol  the symbol that it is about
    """

    kind: Kind
    fatal: bool
    words: str
    remedy: str
    symbol: str = ""


def error(kind: Kind, words: str, remedy: str, symbol: str = "") -> Problem:
    """A problem with which no module is made."""
    return Problem(kind, fatal=True, words=words, remedy=remedy, symbol=symbol)


def warning(kind: Kind, words: str, remedy: str, symbol: str = "") -> Problem:
    """A problem that is told, and no more."""
    return Problem(kind, fatal=False, words=words, remedy=remedy, symbol=symbol)
