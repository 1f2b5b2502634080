# SPDX-License-Identifier: MIT
"""`Snapshot`: everything that a diagnosis needs, read once, frozen, JSON-serialisable.

`lkm.system.capture` fills it on a live machine; `Snapshot.from_json` reads a recorded one on another.
Addresses and sizes are in bytes; 0 as an address means "hidden or unknown".
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NamedTuple, Optional

from lkm.errors import ParseError
from lkm.formats.keys import SigningKey
from lkm.names import ModuleName
from lkm.system.kernel_values import (
    AsyncEntry,
    Layout,
    MutexState,
    Proof,
    ResolvedSymbol,
    Sibling,
    SymbolPlace,
)
from lkm.system.load_table import LoadBucket, LoadNode, LoadRole, LoadTable
from lkm.system.scanned import Scan
from lkm.values import Address, decode, encode

__all__ = [
    "AsyncEntry", "Layout", "LoadBucket", "LoadNode", "LoadRole", "LoadTable", "LoadedModule", "MemoryRange",
    "ModuleState", "Mount", "MutexState", "OpenFile", "Policy", "Proof", "RawModule", "Reader", "Registration",
    "RegistrationKind", "ResolvedSymbol", "Sibling", "Snapshot", "SymbolPlace", "Task", "TaskFrame", "Unread",
]  # fmt: skip

SCHEMA = "lkm.snapshot/1"


class ModuleState(Enum):
    """`enum module_state` (include/linux/module.h); the values are those of /sys/module/X/initstate."""

    LIVE = "live"
    COMING = "coming"
    GOING = "going"
    UNFORMED = "unformed"

    @property
    def number(self) -> int:
        """The value in `struct module`."""
        return list(ModuleState).index(self)

    @classmethod
    def of_number(cls, number: int) -> Optional[ModuleState]:
        """The state of that value in `struct module`, None for a value that is none."""
        return list(cls)[number] if 0 <= number < len(cls) else None


class MemoryRange(NamedTuple):
    """A stretch of a module's memory. `kind` is `core` or `init` (struct module_layout, before 6.4), or the
    lower-case name of its `enum mod_mem_type` (since 6.4, struct module has mem[])."""

    start: Address
    size: int
    kind: str

    @property
    def writable(self) -> bool:
        """Whether it may have variables; `core` has code too."""
        return not self.kind.startswith(("text", "rodata", "init"))

    def holds(self, address: int) -> bool:
        """Whether `address` lies in it."""
        return self.start <= address < self.start + self.size


class RawModule(NamedTuple):
    """Fields of a `struct module` in kernel memory. `refcnt` is the raw atomic: idle LIVE is 1.

    Only BTF tells where the others are (None: not known):
    num_syms, num_gpl_syms  how many symbols it exports
    kobject_name  name of its kobject; "" for one that has none (any more)
    sysfs         address of its directory in sysfs (mkobj.kobj.sd); 0: there is none (any more)
    holders_dir   the kobject /sys/module/X/holders
    """

    name: str
    state: int
    refcnt: int
    init: Address
    exit: Address
    num_syms: Optional[int] = None
    num_gpl_syms: Optional[int] = None
    kobject_name: Optional[str] = None
    sysfs: Optional[Address] = None
    holders_dir: Optional[Address] = None


class LoadedModule(NamedTuple):
    """A module that the kernel has in its list.

    refcnt   as the kernel shows it: references beyond the base (-1 while going); None if it hides it
    holders  modules that use this one (/sys/module/X/holders)
    permanent  no exit function; None if unknown
    address  of its struct module (/sys/module/X/sections/.gnu.linkonce.this_module)
    in_sysfs  whether /sys/module/X/sections exists: without it a removal would wait for ever
    drivers  `bus:name` of /sys/module/X/drivers
    exports  its symbols that others may import, as far as kallsyms shows them; read while it is coming
    live_patches  the enabled live patches that have changes for it, and itself where it is one
    """

    name: ModuleName
    state: ModuleState
    refcnt: Optional[int]
    size: int
    holders: tuple[ModuleName, ...] = ()
    permanent: Optional[bool] = None
    taints: str = ""
    address: Address = 0
    in_sysfs: bool = True
    in_proc: bool = True
    memory: tuple[MemoryRange, ...] = ()
    drivers: tuple[str, ...] = ()
    build_id: str = ""
    exports: tuple[str, ...] = ()
    raw: Optional[RawModule] = None
    live_patches: tuple[ModuleName, ...] = ()

    def owns(self, address: int) -> bool:
        """Whether `address` lies in this module's memory."""
        return any(stretch.holds(address) for stretch in self.memory)


class TaskFrame(NamedTuple):
    """One line of /proc/PID/stack."""

    symbol: str
    offset: int = 0
    module: Optional[ModuleName] = None

    @property
    def function(self) -> str:
        """The function's name in the source: without the compiler's `.part.0`, `.isra.0`, `.cold` …"""
        return self.symbol.split(".", 1)[0]


class Task(NamedTuple):
    """A live thread that matters here: in module code, in the module loader, or waiting for one.

    state     letter of /proc/PID/stat (R, S, D, …); zombies and dead tasks are never listed
    kernel    a kernel thread
    call      `init_module`, `finit_module`, `delete_module` or "" (/proc/PID/syscall)
    subject   name of the module which that call is about, where its arguments could be read, else ""
    subject_guess  what its command line seems to be about, where they could not; it confirms, and excludes nothing
    subject_imports  symbols that the module being loaded imports, where its file could be read
    stack     innermost frame first
    older     how many of them, the last ones, were only there at earlier looks
    unreadable  it spun in the kernel at every sample, where neither stack nor call can be read (the unwinder
              takes no task that is on another CPU, arch/x86/kernel/unwind_orc.c)
    """

    pid: int
    tid: int
    command: str
    state: str
    kernel: bool
    stack: tuple[TaskFrame, ...]
    command_line: str = ""
    call: str = ""
    subject: str = ""
    subject_imports: tuple[str, ...] = ()
    subject_guess: str = ""
    unreadable: bool = False
    older: int = 0

    @property
    def now(self) -> tuple[TaskFrame, ...]:
        """Its stack at the last look; () where it was not found any more."""
        return self.stack[: len(self.stack) - self.older]

    @property
    def kind(self) -> str:
        """`kernel thread` or `process`."""
        return "kernel thread" if self.kernel else "process"

    def has_frame(self, *symbols: str) -> bool:
        """Whether one of these functions is on its stack (also as `symbol.part.0`, `symbol.isra.0` …)."""
        return any(frame.function in symbols for frame in self.stack)

    def is_in(self, module: ModuleName) -> bool:
        """Whether it runs in, or was called from, that module's code."""
        return any(frame.module == module for frame in self.stack)


class OpenFile(NamedTuple):
    """A file, device or mapping that a process has open and that is served by a module.

    via  `fd` or `map`. how: `f_op` (the file's operations lie in the module), `device` (its number belongs
    to the module), `path` (it is a file that the module registered).
    """

    module: ModuleName
    pid: int
    command: str
    path: str
    fd: Optional[int] = None
    via: str = "fd"
    how: str = "f_op"


class Mount(NamedTuple):
    """A mount whose file system type (`how` is `type`), or whose block device's driver (`device`), belongs to
    a module. `pid` is a process that sees it."""

    module: ModuleName
    mount_point: str
    fstype: str
    source: str
    pid: int = 1
    how: str = "type"


class RegistrationKind(Enum):
    """What a module can leave in the kernel's tables."""

    MISC = "misc"
    CHRDEV = "chrdev"
    BLOCK = "block"
    INTERRUPT = "interrupt"
    HRTIMER = "hrtimer"
    FILESYSTEM = "filesystem"
    CRYPTO = "crypto"
    INTERFACE = "interface"
    PROC_ENTRY = "proc-entry"
    PROTOCOL = "protocol"
    DRIVER = "driver"
    DEVICE = "device"
    TIMER = "timer"
    WORK = "work"
    NOTIFIER = "notifier"
    TRACE_EVENT = "trace-event"


class Registration(NamedTuple):
    """Something that the kernel's tables hold on a module's behalf.

    certain  True: a pointer into the module, or the kernel's own word for the owner; False: by name only
    source   where it was read (`/proc/misc`, `/proc/timer_list`, `misc_list in kernel memory` …)
    users    count of users where the table has one (/proc/crypto, /proc/net/protocols), else None; of an
             interface 1 if it is up, 0 if not
    address  of the kernel's struct for it, of `size` bytes; 0 where it was not read in memory
    """

    kind: RegistrationKind
    name: str
    module: ModuleName
    certain: bool
    source: str
    detail: str = ""
    users: Optional[int] = None
    address: Address = 0
    size: int = 0


class Policy(NamedTuple):
    """What the machine allows; None: could not be read, or this kernel has no such thing.

    `signer`: the key that signs what will be loaded, where the caller has one.
    """

    loadable: Optional[bool] = None
    euid: int = 0
    cap_sys_module: Optional[bool] = None
    modules_disabled: Optional[bool] = None
    module_unload: Optional[bool] = None
    force_unload: Optional[bool] = None
    lockdown: str = "none"
    sig_enforce: Optional[bool] = None
    kptr_restrict: Optional[int] = None
    ima_appraises_modules: Optional[bool] = None
    loadpin: Optional[bool] = None
    selinux_enforcing: Optional[bool] = None
    cfi: Optional[bool] = None
    panic_on_oops: Optional[bool] = None
    panic_on_warn: Optional[bool] = None
    console_loglevel: Optional[int] = None
    signer: Optional[SigningKey] = None


class Reader(Enum):
    """What a snapshot reads to see who is there. Where one fails, nobody can be said to be absent."""

    TASKS = "tasks"
    STACKS = "stacks of tasks"
    OPEN_FILES = "open files"
    MAPPINGS = "mapped files"
    MOUNTS = "mounts"
    DEVICE_NUMBERS = "device numbers"


class Unread(NamedTuple):
    """A reader that failed, and why."""

    reader: Reader
    why: str


class Snapshot(NamedTuple):
    """The machine at one moment.

    load_table  the files being loaded by finit_module(2), and what dangles there; None: kernel memory was not read
    unread  who was not looked for, so that nobody there is not the same as nobody seen
    scans   for whom kernel memory was searched, before a removal or on request
    notes   sentences on what else could not be read, and why
    """

    release: str
    machine: str
    policy: Policy
    modules: tuple[LoadedModule, ...]
    taken: str = ""
    tasks: tuple[Task, ...] = ()
    open_files: tuple[OpenFile, ...] = ()
    mounts: tuple[Mount, ...] = ()
    registrations: tuple[Registration, ...] = ()
    async_entries: tuple[AsyncEntry, ...] = ()
    module_mutex: Optional[MutexState] = None
    load_table: Optional[LoadTable] = None
    layout: Optional[Layout] = None
    layout_error: str = ""
    sibling: Optional[Sibling] = None
    symbols: dict[str, Address] = {}  # noqa: RUF012  (a NamedTuple's default, never changed)
    resolved: tuple[ResolvedSymbol, ...] = ()
    builtin: tuple[ModuleName, ...] = ()
    proc_modules_error: str = ""
    unread: tuple[Unread, ...] = ()
    scans: tuple[Scan, ...] = ()
    notes: tuple[str, ...] = ()

    def module(self, name: ModuleName) -> Optional[LoadedModule]:
        """The module of that name, in whatever state, or None."""
        return next((module for module in self.modules if module.name == name), None)

    def to_object(self) -> dict[str, Any]:
        """For JSON; `schema` first."""
        return {"schema": SCHEMA, **encode(self)}

    def to_json(self) -> str:
        """One JSON object, `schema` first."""
        return json.dumps(self.to_object(), indent=1)

    @classmethod
    def from_json(cls, text: str, *, name: str = "snapshot") -> Snapshot:
        """Read back what `to_json` wrote; ParseError says which field does not fit."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"{name}: not JSON ({error})", remedy="record one with lkm snapshot") from error
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise ParseError(
                f"{name}: not a snapshot (schema {SCHEMA!r} missing)", remedy="record one with lkm snapshot"
            )
        return decode(cls, data, where=name)
