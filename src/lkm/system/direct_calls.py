# SPDX-License-Identifier: MIT
"""init_module(2), finit_module(2), delete_module(2) in this very process, and how libc is asked for them.

For the classic tools. modprobe is itself the child that the kernel or a script has started: it holds nothing that
would have to go on after an oops, which ends it as it ends kmod, and the init of a module may take minutes, which a
deadline would cut short. Everything else calls through `lkm.system.calls`, from a child with a deadline.

Where libc has a function of the name (glibc has kept init_module and delete_module), that is called, so that a
preloaded library can stand in for the kernel; else its `syscall()`. Numbers: arch/x86/entry/syscalls/syscall_64.tbl
and include/uapi/asm-generic/unistd.h, the same in 5.10 and 7.x.
"""

from __future__ import annotations

import os
import sys

from lkm.errors import KernelCallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Union

    Argument = Union[int, bytes]

__all__ = [
    "COMPRESSED_FILE",
    "IGNORE_MODVERSIONS",
    "IGNORE_VERMAGIC",
    "delete_module_here",
    "finit_module_here",
    "init_module_here",
    "prepare_call",
    "syscall_numbers",
]

IGNORE_MODVERSIONS, IGNORE_VERMAGIC, COMPRESSED_FILE = 1, 2, 4
"""Flags of finit_module(2): MODULE_INIT_IGNORE_MODVERSIONS, _IGNORE_VERMAGIC, _COMPRESSED_FILE (5.17)."""

_NUMBERS = {
    "x86_64": {"init_module": 175, "finit_module": 313, "delete_module": 176},
    "aarch64": {"init_module": 105, "finit_module": 273, "delete_module": 106},
}


def syscall_numbers(machine: str = "") -> dict[str, int]:
    """Numbers of the three calls by name, on `machine` (`uname -m`; by default this one).

    KernelCallError if lkm does not know them: any machine but x86_64 and aarch64.
    """
    machine = machine or os.uname().machine
    try:
        return _NUMBERS[machine]
    except KeyError:
        raise KernelCallError(
            f"system call numbers of {machine} are not known", remedy="x86_64 and aarch64 are supported"
        ) from None


def prepare_call(name: str, arguments: tuple[Argument, ...]) -> Callable[[], int]:
    """A function that makes the call and returns its errno, 0 for success. Nothing is left to be looked up in it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    passed: list[object] = [
        ctypes.c_char_p(item) if isinstance(item, bytes) else ctypes.c_ulong(item) for item in arguments
    ]
    function = getattr(libc, name, None)
    if function is None:
        if sys.maxsize < 1 << 32:
            raise KernelCallError("this is a 32-bit Python, whose system calls have other numbers")
        function = libc.syscall
        passed.insert(0, ctypes.c_long(syscall_numbers()[name]))
        function.restype = ctypes.c_long
    else:
        function.restype = ctypes.c_int  # only that half of the register counts

    def call() -> int:
        return ctypes.get_errno() if function(*passed) < 0 else 0

    return call


def init_module_here(image: bytes, params: bytes = b"") -> int:
    """Load a module from memory; returns the errno, 0 for success."""
    return prepare_call("init_module", (image, len(image), params))()


def finit_module_here(handle: int, params: bytes = b"", flags: int = 0) -> int:
    """Load a module from an open file; returns the errno, 0 for success."""
    return prepare_call("finit_module", (handle, params, flags))()


def delete_module_here(name: str, flags: int = os.O_NONBLOCK) -> int:
    """Remove a module; returns the errno, 0 for success. O_TRUNC forces it."""
    return prepare_call("delete_module", (name.encode("utf-8", "surrogateescape"), flags))()
