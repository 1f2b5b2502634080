# SPDX-License-Identifier: MIT
"""Words that look like addresses in a module, in memory that is never written again: code, and fixed data."""

from __future__ import annotations

import os

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.files import read_text
from lkm.system.memory import KernelMemory
from lkm.system.snapshot import LoadedModule

__all__ = ["Fixed"]

_FIXED = ("text", "rodata", "ro_after_init", "init_text", "init_rodata")
_FALSE = "x86_64"
"""Where code has words that look like addresses: `mov $-1, %rax` reads as 0xffffffffc0c748.., where modules are. On
arm64 an address in code is one: since 6.3 that of the struct ftrace_ops stands before a function that is traced by it
(ftrace_rec_set_ops)."""
_CODE = "code: instructions whose bytes look like an address"
_DATA = "fixed data of a module that imports nothing from this one: addresses of its own init, freed"

_TABLES = ("__patchable_function_entries", "_ftrace_eval_map", ".init_array", ".ctors")
"""Sections of a module, writable and kept, with addresses that are also of its init: of traced functions (arm64), of
values that events print by name (trace_insert_eval_map copies them at the load), of constructors (do_mod_ctors)."""


class Fixed:
    """For one scan."""

    def __init__(self, root: Root, memory: KernelMemory, machine: str) -> None:
        self._root = root
        self._has_false = machine == _FALSE
        self._memory = memory
        self._tables: dict[str, tuple[tuple[int, int], ...]] = {}

    def of_kernel(self, address: int) -> str:
        """Why that word of the kernel's image is no pointer, or ""."""
        symbols = self._memory.symbols
        code = symbols.address("_stext") <= address < symbols.address("_etext")
        return _CODE if code and self._has_false else ""

    def of_module(self, module: LoadedModule, address: int, *, uses: bool) -> str:
        """The same of a word of another module's memory; `uses`: it imports from the one that is looked at."""
        if self._has_false and self._is_in(module, address, ("text", "init_text"), "text_size"):
            return _CODE
        if uses or not (self._is_in(module, address, _FIXED, "ro_size") or self._in_table(module, address)):
            return ""
        return _DATA

    def _is_in(self, module: LoadedModule, address: int, kinds: tuple[str, ...], size: str) -> bool:
        """In memory of one of these kinds; before 6.4, in the first bytes: struct module_layout's `text_size` of
        code, its `ro_size` of code and fixed data."""
        stretch = next((each for each in module.memory if each.holds(address)), None)
        if stretch is None or stretch.kind != "core":
            return stretch is not None and stretch.kind in kinds
        try:
            end = self._memory.u32(module.address + self._memory.offset("module", f"core_layout.{size}"))
        except LkmError:
            return False
        return address < stretch.start + end

    def _in_table(self, module: LoadedModule, address: int) -> bool:
        """In one of `_TABLES`."""
        if module.name not in self._tables:
            self._tables[module.name] = _tables_of(self._root, module)
        return any(start <= address < end for start, end in self._tables[module.name])


def _tables_of(root: Root, module: LoadedModule) -> tuple[tuple[int, int], ...]:
    """Each of `_TABLES` that it has, to the section that follows in memory."""
    directory = f"/sys/module/{module.name}/sections"
    try:
        texts = {
            name: read_text(root.join(f"{directory}/{name}")) for name in os.listdir(root.join(directory))
        }
        places = {name: int(text or "0", 16) for name, text in texts.items()}
    except (OSError, ValueError):
        return ()
    starts = sorted(set(places.values()))
    return tuple(
        (places[name], min((at for at in starts if at > places[name]), default=places[name]))
        for name in _TABLES
        if places.get(name)
    )
