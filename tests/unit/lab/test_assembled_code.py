# SPDX-License-Identifier: MIT
"""The code generators: each language construct does in an emulator what the language says, on both architectures."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import capstone
import pytest
import unicorn

from lkm.errors import LabError
from lkm.formats.elf import Machine
from lkm.lab.assembled.arm64 import ARM64
from lkm.lab.assembled.code import Architecture, Strings, compile_function
from lkm.lab.assembled.language import (
    At,
    Call,
    Expression,
    Function,
    If,
    Load,
    Local,
    Oops,
    Op,
    Operator,
    Return,
    Set,
    Step,
    Store,
    While,
    call,
    is_error,
)
from lkm.lab.assembled.x86_64 import X86_64
from tests.unit.lab.emulator import DATA, Emulator, arguments_of

MASK = (1 << 64) - 1

both = pytest.mark.parametrize("architecture", [X86_64, ARM64], ids=["x86_64", "arm64"])


def value(architecture: Architecture, expression: Expression, *arguments: int, data: bytes = b"") -> int:
    """What the expression is, in a function whose parameters are a and b."""
    function = Function("f", (Return(expression),), ("a", "b"))
    return Emulator(function, architecture, data=data).run(*arguments)


@both
@pytest.mark.parametrize(
    "number",
    [
        0,
        1,
        -1,
        255,
        (1 << 31) - 1,
        -(1 << 31),
        1 << 31,
        1 << 63,
        0x123456789ABCDEF0,
        -0x123456789,
        0xFFFFFFFE00000,
    ],
)
def test_a_number(architecture: Architecture, number: int) -> None:
    assert value(architecture, number) == number & MASK


@both
@pytest.mark.parametrize(
    ("operator", "left", "right", "result"),
    [
        (Operator.ADD, 40, 2, 42),
        (Operator.ADD, MASK, 1, 0),
        (Operator.SUBTRACT, 1, 2, MASK),
        (Operator.MULTIPLY, 3600, 1_000_000, 3_600_000_000),
        (Operator.XOR, 0xF0, 0xFF, 0x0F),
        (Operator.OR, 0xF0, 0x0F, 0xFF),
        (Operator.AND, 0x1234, 0xFF, 0x34),
        (Operator.EQUAL, 7, 7, 1),
        (Operator.EQUAL, 7, 8, 0),
        (Operator.LESS, 1, 2, 1),
        (Operator.LESS, 2, 2, 0),
        (Operator.LESS, MASK, 0, 1),
        (Operator.ABOVE_OR_EQUAL, MASK, 1, 1),
        (Operator.ABOVE_OR_EQUAL, 1, MASK, 0),
        (Operator.ABOVE_OR_EQUAL, 5, 5, 1),
    ],
)
def test_an_operation(
    architecture: Architecture, operator: Operator, left: int, right: int, result: int
) -> None:
    assert value(architecture, Op(Local("a"), operator, Local("b")), left, right) == result


@both
def test_operations_nest_on_either_side(architecture: Architecture) -> None:
    a, b = Local("a"), Local("b")
    left = Op(Op(a, Operator.SUBTRACT, b), Operator.SUBTRACT, 1)
    right = Op(a, Operator.SUBTRACT, Op(b, Operator.SUBTRACT, 1))
    assert (value(architecture, left, 10, 3), value(architecture, right, 10, 3)) == (6, 8)


@both
@pytest.mark.parametrize(
    ("pointer", "result"), [(MASK, 1), (MASK - 4094, 1), (MASK - 4095, 0), (DATA, 0), (0, 0)]
)
def test_an_error_pointer(architecture: Architecture, pointer: int, result: int) -> None:
    assert value(architecture, is_error(Local("a")), pointer) == result


@both
@pytest.mark.parametrize(
    ("size", "signed", "result"),
    [
        (1, False, 0xF8), (2, False, 0xF9F8), (4, False, 0xFBFAF9F8), (8, False, 0xFFFEFDFCFBFAF9F8),
        (1, True, 0xFFFFFFFFFFFFFFF8), (2, True, 0xFFFFFFFFFFFFF9F8), (4, True, 0xFFFFFFFFFBFAF9F8),
        (8, True, 0xFFFEFDFCFBFAF9F8),
    ],
)  # fmt: skip
def test_a_load(architecture: Architecture, size: int, *, signed: bool, result: int) -> None:
    data = bytes(range(0xF0, 0x100))
    assert value(architecture, Load(At("data", 8), size, signed), data=data) == result


@both
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_store_writes_so_many_bytes_and_no_more(architecture: Architecture, size: int) -> None:
    function = Function("f", (Store(At("data", 8), Local("a"), size),), ("a",))
    emulator = Emulator(function, architecture, data=b"x" * 32)
    assert emulator.run(0x1122334455667788) == 0
    written = (0x1122334455667788).to_bytes(8, "little")[:size]
    assert emulator.data(32) == b"x" * 8 + written + b"x" * (24 - size)


@both
def test_a_call_passes_six_arguments_and_texts(architecture: Architecture) -> None:
    calls: list[Sequence[int]] = []
    arguments = ("first", At("data", 3), Local("b"), -1, Op(Local("a"), Operator.ADD, 1), "last")
    function = Function("f", (Call("stub", arguments),), ("a", "b"))
    emulator = Emulator(function, architecture, {"stub": arguments_of(calls)})
    emulator.run(41, 7)
    ((first, second, third, fourth, fifth, sixth),) = calls
    assert (emulator.text(first), second, third, fourth, fifth) == ("first", DATA + 3, 7, MASK, 42)
    assert emulator.text(sixth) == "last"


@both
def test_a_result_is_an_int_unless_it_is_wide(architecture: Architecture) -> None:
    for wide, result in ((False, MASK - 18), (True, 0x12345678FFFFFFED)):
        function = Function("f", (call("stub", into="ret", wide=wide), Return(Local("ret"))))
        emulator = Emulator(function, architecture, {"stub": lambda *_: 0x12345678FFFFFFED})
        assert emulator.run() == result


@both
def test_parameters_and_locals_outlive_calls(architecture: Architecture) -> None:
    names = ("a", "b", "c", "d", "e", "f")
    total: Expression = 0
    for name in (*names, "x"):
        total = Op(Op(total, Operator.MULTIPLY, 10), Operator.ADD, Local(name))
    steps: tuple[Step, ...] = (Set("x", 7), call("stub"), call("stub"), Return(total))
    emulator = Emulator(Function("f", steps, names), architecture, {"stub": lambda *_: 99})
    assert emulator.run(1, 2, 3, 4, 5, 6) == 1234567


@both
@pytest.mark.parametrize("times", [0, 1, 5])
def test_a_loop(architecture: Architecture, times: int) -> None:
    calls: list[Sequence[int]] = []
    steps = (
        Set("done", 0),
        While(
            Op(Local("done"), Operator.LESS, Local("times")),
            (call("stub", Local("done")), Set("done", Op(Local("done"), Operator.ADD, 1))),
        ),
        Return(Local("done")),
    )
    emulator = Emulator(Function("f", steps, ("times",)), architecture, {"stub": arguments_of(calls)})
    assert emulator.run(times) == times
    assert [row[0] for row in calls] == list(range(times))


@both
def test_a_condition_that_holds_and_one_that_does_not(architecture: Architecture) -> None:
    steps = (If(Local("a"), (If(Local("b"), (Return(3),)), Return(2))), Return(1))
    emulator = Emulator(Function("f", steps, ("a", "b")), architecture)
    assert [emulator.run(*pair) for pair in ((0, 0), (0, 1), (1 << 40, 0), (1, 1))] == [1, 1, 2, 3]


@both
def test_a_word_of_memory_is_read_each_time(architecture: Architecture) -> None:
    """A loop that waits for a word: the stub sets it at the third call."""
    calls: list[Sequence[int]] = []
    function = Function("f", (While(Op(Load(At("data")), Operator.EQUAL, 0), (call("stub"),)),))

    def stub(*_: int) -> int:
        calls.append(())
        if len(calls) == 3:
            emulator.machine.mem_write(DATA, struct.pack("<I", 1))
        return 0

    emulator = Emulator(function, architecture, {"stub": stub}, data=bytes(8))
    emulator.run()
    assert len(calls) == 3


@both
def test_an_oops_is_a_store_to_address_0(architecture: Architecture) -> None:
    emulator = Emulator(Function("f", (Oops(), Store(At("data"), 1))), architecture, data=bytes(4))
    writes: list[int] = []

    def note(_machine: object, _access: int, address: int, *_: object) -> bool:
        writes.append(address)
        return False

    emulator.machine.hook_add(unicorn.UC_HOOK_MEM_WRITE_UNMAPPED, note)
    with pytest.raises(unicorn.UcError):
        emulator.run()
    assert (writes, emulator.data(4)) == ([0], bytes(4))


@both
def test_a_function_begins_with_a_landing_pad_and_chains_its_frame(architecture: Architecture) -> None:
    """The kernel calls it through a pointer, and its unwinder goes by the frame pointer."""
    code, _ = compile_function(Function("f", (call("g"),)), architecture, Strings())
    if architecture.machine == Machine.X86_64:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        begin = ["endbr64 ", "push rbp", "mov rbp, rsp"]
    else:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        begin = ["bti c", "stp x29, x30, [sp, #-0x10]!", "mov x29, sp"]
    lines = [f"{line.mnemonic} {line.op_str}" for line in engine.disasm(code, 0)]
    assert lines[:3] == begin
    assert sum(line.size for line in engine.disasm(code, 0)) == len(code), "it can be disassembled to its end"


@both
def test_what_cannot_be_compiled_is_named(architecture: Architecture) -> None:
    with pytest.raises(LabError, match="f: there is no local x"):
        compile_function(Function("f", (Return(Local("x")),)), architecture, Strings())
    with pytest.raises(LabError, match="f: g has more than 6 arguments"):
        compile_function(Function("f", (call("g", *range(7)),)), architecture, Strings())


def test_an_arm64_frame_has_room_for_32_locals() -> None:
    steps = tuple(Set(f"x{number}", number) for number in range(32))
    assert Emulator(Function("f", (*steps, Return(Local("x31")))), ARM64).run() == 31
    with pytest.raises(LabError, match="33 locals"):
        compile_function(Function("f", (*steps, Set("more", 1))), ARM64, Strings())
