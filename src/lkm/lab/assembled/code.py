# SPDX-License-Identifier: MIT
"""Functions → machine code: the walk over the steps, the same for each architecture.

An architecture is an `Emitter`: it has an accumulator, a stack, locals in a frame, and no cleverness. Frames are
chained by the frame pointer, by which the kernel's unwinders find their way through code that no table describes
(x86: `orc_fp_entry`, `arch/x86/kernel/unwind_orc.c`, 4.14 to 7.x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from lkm.errors import LabError
from lkm.formats.elfwriter import NewRelocation
from lkm.lab.assembled.language import (
    At,
    Block,
    Call,
    Expression,
    Function,
    If,
    Load,
    Local,
    Operator,
    Return,
    Set,
    Step,
    Store,
    While,
)

__all__ = ["MAX_ARGUMENTS", "Architecture", "Emitter", "Strings", "compile_function"]

MAX_ARGUMENTS = 6


class Strings:
    """The texts of a module, each once, and the section that they are in."""

    section = ".rodata.str"

    def __init__(self) -> None:
        self.data = bytearray()
        self._places: dict[str, int] = {}

    def add(self, text: str) -> At:
        """Where the text stands."""
        if text not in self._places:
            self._places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return At(self.section, self._places[text])


class Architecture(NamedTuple):
    """What a module of this architecture has.

    `pointer` and `relative` are the relocations of a 64-bit address and of a 32-bit distance; `extra_sections` are
    those that the kernel's loader wants to find.
    """

    machine: int
    pointer: int
    relative: int
    emitter: type[Emitter]
    extra_sections: tuple[str, ...] = ()


class Emitter(ABC):
    """Code of one function. `code` and `relocations` are what has been emitted so far."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.relocations: list[NewRelocation] = []
        self._labels: list[int] = []
        self._jumps: list[tuple[int, int]] = []

    def new_label(self) -> int:
        """A place that is not known yet."""
        self._labels.append(-1)
        return len(self._labels) - 1

    def place(self, label: int) -> None:
        """The label is here."""
        self._labels[label] = len(self.code)

    def jumps(self) -> Iterator[tuple[int, int]]:
        """Where each jump stands and where it goes, in bytes of the code."""
        return ((at, self._labels[label]) for at, label in self._jumps)

    def relocate(self, offset: int, kind: int, symbol: str, addend: int) -> None:
        """A relocation at `offset`."""
        self.relocations.append(NewRelocation(offset, kind, symbol, addend))

    def note_jump(self, label: int) -> None:
        """The instruction that comes now jumps to the label."""
        self._jumps.append((len(self.code), label))

    @abstractmethod
    def enter(self, parameters: int, slots: int) -> None:
        """Begin the function: a frame with `slots` locals, the first of which are the parameters."""

    @abstractmethod
    def leave(self) -> None:
        """Return the accumulator."""

    @abstractmethod
    def constant(self, value: int) -> None:
        """The accumulator becomes a number of 64 bits."""

    @abstractmethod
    def address(self, symbol: str, offset: int) -> None:
        """The accumulator becomes an address."""

    @abstractmethod
    def load(self, size: int, *, signed: bool) -> None:
        """The accumulator becomes what stands where it points."""

    @abstractmethod
    def store(self, size: int) -> None:
        """Write the accumulator to the address that was pushed."""

    @abstractmethod
    def load_local(self, slot: int) -> None:
        """The accumulator becomes a local."""

    @abstractmethod
    def store_local(self, slot: int) -> None:
        """A local becomes the accumulator."""

    @abstractmethod
    def push(self) -> None:
        """Push the accumulator."""

    @abstractmethod
    def pop_argument(self, number: int) -> None:
        """Pop into the register of an argument."""

    @abstractmethod
    def call(self, symbol: str, *, wide: bool) -> None:
        """Call; the accumulator becomes the result, an int of it unless `wide`."""

    @abstractmethod
    def operate(self, operator: Operator) -> None:
        """The accumulator becomes what was pushed, the operator, the accumulator."""

    @abstractmethod
    def jump(self, label: int) -> None:
        """Go on at the label."""

    @abstractmethod
    def jump_if_zero(self, label: int) -> None:
        """Go on at the label if the accumulator is 0."""

    @abstractmethod
    def oops(self) -> None:
        """A store to address 0."""

    @abstractmethod
    def finish(self) -> bytes:
        """The code, with every jump at its goal."""


class _Compiler:
    """One function on its way."""

    def __init__(self, function: Function, emitter: Emitter, strings: Strings) -> None:
        self.function = function
        self.emitter = emitter
        self.strings = strings
        names = [*function.parameters, *_locals(function.steps)]
        self.slots = {name: number for number, name in enumerate(dict.fromkeys(names))}

    def block(self, steps: Block) -> None:
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        emitter = self.emitter
        if isinstance(step, Call):
            self._call(step)
        elif isinstance(step, Set):
            self.expression(step.value)
            emitter.store_local(self.slots[step.local])
        elif isinstance(step, Store):
            self.expression(step.address)
            emitter.push()
            self.expression(step.value)
            emitter.store(step.size)
        elif isinstance(step, If):
            end = emitter.new_label()
            self.expression(step.condition)
            emitter.jump_if_zero(end)
            self.block(step.then)
            emitter.place(end)
        elif isinstance(step, While):
            begin, end = emitter.new_label(), emitter.new_label()
            emitter.place(begin)
            self.expression(step.condition)
            emitter.jump_if_zero(end)
            self.block(step.body)
            emitter.jump(begin)
            emitter.place(end)
        elif isinstance(step, Return):
            self.expression(step.value)
            emitter.leave()
        else:
            emitter.oops()

    def expression(self, value: Expression) -> None:
        emitter = self.emitter
        if isinstance(value, int):
            emitter.constant(value)
        elif isinstance(value, str):
            emitter.address(*self.strings.add(value))
        elif isinstance(value, At):
            emitter.address(*value)
        elif isinstance(value, Local):
            if value.name not in self.slots:
                raise LabError(f"{self.function.name}: there is no local {value.name}")
            emitter.load_local(self.slots[value.name])
        elif isinstance(value, Load):
            self.expression(value.address)
            emitter.load(value.size, signed=value.signed)
        else:
            self.expression(value.left)
            emitter.push()
            self.expression(value.right)
            emitter.operate(value.operator)

    def _call(self, step: Call) -> None:
        if len(step.arguments) > MAX_ARGUMENTS:
            raise LabError(f"{self.function.name}: {step.function} has more than {MAX_ARGUMENTS} arguments")
        for argument in step.arguments:
            self.expression(argument)
            self.emitter.push()
        for number in reversed(range(len(step.arguments))):
            self.emitter.pop_argument(number)
        self.emitter.call(step.function, wide=step.wide)
        if step.into:
            self.emitter.store_local(self.slots[step.into])


def compile_function(
    function: Function, architecture: Architecture, strings: Strings
) -> tuple[bytes, list[NewRelocation]]:
    """The code of a function, and its relocations, counted from its begin. Texts go to `strings`."""
    emitter = architecture.emitter()
    compiler = _Compiler(function, emitter, strings)
    emitter.enter(len(function.parameters), len(compiler.slots))
    compiler.block(function.steps)
    emitter.constant(0)
    emitter.leave()
    return emitter.finish(), emitter.relocations


def _locals(steps: Block) -> Iterator[str]:
    """The names that steps give values to."""
    for step in steps:
        if isinstance(step, Call) and step.into:
            yield step.into
        elif isinstance(step, Set):
            yield step.local
        elif isinstance(step, If):
            yield from _locals(step.then)
        elif isinstance(step, While):
            yield from _locals(step.body)
