# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper's machine code, one pair of files an architecture: `ARCH.S` is the source, `ARCH.py` its bytes.

`python -m lkm.rescue.helper.rebuild` makes the bytes from the source (needs the `as` of binutils); a test
makes them anew and compares. Another architecture is another pair and a line in `MACHINES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.formats.elf import Machine

__all__ = ["MACHINES", "TAKES_QUEUED_LOCKS", "CodeRelocation", "HelperCode", "helper_code"]


class CodeRelocation(NamedTuple):
    """Where the code needs the address of `symbol`: `.data`, the table."""

    offset: int
    type: int
    symbol: str
    addend: int


class HelperCode(NamedTuple):
    """`machine` is the e_machine, `pointer_relocation` the type that stores a 64-bit address,
    `extra_sections` what the module loader wants to find on this architecture, as far as the kernel's own
    modules have it (arch/arm64/kernel/module-plts.c, module_frob_arch_sections), `takes_queued_locks` whether it
    takes a lock itself for which its table has no functions; without that it would take none."""

    machine: int
    pointer_relocation: int
    text: bytes
    relocations: tuple[CodeRelocation, ...]
    extra_sections: tuple[str, ...] = ()
    takes_queued_locks: bool = False


# uname -m → e_machine, relocation for a pointer (R_X86_64_64, R_AARCH64_ABS64), extra sections
MACHINES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "x86_64": (Machine.X86_64, 1, ()),
    "aarch64": (
        Machine.AARCH64,
        257,
        # The last one is in modules of 6.12.117 and 7.3, not of 6.1.
        (".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline"),
    ),
}

TAKES_QUEUED_LOCKS = frozenset({"aarch64"})
"""Where the helper takes a queued spinlock itself, if the kernel has no functions for that."""


def helper_code(machine: str) -> HelperCode:
    """The code for `machine` (`uname -m`). LkmError for one that has none."""
    if machine not in MACHINES:
        raise LkmError(
            f"no helper for {machine}: a rescue that needs edits is made for {', '.join(MACHINES)}",
            remedy="diagnosis and plain removal work here too",
        )
    number, pointer, extra = MACHINES[machine]
    code = import_module(f"lkm.rescue.helper.{machine}")
    relocations = tuple(CodeRelocation(*item) for item in code.RELOCATIONS)
    return HelperCode(number, pointer, code.TEXT, relocations, extra, machine in TAKES_QUEUED_LOCKS)
