# SPDX-License-Identifier: MIT
"""What a caller asks of a plan; the clean-up calls as they are written on the command line. Pure.

    misc_deregister(&my_misc)             the address of a symbol; the & may be left out
    platform_device_unregister(*my_pdev)  the 8 bytes that stand there: the pointer that C calls my_pdev
    kfree(*cache:entry)                   the value at `entry` of the module `cache`
    unregister_chrdev(240, "mine")  integers (decimal, 0x…, negative) and strings

`vmlinux:NAME` is the kernel's own symbol of that name.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from lkm.errors import UsageError

__all__ = ["ArgumentRequest", "CallRequest", "Request", "parse_call"]

MAX_ARGUMENTS = 6
"""Arguments that x86_64 and arm64 both pass in registers."""

_NAME = r"(?:[A-Za-z0-9_.-]+:)?[A-Za-z_][A-Za-z0-9_.]*"
_CALL = re.compile(rf"\s*({_NAME})\s*\((.*)\)\s*;?\s*", re.DOTALL)
_ARGUMENT = re.compile(
    rf"""\s*(?:
        (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+))(?![\w.])
      | "(?P<text>(?:[^"\\]|\\.)*)"
      | (?P<star>\*?)\s*&?(?P<symbol>{_NAME})
    )\s*(?P<end>,|$)""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}


class ArgumentRequest(NamedTuple):
    """One of: an integer (as 64 bits), a text, the address of a symbol, or with `value` what stands there."""

    shown: str
    number: Optional[int] = None
    text: Optional[str] = None
    symbol: str = ""
    value: bool = False


class CallRequest(NamedTuple):
    """A function, as `NAME` or `MODULE:NAME`, and its arguments."""

    function: str
    arguments: tuple[ArgumentRequest, ...]


class Request(NamedTuple):
    """What a plan is to contain beside the removal, or in its place.

    with_dependents  remove the modules that use it first
    calls            clean-up calls, as text, made in this order before the removal
    run_exit         call the module's own exit, where its removal would not
    quarantine       release the name and keep the memory, in place of the removal
    """

    with_dependents: bool = False
    calls: tuple[str, ...] = ()
    run_exit: bool = False
    quarantine: bool = False

    @property
    def parsed_calls(self) -> tuple[CallRequest, ...]:
        """The calls. Raises UsageError for one that is none."""
        return tuple(parse_call(call) for call in self.calls)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that the calls name."""
        names = [name for call in self.parsed_calls for name in (call.function, *_symbols(call))]
        return tuple(dict.fromkeys(names))


def _symbols(call: CallRequest) -> list[str]:
    return [argument.symbol for argument in call.arguments if argument.symbol]


def parse_call(text: str) -> CallRequest:
    """A call as it is written in C. Raises UsageError that shows where it is not understood."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise UsageError(f"no call: {text!r}", remedy="write it as in C: 'function(*symbol, 1, \"text\")'")
    function, inside = match.groups()
    arguments: list[ArgumentRequest] = []
    at = 0
    while inside.strip() and at <= len(inside):
        part = _ARGUMENT.match(inside, at)
        if part is None:
            raise UsageError(
                f"{text!r}: no argument: {inside[at:].strip()!r}",
                remedy='integers, "strings", symbol for an address, *symbol for the value there',
            )
        arguments.append(_argument(part))
        if not part["end"]:
            break
        at = part.end()
        if not inside[at:].strip():
            raise UsageError(f"{text!r}: nothing after the last comma", remedy="take the comma away")
    if len(arguments) > MAX_ARGUMENTS:
        raise UsageError(
            f"{text!r}: {len(arguments)} arguments", remedy=f"at most {MAX_ARGUMENTS} can be passed"
        )
    return CallRequest(function, tuple(arguments))


def _argument(part: re.Match[str]) -> ArgumentRequest:
    if part["number"] is not None:
        return _number(part["number"])
    if part["text"] is not None:
        return ArgumentRequest(f'"{part["text"]}"', text=_text(part["text"]))
    return ArgumentRequest(part["star"] + part["symbol"], symbol=part["symbol"], value=bool(part["star"]))


def _text(text: str) -> str:
    unknown = [escape for escape in re.findall(r"\\(.)", text, re.DOTALL) if escape not in _ESCAPES]
    if unknown:
        raise UsageError(f"\\{unknown[0]} is not understood", remedy='in a string: \\n, \\t, \\\\ and \\"')
    plain = re.sub(r"\\(.)", lambda escape: _ESCAPES[escape[1]], text)
    if "\0" in plain or not plain.isascii():
        raise UsageError(f"{text!r}: a string is ASCII, and ends at its first NUL")
    return plain


def _number(text: str) -> ArgumentRequest:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no number: octal ones are not understood") from None
    if not -(1 << 63) <= value < 1 << 64:
        raise UsageError(f"{text} does not fit into 64 bits")
    return ArgumentRequest(text, number=value & (1 << 64) - 1)
