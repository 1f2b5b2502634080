# SPDX-License-Identifier: MIT
"""`/proc/PID/stack`: the functions that a task is in, innermost first.

    [<0>] do_init_module+0x4a/0x220
    [<0>] crash_init+0x1b/0x1000 [crash 0123456789abcdef…]
    [<0>] 0xffffffffc0123456

Source: `proc_pid_stack` in the kernel's `fs/proc/base.c`, `__sprint_symbol` in `kernel/kallsyms.c` (6.1).
Kernels before 4.11 have an address where newer ones have 0.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lkm.errors import ParseError
from lkm.names import ModuleName, module_name

__all__ = ["Frame", "StackError", "parse_stack"]

_FRAME = re.compile(
    r"(?:\[<(?P<at>[0-9a-fA-Fx]+)>\]\s+)?(?:\?\s+)?"
    r"(?:(?P<raw>0x[0-9a-fA-F]+)|(?P<symbol>\S+?)\+0x(?P<offset>[0-9a-fA-F]+)/0x(?P<size>[0-9a-fA-F]+))"
    r"(?:\s+\[(?P<module>[^\s\]]+)(?:\s+[0-9a-fA-F]+)?\])?"
)


class StackError(ParseError):
    """A line that is not one of a stack."""


class Frame(NamedTuple):
    """One return address: `offset` bytes into `symbol`, which has `size`; `module` is None outside modules.

    In text that no longer has symbols (freed init text, for one) `symbol` is empty and `raw_address` is set.
    """

    symbol: str
    offset: int
    size: int
    module: ModuleName | None
    raw_address: int | None


def parse_stack(text: str) -> tuple[Frame, ...]:
    """The frames, innermost first; empty for a task that is running. Raises `StackError`."""
    frames = [_parse_line(line.strip()) for line in text.splitlines() if line.strip()]
    # Before 5.3 the list ended in a ULONG_MAX, which is no address.
    if frames and frames[-1].raw_address == 0xFFFFFFFFFFFFFFFF:
        frames.pop()
    return tuple(frames)


def _parse_line(line: str) -> Frame:
    match = _FRAME.fullmatch(line)
    if match is None:
        raise StackError(f"/proc/PID/stack: expected [<0>] symbol+0xOFFSET/0xSIZE, found {line!r}")
    module = module_name(match["module"]) if match["module"] else None
    if match["raw"]:
        return Frame("", 0, 0, module, int(match["raw"], 16))
    return Frame(match["symbol"], int(match["offset"], 16), int(match["size"], 16), module, None)
