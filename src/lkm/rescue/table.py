# SPDX-License-Identifier: MIT
"""The helper's table: what `helper/ARCH.S` works through, and how it answers.

All numbers are little-endian.

    0   u64  function that tries to take the lock; 0: the helper takes it itself, as a queued spinlock (aarch64 alone)
    8   u64  its argument, the address of the lock, 0 for no lock
    16  u64  function that gives the lock back
    24  u64  copy_from_kernel_nofault
    32  u64  copy_to_kernel_nofault
    40  u32  number of entries (at most 255)
    44  u32  unused
    48  entries of 32 bytes:
        0   u64  address: of the value, or of the function
        8   u64  expected value, zero-extended; of a call: where its arguments stand, from the table's start
        16  u64  new value
        24  u32  width in bytes (1, 4 or 8)
        28  u32  kind: 0 check only, 1 store, 2 cmpxchg (width 4), 3 call, 4 call that must return 0 (an int)
    then the arguments, six u64 a call, and the strings that some of them point to

1. The lock is taken, or nothing is done.
2. Every expected value is compared; at one difference nothing is written and nothing called. Values of stores are
   not compared again after the calls before them; a cmpxchg compares once more.
3. The entries are made in their order. A write that fails, or a call that must return 0 and does not, undoes
   the writes before it (a call is not undone).
4. The lock is given back.

Every read and store goes through copy_{from,to}_kernel_nofault, so that a bad address is an answer and not an
oops under the lock; a cmpxchg follows a read of the same address that succeeded.

The answer, as -errno, is beyond every errno of the kernel; i is the entry that it is about:

    2400      all made
    1024      the lock is held: nothing done
    1280 + i  another value than expected: nothing written
    1536 + i  the address cannot be read: nothing written
    1792 + i  the address cannot be written: the writes before it were undone
    2048 + i  cmpxchg met another value: the writes before it were undone
    2560 + i  the call did not return 0: the writes before it were undone
    2816 + i  so it was with a later entry, and this write could not be undone
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Optional, Union

from lkm.errors import LkmError
from lkm.rescue.plan import Call, Edit, EditKind, Step
from lkm.rescue.request import MAX_ARGUMENTS

__all__ = ["HelperAnswer", "HelperOutcome", "Table", "decode_answer", "operations", "render_table"]

MAX_ENTRIES = 255
HEADER = struct.Struct("<5QII")
ENTRY = struct.Struct("<QQQII")
KINDS = {EditKind.CHECK: 0, EditKind.STORE: 1, EditKind.CMPXCHG: 2}
CALL, CALL_ZERO = 3, 4


class HelperOutcome(Enum):
    """What the helper answers."""

    WRITTEN = "written"
    LOCK_HELD = "the lock is held"
    DIFFERS = "another value than expected"
    UNREADABLE = "the address cannot be read"
    UNWRITABLE = "the address cannot be written"
    CHANGED = "the value changed at the last moment"
    CALL_FAILED = "the call did not succeed"
    NOT_UNDONE = "a write could not be undone"
    NOT_RUN = "the helper did not run"
    DIED = "the helper died in a call"
    BLOCKS = "the helper has not come back"


class HelperAnswer(NamedTuple):
    """The outcome, and the index of the operation that it is about (None where it is about none)."""

    outcome: HelperOutcome
    operation: Optional[int] = None


_ANSWERS = (
    (1280, HelperOutcome.DIFFERS),
    (1536, HelperOutcome.UNREADABLE),
    (1792, HelperOutcome.UNWRITABLE),
    (2048, HelperOutcome.CHANGED),
    (2560, HelperOutcome.CALL_FAILED),
    (2816, HelperOutcome.NOT_UNDONE),
)


def decode_answer(errno: int) -> HelperAnswer:
    """The helper's answer from the errno of its load. Any other errno is the kernel's: it did not run."""
    if errno == 2400:
        return HelperAnswer(HelperOutcome.WRITTEN)
    if errno == 1024:
        return HelperAnswer(HelperOutcome.LOCK_HELD)
    for base, outcome in _ANSWERS:
        if base <= errno <= base + MAX_ENTRIES:
            return HelperAnswer(outcome, errno - base)
    return HelperAnswer(HelperOutcome.NOT_RUN)


def operations(step: Step) -> tuple[Union[Edit, Call], ...]:
    """What the helper does for a step, in its order: checks, calls, writes, calls."""
    return (*step.checks, *step.before, *step.writes, *step.after)


class Table(NamedTuple):
    """The bytes, and where in them the address of another place in them belongs (offset → offset)."""

    data: bytes
    pointers: dict[int, int]


def render_table(step: Step, symbols: Mapping[str, int]) -> Table:
    """The table for a step. `symbols` are kernel addresses by name.

    A lock that is hidden is not taken. LkmError where a function is missing, and for too many operations.
    """
    entries = operations(step)
    if len(entries) > MAX_ENTRIES:
        raise LkmError(f"{len(entries)} edits and calls: the helper takes {MAX_ENTRIES} at most")
    arguments = HEADER.size + ENTRY.size * len(entries)
    strings = arguments + 8 * MAX_ARGUMENTS * sum(isinstance(entry, Call) for entry in entries)
    rows = [_header(step, symbols)]
    values: list[bytes] = []
    texts = b""
    pointers: dict[int, int] = {}
    for entry in entries:
        if isinstance(entry, Edit):
            rows.append(ENTRY.pack(entry.address, entry.expected, entry.new, entry.width, KINDS[entry.kind]))
            continue
        here = arguments + 8 * MAX_ARGUMENTS * len(values)
        rows.append(ENTRY.pack(entry.address, here, 0, 0, CALL_ZERO if entry.must_return_zero else CALL))
        for index, argument in enumerate(entry.arguments):
            if argument.text is not None:
                pointers[here + 8 * index] = strings + len(texts)
                texts += argument.text.encode() + b"\0"
        numbers = [argument.value for argument in entry.arguments]
        values.append(struct.pack(f"<{MAX_ARGUMENTS}Q", *numbers, *[0] * (MAX_ARGUMENTS - len(numbers))))
    return Table(b"".join([*rows, *values, texts]), pointers)


def _header(step: Step, symbols: Mapping[str, int]) -> bytes:
    access = [_address(symbols, name) for name in ("copy_from_kernel_nofault", "copy_to_kernel_nofault")]
    lock = symbols.get(step.lock.symbol, 0)
    if not lock and not step.lock.may_be_hidden:
        _address(symbols, step.lock.symbol)
    functions = [_address(symbols, name) for name in step.lock.functions] if lock else []
    trylock, unlock = functions or (0, 0)
    return HEADER.pack(trylock, lock, unlock, *access, len(operations(step)), 0)


def _address(symbols: Mapping[str, int], name: str) -> int:
    address = symbols.get(name, 0)
    if not address:
        raise LkmError(
            f"the address of {name} is not known",
            remedy="the helper needs /proc/kallsyms: be root, and set kernel.kptr_restrict to 1 or 0",
        )
    return address
