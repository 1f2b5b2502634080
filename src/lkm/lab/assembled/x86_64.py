# SPDX-License-Identifier: MIT
"""Code for x86_64. The accumulator is rax, locals are below rbp.

Functions begin with `endbr64`, since the kernel calls them through pointers (CONFIG_X86_KERNEL_IBT, 5.18).
Source: Intel's manual, volume 2; the System V ABI for the argument registers and relocations.
"""

from __future__ import annotations

import struct

from lkm.formats.elf import R_X86_64_64, Machine
from lkm.lab.assembled.code import Architecture, Emitter
from lkm.lab.assembled.language import Operator

__all__ = ["X86_64"]

R_X86_64_PC32, R_X86_64_PLT32 = 2, 4
ARGUMENTS = (7, 6, 2, 1, 8, 9)  # rdi rsi rdx rcx r8 r9

LOADS = {
    (1, False): "0fb600", (2, False): "0fb700", (4, False): "8b00", (8, False): "488b00",
    (1, True): "480fbe00", (2, True): "480fbf00", (4, True): "486300", (8, True): "488b00",
}  # fmt: skip
STORES = {1: "8801", 2: "668901", 4: "8901", 8: "488901"}
"""To [rcx]."""

_COMPARE, _WIDEN = "4839c8", "0fb6c0"  # cmp rax, rcx; movzx eax, al
OPERATIONS = {
    Operator.ADD: "4801c8",
    Operator.SUBTRACT: "4829c8",
    Operator.MULTIPLY: "480fafc1",
    Operator.XOR: "4831c8",
    Operator.OR: "4809c8",
    Operator.AND: "4821c8",
    Operator.EQUAL: f"{_COMPARE}0f94c0{_WIDEN}",
    Operator.LESS: f"{_COMPARE}0f9cc0{_WIDEN}",
    Operator.ABOVE_OR_EQUAL: f"{_COMPARE}0f93c0{_WIDEN}",
}
"""On rax and rcx."""


class _X8664(Emitter):
    def _emit(self, code: str, number: int | None = None) -> None:
        """Instruction bytes in hexadecimal, and a signed number of 32 bits behind them."""
        self.code += bytes.fromhex(code)
        if number is not None:
            self.code += struct.pack("<i", number)

    def enter(self, parameters: int, slots: int) -> None:
        self._emit("f30f1efa554889e5")  # endbr64; push rbp; mov rbp, rsp
        self._emit("4881ec", (8 * slots + 15) // 16 * 16)  # sub rsp, …
        for number, register in enumerate(ARGUMENTS[:parameters]):
            self._emit(
                f"{0x4C if register > 7 else 0x48:02x}89{0x85 | (register & 7) << 3:02x}", _slot(number)
            )

    def leave(self) -> None:
        self._emit("c9c3cc")  # leave; ret; int3, against straight-line speculation

    def constant(self, value: int) -> None:
        if -(1 << 31) <= value < 1 << 31:
            self._emit("48c7c0", value)
        else:
            self.code += bytes.fromhex("48b8") + (value & (1 << 64) - 1).to_bytes(8, "little")

    def address(self, symbol: str, offset: int) -> None:
        self._emit("488d05", 0)  # lea rax, [rip + …]
        self.relocate(len(self.code) - 4, R_X86_64_PC32, symbol, offset - 4)

    def load(self, size: int, *, signed: bool) -> None:
        self._emit(LOADS[size, signed])

    def store(self, size: int) -> None:
        self._emit(f"59{STORES[size]}")

    def load_local(self, slot: int) -> None:
        self._emit("488b85", _slot(slot))

    def store_local(self, slot: int) -> None:
        self._emit("488985", _slot(slot))

    def push(self) -> None:
        self._emit("50")

    def pop_argument(self, number: int) -> None:
        register = ARGUMENTS[number]
        self._emit(f"{'41' if register > 7 else ''}{0x58 | register & 7:02x}")

    def call(self, symbol: str, *, wide: bool) -> None:
        self._emit("e8", 0)
        self.relocate(len(self.code) - 4, R_X86_64_PLT32, symbol, -4)
        if not wide:
            self._emit("4898")  # cdqe

    def operate(self, operator: Operator) -> None:
        self._emit(f"4889c158{OPERATIONS[operator]}")  # mov rcx, rax; pop rax

    def jump(self, label: int) -> None:
        self._emit("e9")
        self.note_jump(label)
        self.code += bytes(4)

    def jump_if_zero(self, label: int) -> None:
        self._emit("4885c00f84")  # test rax, rax; jz
        self.note_jump(label)
        self.code += bytes(4)

    def oops(self) -> None:
        self._emit("31c0c70001000000")  # xor eax, eax; mov dword [rax], 1

    def finish(self) -> bytes:
        for at, goal in self.jumps():
            struct.pack_into("<i", self.code, at, goal - (at + 4))
        return bytes(self.code)


def _slot(number: int) -> int:
    return -8 * (number + 1)


X86_64 = Architecture(Machine.X86_64, R_X86_64_64, R_X86_64_PC32, _X8664)
