# SPDX-License-Identifier: MIT
"""`Plan`: what a rescue would write and do, as a value that can be printed, saved, compared and executed.

A plan has no time and no random part: the same snapshot gives the same plan, and `--dry-run` prints exactly
the object that is executed.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NamedTuple, Optional

from lkm.diagnosis.findings import Verdict
from lkm.errors import ParseError
from lkm.names import ModuleName
from lkm.rescue.request import MAX_ARGUMENTS, Request
from lkm.values import Address, decode, encode

__all__ = ["Argument", "Call", "Edit", "EditKind", "Lock", "Plan", "Step", "StepKind", "differences"]

SCHEMA = "lkm.plan/1"


class EditKind(Enum):
    """How the helper treats an entry of its table."""

    CHECK = "check"
    STORE = "store"
    CMPXCHG = "cmpxchg"


class Edit(NamedTuple):
    """One conditional edit: `width` bytes at `address` must be `expected`, and become `new`."""

    field: str
    address: Address
    width: int
    expected: Address
    new: Address
    kind: EditKind

    def __str__(self) -> str:
        if self.kind is EditKind.CHECK:
            return f"{self.field} at {self.address:#x}: {self.expected:#x}"
        return f"{self.field} at {self.address:#x}: {self.expected:#x} → {self.new:#x}"


class Argument(NamedTuple):
    """An argument of a call: a 64-bit value, or the address of a copy of `text`. `shown`: as it was given."""

    value: Address = 0
    text: Optional[str] = None
    shown: str = ""

    def __str__(self) -> str:
        value = json.dumps(self.text) if self.text is not None else f"{self.value:#x}"
        return f"{self.shown} = {value}" if self.shown and self.shown != value else value


class Call(NamedTuple):
    """A call of a kernel function by the helper. `must_return_zero`: anything else (an int) is a failure."""

    function: str
    address: Address
    arguments: tuple[Argument, ...] = ()
    must_return_zero: bool = False

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


class Lock(Enum):
    """What the helper holds while it works; taken by trylock, and given back."""

    MODULE_MUTEX = "module_mutex"
    IDEM_LOCK = "idem_lock"
    IDEM_LOCK_INLINE = "idem_lock inline"  # by the helper's own instructions
    NONE = "none"

    @property
    def symbol(self) -> str:
        """The lock's name in the kernel; "" for none."""
        return _LOCK_SYMBOLS[self]

    @property
    def functions(self) -> tuple[str, ...]:
        """The kernel functions that take and release it; none where the helper does that itself."""
        return _LOCK_FUNCTIONS[self]

    @property
    def may_be_hidden(self) -> bool:
        """Whether the helper does without it where kallsyms does not have it, and relies on what it expects.

        A list is never edited without its lock.
        """
        return self.symbol != Lock.IDEM_LOCK.symbol


_LOCK_SYMBOLS = {
    Lock.MODULE_MUTEX: "module_mutex",
    Lock.IDEM_LOCK: "idem_lock",
    Lock.IDEM_LOCK_INLINE: "idem_lock",
    Lock.NONE: "",
}
_LOCK_FUNCTIONS: dict[Lock, tuple[str, ...]] = {
    Lock.MODULE_MUTEX: ("mutex_trylock", "mutex_unlock"),
    Lock.IDEM_LOCK: ("_raw_spin_trylock", "_raw_spin_unlock"),
    Lock.IDEM_LOCK_INLINE: (),
    Lock.NONE: (),
}


class StepKind(Enum):
    """What a step is for."""

    REMOVE = "remove"  # edits (none: plain removal is sound), then delete_module
    CLEAN_UP = "clean-up"  # calls that undo what the module has set up
    QUARANTINE = "quarantine"  # the name is released, the memory stays
    HEAL = "heal"  # a table of the kernel is repaired; about no module


class Step(NamedTuple):
    """What is done in one load of the helper, and then with one module.

    `findings` are the codes of its diagnosis, `exit_runs` whether a removal calls its own exit. The helper
    compares all that `edits` expect, makes the calls of `before`, the writes, and the calls of `after`.
    `new_name` is what the module is called after a quarantine, `forced` why that needs --force ("": it does not).
    """

    module: ModuleName
    address: Address
    findings: tuple[str, ...]
    verdict: Verdict
    reason: str
    remedy: str
    exit_runs: bool
    edits: tuple[Edit, ...] = ()
    kind: StepKind = StepKind.REMOVE
    lock: Lock = Lock.MODULE_MUTEX
    before: tuple[Call, ...] = ()
    after: tuple[Call, ...] = ()
    new_name: Optional[ModuleName] = None
    forced: str = ""

    @property
    def needs_helper(self) -> bool:
        """Whether a helper is loaded for it."""
        return bool(self.edits or self.before or self.after)

    @property
    def checks(self) -> tuple[Edit, ...]:
        """The values that are expected and stay."""
        return tuple(edit for edit in self.edits if edit.kind is EditKind.CHECK)

    @property
    def hides_exports(self) -> bool:
        """Whether it makes a half-made module LIVE for a moment, in which nobody may build on it."""
        return any(edit.field == "state" for edit in self.writes)

    @property
    def writes(self) -> tuple[Edit, ...]:
        """The edits that change something."""
        return tuple(edit for edit in self.edits if edit.kind is not EditKind.CHECK)


class Plan(NamedTuple):
    """Steps in order, the last for `module` itself, and what the helper needs to make their edits.

    symbols   what the helper takes its locks with and accesses memory with, by name; the locks themselves
              (absent: hidden, so not taken)
    sibling   path of the module file from which the helper is assembled
    warnings  what else is to be known before it is done
    request   what was asked for
    """

    module: ModuleName
    release: str
    machine: str
    verdict: Verdict
    steps: tuple[Step, ...]
    symbols: dict[str, Address]
    struct_size: int = 0
    sibling: str = ""
    build_id: str = ""
    warnings: tuple[str, ...] = ()
    sibling_crc: Optional[Address] = None
    request: Request = Request()

    @property
    def needs_helper(self) -> bool:
        """Whether a helper is loaded at all."""
        return any(step.needs_helper for step in self.steps)

    def to_object(self) -> dict[str, Any]:
        """For JSON; `schema` first."""
        return {"schema": SCHEMA, **encode(self)}

    @classmethod
    def from_json(cls, text: str, *, name: str) -> Plan:
        """A plan as `lkm rescue --dry-run --json` prints it: the plan itself, or the whole output with it."""
        hint = "make one with --dry-run --json"
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"{name}: not JSON ({error})", remedy=hint) from error
        if isinstance(data, dict) and isinstance(data.get("plan"), dict):
            data = data["plan"]
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise ParseError(f"{name}: not a plan (schema {SCHEMA!r} missing)", remedy=hint)
        plan = decode(cls, data, where=name)
        for step in plan.steps:
            for edit in step.edits:
                _check_edit(edit, name)
            for call in (*step.before, *step.after):
                _check_call(call, name)
        return plan

    @property
    def target(self) -> Step:
        """The step that the plan is made for: the last one about `module`, the last of all where none is."""
        own = [step for step in self.steps if step.module == self.module]
        return (own or list(self.steps))[-1]


def _check_edit(edit: Edit, name: str) -> None:
    width = edit.width
    fits = width in (1, 4, 8) and all(0 <= value < 1 << 8 * width for value in (edit.expected, edit.new))
    if not fits or not 0 <= edit.address < 1 << 64 or (edit.kind is EditKind.CMPXCHG and width != 4):
        raise ParseError(f"{name}: {edit.field}: no edit of {width} bytes is like this ({edit})")


def _check_call(call: Call, name: str) -> None:
    values = (call.address, *(argument.value for argument in call.arguments))
    if len(call.arguments) > MAX_ARGUMENTS or not all(0 <= value < 1 << 64 for value in values):
        raise ParseError(f"{name}: {call.function}: no call is like this ({call})")


def differences(recorded: Plan, current: Plan) -> tuple[str, ...]:
    """What a plan made now would have otherwise than a recorded one; empty: they are the same."""
    return tuple(_differences("", encode(recorded), encode(current)))


def _differences(where: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [
            line
            for key in keys
            for line in _differences(f"{where}.{key}".lstrip("."), old.get(key), new.get(key))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for index, (a, b) in enumerate(zip(old, new))
            for line in _differences(f"{where}[{_label(a, index)}]", a, b)
        ]
    return [] if old == new else [f"{where}: {_short(old)} in the plan, {_short(new)} now"]


def _label(item: Any, index: int) -> str:
    return str(item.get("field") or item.get("module") or index) if isinstance(item, dict) else str(index)


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, (list, dict)) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
