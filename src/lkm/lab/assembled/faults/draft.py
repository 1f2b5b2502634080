# SPDX-License-Identifier: MIT
"""What most faults have: an init, an exit, messages with the module's name, the parameter `die`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from lkm.lab.assembled.data import THIS_MODULE
from lkm.lab.assembled.language import (
    At,
    Block,
    Call,
    Export,
    Expression,
    Function,
    If,
    Load,
    Local,
    Module,
    Object,
    Oops,
    Parameter,
    Raw,
    Return,
    Step,
)
from lkm.lab.assembled.target import Target
from lkm.names import module_name

__all__ = ["DIE", "DIE_IF_ASKED", "OWNER", "Draft", "flag", "number", "return_error", "word"]

OWNER = At(THIS_MODULE)

DIE = Parameter(
    "die", "param_ops_bool", "die", 0o444, "bool", "1: init dies after it registered; 0: it succeeds"
)
DIE_IF_ASKED: Block = (If(Load(At("die"), 1), (Oops(),)),)


class Draft(NamedTuple):
    """A module of that name, for that kernel, in the making."""

    name: str
    target: Target

    def say(self, text: str, *arguments: Expression) -> Call:
        """What `pr_info` does. printk is called `_printk` from 5.15 on."""
        line = f"\0016{module_name(self.name)}: {text}\n"
        return Call(self.target.first("_printk", "printk"), (line, *arguments))

    def module(
        self,
        description: str,
        init: Block,
        exit_steps: Optional[Block] = None,
        *,
        functions: Sequence[Function] = (),
        objects: Sequence[Union[Object, Raw]] = (),
        parameters: Sequence[Parameter] = (),
        exports: Sequence[Export] = (),
        depends: str = "",
    ) -> Module:
        """The module; without steps for an exit it has none."""
        prefix = module_name(self.name)
        entries = [Function(f"{prefix}_init", init, section=".init.text")]
        if exit_steps is not None:
            entries.append(Function(f"{prefix}_exit", exit_steps, section=".exit.text"))
        return Module(
            name=self.name,
            description=description,
            functions=(*functions, *entries),
            init=entries[0].name,
            exit=entries[1].name if exit_steps is not None else "",
            objects=tuple(objects),
            parameters=tuple(parameters),
            exports=tuple(exports),
            depends=depends,
        )

    def left(
        self,
        what: str,
        init: Block,
        exit_steps: Block,
        *,
        functions: Sequence[Function] = (),
        objects: Sequence[Union[Object, Raw]] = (),
        parameters: Sequence[Parameter] = (),
    ) -> Module:
        """A module that registers something, and then dies unless it is told not to."""
        return self.module(
            f"Leaves {what}",
            (*init, *DIE_IF_ASKED),
            exit_steps,
            functions=functions,
            objects=(flag("die", value=True), *objects),
            parameters=(DIE, *parameters),
        )


def word(name: str, value: int = 0, size: int = 4) -> Raw:
    """A variable."""
    return Raw(name, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))


def flag(name: str, *, value: bool = False) -> Raw:
    """A bool."""
    return Raw(name, struct.pack("<?", value))


def number(name: str, description: str, *, signed: bool = False) -> Parameter:
    """A parameter that is a number, in a variable of the same name."""
    kind = "int" if signed else "uint"
    return Parameter(name, f"param_ops_{kind}", name, 0o444, kind, description)


def return_error(local: str) -> Step:
    """Leave with what a call gave, if that is not 0."""
    return If(Local(local), (Return(Local(local)),))
