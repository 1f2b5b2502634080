# SPDX-License-Identifier: MIT
"""The language that faults are written in: values that describe functions, data, parameters and exports.

A function is a tuple of steps. Steps have expressions: a number, a text (the address of a NUL-terminated copy of
it), `At` a symbol, a `Local`, a `Load` from memory or an `Op`. All expressions are 64 bits wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Union

__all__ = [
    "At", "Block", "Call", "Export", "Expression", "Function", "If", "Load", "Local", "Module", "Object", "Oops",
    "Op", "Operator", "Parameter", "Raw", "Return", "Self", "Set", "Step", "Store", "Value", "While", "call",
    "callee_names", "is_error", "say", "struct_object",
]  # fmt: skip


class At(NamedTuple):
    """The address of a function or object, of this module or of the kernel, plus `offset` bytes."""

    symbol: str
    offset: int = 0


class Local(NamedTuple):
    """A parameter of the function, or what a step stored under this name."""

    name: str


class Load(NamedTuple):
    """What stands in memory at an address, `size` bytes of it."""

    address: Expression
    size: int = 4
    signed: bool = False


class Operator(Enum):
    """`LESS` compares signed numbers, `ABOVE_OR_EQUAL` unsigned ones; both and `EQUAL` give 1 or 0."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    XOR = "^"
    OR = "|"
    AND = "&"
    EQUAL = "=="
    LESS = "<"
    ABOVE_OR_EQUAL = ">="


class Op(NamedTuple):
    """Two expressions and what is made of them."""

    left: Expression
    operator: Operator
    right: Expression


Expression = Union[int, str, At, Local, Load, Op]


class Call(NamedTuple):
    """Call a function of this module or of the kernel, with at most six arguments.

    The result goes to the local `into`, if there is one; `wide`: it is a pointer or long, else an int.
    """

    function: str
    arguments: tuple[Expression, ...]
    into: str = ""
    wide: bool = False


class Set(NamedTuple):
    """Give a local a value."""

    local: str
    value: Expression


class Store(NamedTuple):
    """Write the lowest `size` bytes of a value to memory."""

    address: Expression
    value: Expression
    size: int = 4


class If(NamedTuple):
    """Do `then` if the condition is not 0."""

    condition: Expression
    then: Block


class While(NamedTuple):
    """Do `body` again and again as long as the condition is not 0."""

    condition: Expression
    body: Block


class Return(NamedTuple):
    """Leave the function; one that comes to its end returns 0."""

    value: Expression = 0


class Oops(NamedTuple):
    """A store to address 0, as a real driver does it: the task dies."""


Step = Union[Call, Set, Store, If, While, Return, Oops]
Block = tuple[Step, ...]


class Function(NamedTuple):
    """A function. One in `.init.text` is freed after init."""

    name: str
    steps: Block
    parameters: tuple[str, ...] = ()
    section: str = ".text"


class Self(NamedTuple):
    """As a field's value: the address of a member of this very object, by its path."""

    path: str


Value = Union[int, bytes, str, At, Self]
"""Of a field: a number; bytes as they are; a text, whose address it is; an address."""


class Object(NamedTuple):
    """Structs of the kernel, all of the type `struct`, one after the other; fields are named as `Btf.offset` does."""

    name: str
    struct: str
    elements: tuple[Mapping[str, Value], ...]


class Raw(NamedTuple):
    """Bytes, aligned to 8."""

    name: str
    data: bytes


class Parameter(NamedTuple):
    """A module parameter. `operations` is a `struct kernel_param_ops`, `variable` what it is about (or empty)."""

    name: str
    operations: str
    variable: str
    permissions: int = 0o444
    type: str = ""
    description: str = ""


class Export(NamedTuple):
    """An exported function."""

    function: str
    gpl: bool = True


class Module(NamedTuple):
    """A module. `init` and `exit` are names of functions, `exit` empty for none."""

    name: str
    description: str
    functions: tuple[Function, ...]
    init: str
    exit: str = ""
    objects: tuple[Union[Object, Raw], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    exports: tuple[Export, ...] = ()
    depends: str = ""


def call(function: str, *arguments: Expression, into: str = "", wide: bool = False) -> Call:
    """`Call`, with the arguments in line."""
    return Call(function, arguments, into, wide)


def say(printk: str, module: str, text: str, *arguments: Expression) -> Call:
    """What `pr_info` does: a line at level 6 with the module's name before it."""
    return Call(printk, (f"\0016{module}: {text}\n", *arguments))


def struct_object(name: str, struct: str, fields: Mapping[str, Value] | None = None) -> Object:
    """One struct."""
    return Object(name, struct, (fields or {},))


def is_error(pointer: Expression) -> Op:
    """Whether it is one of the last 4095 addresses, as IS_ERR in `include/linux/err.h` has it."""
    return Op(pointer, Operator.ABOVE_OR_EQUAL, -4095)


def callee_names(block: Block) -> set[str]:
    """The functions that are called somewhere in the steps."""
    found: set[str] = set()
    for step in block:
        if isinstance(step, Call):
            found.add(step.function)
        elif isinstance(step, If):
            found |= callee_names(step.then)
        elif isinstance(step, While):
            found |= callee_names(step.body)
    return found
