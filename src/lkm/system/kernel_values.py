# SPDX-License-Identifier: MIT
"""Parts of a Snapshot that only the kernel's memory, symbols and module files tell."""

from __future__ import annotations

from typing import NamedTuple, Optional

from lkm.names import NAME_OFFSET, ModuleName
from lkm.values import Address

__all__ = [
    "AsyncEntry",
    "Layout",
    "MutexState",
    "Proof",
    "ResolvedSymbol",
    "Sibling",
    "SymbolPlace",
]


class AsyncEntry(NamedTuple):
    """An entry of the kernel's list of asynchronous calls (kernel/async.c) that has not finished."""

    function: str
    module: Optional[ModuleName]
    running: bool


class MutexState(NamedTuple):
    """module_mutex: whether it was held at every sample, and by which live task (None: a dead one)."""

    held: bool
    owner_pid: Optional[int] = None
    owner_command: str = ""


class Sibling(NamedTuple):
    """A `.ko` of the running kernel, from which a helper is assembled.

    build_matches  its build-id equals that of the loaded module of its name; None: nothing to compare with
    crc            of `module_layout` in `__versions`; None without MODVERSIONS
    cfi            its functions carry types that are checked where they are called (kCFI)
    """

    path: str
    name: ModuleName
    vermagic: str
    intree: bool
    build_id: str
    build_matches: Optional[bool]
    size: int
    init: int
    exit: int
    crc: Optional[int] = None
    retpoline: bool = False
    cfi: bool = False


class Proof(NamedTuple):
    """One healthy live module, read through kcore by the layout and compared with sysfs."""

    module: ModuleName
    holds: bool
    detail: str = ""


class Layout(NamedTuple):
    """Offsets in bytes into the running kernel's `struct module`.

    `state` 0, `list` 8, `name` 24; `source_list`, `target_list`, `exit`, `refcnt` are consecutive
    (include/linux/module.h, 3.19 to 7.x). `disagreement` says where sibling and BTF differ; empty: nowhere.
    Those that only BTF tells are None without it: the counts of exports, its `kobject` (mkobj.kobj), that one's
    `kobject_name` and `sysfs` directory (sd), and `holders_dir`.
    """

    size: int
    init: int
    exit: int
    refcnt: int
    origin: str
    num_syms: Optional[int] = None
    num_gpl_syms: Optional[int] = None
    kobject: Optional[int] = None
    kobject_name: Optional[int] = None
    sysfs: Optional[int] = None
    holders_dir: Optional[int] = None
    state: int = 0
    list: int = 8
    name: int = NAME_OFFSET
    disagreement: str = ""
    proofs: tuple[Proof, ...] = ()

    @property
    def source_list(self) -> int:
        """Offset of the list of users."""
        return self.exit - 32


class SymbolPlace(NamedTuple):
    """One symbol of a name. `type` is its letter in /proc/kallsyms, `module` "" for the kernel itself, `value`
    the 8 bytes that stand there (None: not read), `freed`: it lies in the kernel's own init text, whose memory
    is given back after boot (free_initmem)."""

    address: Address
    type: str
    module: str = ""
    value: Optional[Address] = None
    freed: bool = False


class ResolvedSymbol(NamedTuple):
    """All symbols of a name (`NAME` or `MODULE:NAME`) that somebody asked for."""

    name: str
    places: tuple[SymbolPlace, ...] = ()
