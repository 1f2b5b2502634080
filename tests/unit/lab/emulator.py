# SPDX-License-Identifier: MIT
"""Runs a compiled function in an emulator (unicorn) of its architecture: an oracle for what the code does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import unicorn
from unicorn import arm64_const, x86_const

from lkm.formats.elf import Machine
from lkm.lab.assembled.code import Architecture, Strings, compile_function
from lkm.lab.assembled.language import Function

CODE, STUBS, DATA, TEXTS, STACK, END = 0x400000, 0x500000, 0x600000, 0x700000, 0x800000, 0x900000
SIZE = 0x10000

X86_ARGUMENTS = tuple(
    getattr(x86_const, f"UC_X86_REG_{name}") for name in ("RDI", "RSI", "RDX", "RCX", "R8", "R9")
)
ARM_ARGUMENTS = tuple(getattr(arm64_const, f"UC_ARM64_REG_X{number}") for number in range(6))

Stub = Callable[..., int]


class Emulator:
    """One function, linked to `stubs` (Python functions of six numbers) and to the object `data`."""

    def __init__(
        self,
        function: Function,
        architecture: Architecture,
        stubs: Mapping[str, Stub] | None = None,
        data: bytes = b"",
    ) -> None:
        self.x86 = architecture.machine == Machine.X86_64
        self.stubs = dict(stubs or {})
        strings = Strings()
        code, relocations = compile_function(function, architecture, strings)
        self.code = bytearray(code)
        symbols = {name: STUBS + 16 * number for number, name in enumerate(self.stubs)}
        symbols |= {"data": DATA, Strings.section: TEXTS}
        for relocation in relocations:
            goal = symbols[relocation.symbol] + relocation.addend
            self._link(relocation.offset, relocation.type, goal)
        kind = (
            (unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
            if self.x86
            else (unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        )
        self.machine = unicorn.Uc(*kind)
        self.machine.mem_map(CODE, END + SIZE - CODE)
        for place, content in ((CODE, self.code), (DATA, data), (TEXTS, strings.data)):
            self.machine.mem_write(place, bytes(content))
        self.machine.hook_add(unicorn.UC_HOOK_CODE, self._on_stub, begin=STUBS, end=STUBS + SIZE - 1)

    def run(self, *arguments: int) -> int:
        """Call the function; what it returns, 64 bits without a sign."""
        registers = X86_ARGUMENTS if self.x86 else ARM_ARGUMENTS
        for register, argument in zip(registers, arguments):
            self.machine.reg_write(register, argument & (1 << 64) - 1)
        top = STACK + SIZE - 256
        if self.x86:
            self.machine.mem_write(top, struct.pack("<Q", END))
            self.machine.reg_write(x86_const.UC_X86_REG_RSP, top)
        else:
            self.machine.reg_write(arm64_const.UC_ARM64_REG_LR, END)
            self.machine.reg_write(arm64_const.UC_ARM64_REG_SP, top)
        self.machine.emu_start(CODE, END, count=100_000)
        stack = self.machine.reg_read(x86_const.UC_X86_REG_RSP if self.x86 else arm64_const.UC_ARM64_REG_SP)
        assert stack == top + (8 if self.x86 else 0), "the stack is not as it was"
        return int(self.machine.reg_read(self._result))

    def data(self, size: int) -> bytes:
        """The first bytes of the object."""
        return bytes(self.machine.mem_read(DATA, size))

    def text(self, address: int) -> str:
        """A NUL-terminated text in memory."""
        return bytes(self.machine.mem_read(address, 64)).split(b"\0", 1)[0].decode()

    @property
    def _result(self) -> int:
        register: int = x86_const.UC_X86_REG_RAX if self.x86 else arm64_const.UC_ARM64_REG_X0
        return register

    def _on_stub(self, machine: unicorn.Uc, address: int, size: int, user: object) -> None:
        """A call has come to a stub: run it, clobber what a callee may clobber, return."""
        stub = list(self.stubs.values())[(address - STUBS) // 16]
        registers = X86_ARGUMENTS if self.x86 else ARM_ARGUMENTS
        result = stub(*(machine.reg_read(register) for register in registers))
        for register in registers:
            machine.reg_write(register, 0xDEAD)
        machine.reg_write(self._result, result & (1 << 64) - 1)
        if self.x86:
            stack = machine.reg_read(x86_const.UC_X86_REG_RSP)
            (back,) = struct.unpack("<Q", machine.mem_read(stack, 8))
            machine.reg_write(x86_const.UC_X86_REG_RSP, stack + 8)
            machine.reg_write(x86_const.UC_X86_REG_RIP, back)
        else:
            machine.reg_write(arm64_const.UC_ARM64_REG_PC, machine.reg_read(arm64_const.UC_ARM64_REG_LR))

    def _link(self, offset: int, kind: int, goal: int) -> None:
        """Source: the psABI of x86-64, table 4.9; ELF for the Arm 64-bit Architecture, 5.7."""
        place = CODE + offset
        (word,) = struct.unpack_from("<I", self.code, offset)
        if kind in (2, 4):  # R_X86_64_PC32, R_X86_64_PLT32
            word = goal - place
        elif kind == 275:  # R_AARCH64_ADR_PREL_PG_HI21
            pages = (goal >> 12) - (place >> 12)
            word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        elif kind == 277:  # R_AARCH64_ADD_ABS_LO12_NC
            word |= (goal & 0xFFF) << 10
        elif kind == 283:  # R_AARCH64_CALL26
            word |= (goal - place) >> 2 & 0x3FFFFFF
        else:
            raise AssertionError(f"relocation {kind}")
        struct.pack_into("<I", self.code, offset, word & 0xFFFFFFFF)


def arguments_of(calls: list[Sequence[int]]) -> Stub:
    """A stub that notes its six arguments and returns how often it was called."""

    def stub(*arguments: int) -> int:
        calls.append(arguments)
        return len(calls)

    return stub
