# SPDX-License-Identifier: MIT
"""Code for arm64. The accumulator is x9, locals are below x29.

Functions begin with `bti c`, since the kernel calls them through pointers (CONFIG_ARM64_BTI_KERNEL, 5.8).
Source: the Arm Architecture Reference Manual, chapter C6; AAPCS64 and its ELF supplement for the relocations.
"""

from __future__ import annotations

import struct

from lkm.errors import LabError
from lkm.formats.elf import R_AARCH64_ABS64, Machine
from lkm.lab.assembled.code import Architecture, Emitter
from lkm.lab.assembled.language import Operator

__all__ = ["ARM64"]

R_AARCH64_PREL32, R_AARCH64_ADR_PREL_PG_HI21, R_AARCH64_ADD_ABS_LO12_NC, R_AARCH64_CALL26 = 261, 275, 277, 283
MAX_SLOTS = 32  # a local is at most 256 bytes below x29

LOADS = {
    (1, False): 0x39400129, (2, False): 0x79400129, (4, False): 0xB9400129, (8, False): 0xF9400129,
    (1, True): 0x39800129, (2, True): 0x79800129, (4, True): 0xB9800129, (8, True): 0xF9400129,
}  # fmt: skip
"""x9 from [x9]."""

STORES = {1: 0x39000149, 2: 0x79000149, 4: 0xB9000149, 8: 0xF9000149}
"""x9 to [x10]."""

_COMPARE = 0xEB09015F  # cmp x10, x9
OPERATIONS = {
    Operator.ADD: (0x8B090149,),
    Operator.SUBTRACT: (0xCB090149,),
    Operator.MULTIPLY: (0x9B097D49,),
    Operator.XOR: (0xCA090149,),
    Operator.OR: (0xAA090149,),
    Operator.AND: (0x8A090149,),
    Operator.EQUAL: (_COMPARE, 0x9A9F17E9),  # cset x9, eq
    Operator.LESS: (_COMPARE, 0x9A9FA7E9),  # cset x9, lt
    Operator.ABOVE_OR_EQUAL: (_COMPARE, 0x9A9F37E9),  # cset x9, hs
}
"""On x10 and x9."""


class _Arm64(Emitter):
    def _emit(self, *words: int) -> None:
        self.code += struct.pack(f"<{len(words)}I", *words)

    def enter(self, parameters: int, slots: int) -> None:
        if slots > MAX_SLOTS:
            raise LabError(f"{slots} locals: an arm64 frame here has room for {MAX_SLOTS}")
        self._emit(0xD503245F, 0xA9BF7BFD, 0x910003FD)  # bti c; stp x29, x30, [sp, #-16]!; mov x29, sp
        self._emit(0xD10003FF | (8 * slots + 15) // 16 * 16 << 10)  # sub sp, sp, #…
        for number in range(parameters):
            self._emit(0xF8000000 | _slot(number) | 29 << 5 | number)  # stur xN, [x29, #…]

    def leave(self) -> None:
        self._emit(0xAA0903E0, 0x910003BF, 0xA8C17BFD, 0xD65F03C0)
        # mov x0, x9; mov sp, x29; ldp x29, x30, [sp], #16; ret

    def constant(self, value: int) -> None:
        value &= (1 << 64) - 1
        self._emit(0xD2800009 | (value & 0xFFFF) << 5)  # movz x9, #…
        for part in (1, 2, 3):
            bits = value >> 16 * part & 0xFFFF
            if bits:
                self._emit(0xF2800009 | part << 21 | bits << 5)  # movk x9, #…, lsl #…

    def address(self, symbol: str, offset: int) -> None:
        self.relocate(len(self.code), R_AARCH64_ADR_PREL_PG_HI21, symbol, offset)
        self.relocate(len(self.code) + 4, R_AARCH64_ADD_ABS_LO12_NC, symbol, offset)
        self._emit(0x90000009, 0x91000129)  # adrp x9, …; add x9, x9, #…

    def load(self, size: int, *, signed: bool) -> None:
        self._emit(LOADS[size, signed])

    def store(self, size: int) -> None:
        self._emit(0xF84107EA, STORES[size])  # ldr x10, [sp], #16

    def load_local(self, slot: int) -> None:
        self._emit(0xF8400000 | _slot(slot) | 29 << 5 | 9)

    def store_local(self, slot: int) -> None:
        self._emit(0xF8000000 | _slot(slot) | 29 << 5 | 9)

    def push(self) -> None:
        self._emit(0xF81F0FE9)  # str x9, [sp, #-16]!

    def pop_argument(self, number: int) -> None:
        self._emit(0xF84107E0 | number)  # ldr xN, [sp], #16

    def call(self, symbol: str, *, wide: bool) -> None:
        self.relocate(len(self.code), R_AARCH64_CALL26, symbol, 0)
        self._emit(0x94000000, 0xAA0003E9 if wide else 0x93407C09)  # bl; mov x9, x0 or sxtw x9, w0

    def operate(self, operator: Operator) -> None:
        self._emit(0xF84107EA, *OPERATIONS[operator])

    def jump(self, label: int) -> None:
        self.note_jump(label)
        self._emit(0x14000000)

    def jump_if_zero(self, label: int) -> None:
        self.note_jump(label)
        self._emit(0xB4000009)  # cbz x9

    def oops(self) -> None:
        self._emit(0xD2800009, 0x5280002A, 0xB900012A)  # mov x9, #0; mov w10, #1; str w10, [x9]

    def finish(self) -> bytes:
        for at, goal in self.jumps():
            (word,) = struct.unpack_from("<I", self.code, at)
            distance = (goal - at) // 4
            field = distance & 0x3FFFFFF if word == 0x14000000 else (distance & 0x7FFFF) << 5
            struct.pack_into("<I", self.code, at, word | field)
        return bytes(self.code)


def _slot(number: int) -> int:
    """The field of a local's offset from x29, 9 bits with a sign."""
    return (-8 * (number + 1) & 0x1FF) << 12


ARM64 = Architecture(
    Machine.AARCH64,
    R_AARCH64_ABS64,
    R_AARCH64_PREL32,
    _Arm64,
    (".plt", ".init.plt", ".text.ftrace_trampoline"),
)
