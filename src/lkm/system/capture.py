# SPDX-License-Identifier: MIT
"""`capture`: read everything that a diagnosis needs, once, into a Snapshot.

What can block for ever (a lock whose owner is dead, a server that is gone) is read by a child with a
deadline. What cannot be read becomes a sentence in `notes`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from lkm.errors import LkmError
from lkm.names import ModuleName, module_name_from_path
from lkm.root import Root
from lkm.system.async_entries import read_async_entries
from lkm.system.child import run_in_child
from lkm.system.device_numbers import CharKey, DeviceOwners, char_devices_of, disks_of
from lkm.system.file_operations import read_served_files
from lkm.system.files import read_text
from lkm.system.idempotent import read_load_table
from lkm.system.layout import LayoutReading, read_layout
from lkm.system.memory import KernelMemory, read_memory
from lkm.system.module_mutex import read_module_mutex
from lkm.system.modules import read_modules
from lkm.system.mounts import mounts_of, read_mount_entries
from lkm.system.open_files import paths_of, read_mappings, read_open_files
from lkm.system.policy import read_policy
from lkm.system.raw_modules import with_raw
from lkm.system.registrations import read_registrations
from lkm.system.resolve import resolve_symbols
from lkm.system.snapshot import (
    AsyncEntry,
    LoadedModule,
    LoadTable,
    ModuleState,
    Mount,
    MutexState,
    OpenFile,
    Reader,
    Registration,
    ResolvedSymbol,
    Snapshot,
    Task,
    Unread,
)
from lkm.system.tasks import read_tasks, why_no_stacks
from lkm.values import decode, encode

__all__ = ["SYMBOLS", "capture", "capture_loads", "capture_modules", "capture_tasks"]

SYMBOLS = (
    "module_mutex", "mutex_trylock", "mutex_unlock", "copy_from_kernel_nofault", "copy_to_kernel_nofault",
    "idem_lock", "_raw_spin_trylock", "_raw_spin_unlock", "complete", "kobject_rename", "sysfs_rename_link_ns",
)  # fmt: skip
"""Kernel symbols that a plan may need."""

_SECONDS = 10.0
"""Deadline of each reader that may block. A busy machine takes seconds; what was not read refuses a rescue."""

_LOOKS = 3
"""Times that the machine is looked at while loads and removals end in between."""


class _Kernel(NamedTuple):
    """What only kernel memory tells."""

    modules: tuple[LoadedModule, ...]
    layout: LayoutReading
    registrations: tuple[Registration, ...] = ()
    async_entries: tuple[AsyncEntry, ...] = ()
    module_mutex: Optional[MutexState] = None
    load_table: Optional[LoadTable] = None
    open_files: tuple[OpenFile, ...] = ()
    symbols: dict[str, int] = {}  # noqa: RUF012  (a NamedTuple's default, never changed)
    resolved: tuple[ResolvedSymbol, ...] = ()


def capture(
    root: Root, *, samples: int = 3, seconds: float = _SECONDS, symbols: Sequence[str] = ()
) -> Snapshot:
    """The machine at `root` now. Never raises for what cannot be read.

    `samples` looks are taken at the stacks of tasks where something is changing; `seconds` is the deadline
    of each reader of tasks, files and mounts. (/proc/modules and the tables that can block have their own.)
    `symbols` are names to resolve (`Snapshot.resolved`).

    A load or removal that ends while the machine is looked at would seem to have died: in the list of modules it
    is on its way, and none of the tasks is at it. So it is all read again then.
    """
    for _ in range(_LOOKS):
        snapshot = _Capture(root, samples=samples, seconds=seconds, symbols=symbols).take()
        moved = _moved_on(root, snapshot.modules)
        if not moved:
            return snapshot
    why = f"the state of {', '.join(moved)} changed while tasks were read, {_LOOKS} times"
    return snapshot._replace(unread=(*snapshot.unread, Unread(Reader.TASKS, why)))


def _moved_on(root: Root, modules: Sequence[LoadedModule]) -> list[ModuleName]:
    """The modules that were coming or going, and are no longer as they were."""
    passing = [m for m in modules if m.in_sysfs and m.state in (ModuleState.COMING, ModuleState.GOING)]
    return [
        m.name for m in passing if read_text(root.join(f"/sys/module/{m.name}/initstate")) != m.state.value
    ]


def capture_modules(root: Root, *, seconds: float = _SECONDS) -> Snapshot:
    """Policy and modules alone, as /sys/module and /proc/modules tell them: quick, for a look afterwards."""
    modules, proc_error = read_modules(root, seconds=seconds)
    return Snapshot(
        release=root.release,
        machine=os.uname().machine,
        policy=read_policy(root),
        modules=modules,
        proc_modules_error=proc_error,
    )


def capture_tasks(root: Root, *, seconds: float = _SECONDS) -> Snapshot:
    """Policy, modules and tasks alone: a last look before something is done."""
    return _Capture(root, samples=2, seconds=seconds, symbols=()).take_tasks()


def capture_loads(root: Root) -> Snapshot:
    """What a heal needs: policy, modules, layout, symbols, and the table of files being loaded."""
    return _Capture(root, samples=1, seconds=_SECONDS, symbols=()).take_loads()


class _Capture:
    """One snapshot in the making, with the notes that it gathers."""

    def __init__(self, root: Root, *, samples: int, seconds: float, symbols: Sequence[str]) -> None:
        self._root = root
        self._samples = samples
        self._seconds = seconds
        self._symbols = tuple(symbols)
        self._notes: list[str] = []
        self._unread: list[Unread] = []

    def take(self) -> Snapshot:
        root, notes = self._root, self._notes
        policy = read_policy(root)
        if policy.euid != 0:
            notes.append(f"taken as user {policy.euid}: other users' files, stacks and addresses are hidden")
        elsewhere = _other_pid_namespace(root)
        if elsewhere:
            self._unread.append(Unread(Reader.TASKS, elsewhere))
        if policy.loadable is False:
            notes.append("this kernel has no loadable modules (CONFIG_MODULES is off)")
        listed, proc_error = read_modules(root)
        kernel = self._read_kernel(listed)
        tasks = self._read_tasks(kernel.modules)
        open_files, mounts = self._read_users(kernel)
        return Snapshot(
            release=root.release,
            machine=os.uname().machine,
            policy=policy,
            modules=kernel.modules,
            taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            tasks=tasks,
            open_files=open_files,
            mounts=mounts,
            registrations=kernel.registrations,
            async_entries=kernel.async_entries,
            module_mutex=kernel.module_mutex,
            load_table=kernel.load_table,
            layout=kernel.layout.layout,
            layout_error=kernel.layout.error,
            sibling=kernel.layout.sibling,
            symbols=kernel.symbols,
            resolved=kernel.resolved,
            builtin=_read_builtin(root),
            proc_modules_error=proc_error,
            unread=tuple(self._unread),
            notes=tuple(dict.fromkeys(notes)),
        )

    def take_tasks(self) -> Snapshot:
        snapshot = capture_modules(self._root, seconds=self._seconds)
        tasks = self._read_tasks(snapshot.modules)
        return snapshot._replace(tasks=tasks, unread=tuple(self._unread))

    def take_loads(self) -> Snapshot:
        root = self._root
        listed, proc_error = read_modules(root)
        memory, error = read_memory(root)
        layout = read_layout(root, memory, listed)
        if memory is None:
            self._notes.append(f"kernel memory was not read: {error}")
        return Snapshot(
            release=root.release,
            machine=os.uname().machine,
            policy=read_policy(root),
            modules=listed,
            load_table=read_load_table(root, memory, search=True) if memory else None,
            layout=layout.layout,
            layout_error=layout.error,
            sibling=layout.sibling,
            symbols=self._read_symbols(memory) if memory else {},
            proc_modules_error=proc_error,
            notes=tuple(self._notes),
        )

    def _read_kernel(self, listed: tuple[LoadedModule, ...]) -> _Kernel:
        memory, error = read_memory(self._root)
        layout = read_layout(self._root, memory, listed)
        if memory is None:
            self._notes.append(f"kernel memory was not read: {error}")
            registrations = read_registrations(self._root, None, listed, notes=self._notes)
            return _Kernel(listed, layout, registrations=registrations)
        modules = with_raw(memory, layout.layout, listed, root=self._root) if layout.layout else listed
        modules = tuple(_with_exports(memory, _as_raw(module)) for module in modules)
        kernel = _Kernel(
            modules=modules,
            layout=layout,
            registrations=read_registrations(self._root, memory, modules, notes=self._notes),
            async_entries=read_async_entries(self._root, memory, modules),
            module_mutex=read_module_mutex(self._root, memory),
            load_table=read_load_table(self._root, memory),
            open_files=read_served_files(self._root, memory, modules),
            symbols=self._read_symbols(memory),
            resolved=self._resolve(memory),
        )
        self._notes += memory.notes
        return kernel

    def _read_symbols(self, memory: KernelMemory) -> dict[str, int]:
        try:
            found = {name: memory.symbols.unique(name) for name in SYMBOLS}
        except LkmError as error:
            self._notes.append(str(error))
            return {}
        return {name: address for name, address in found.items() if address}

    def _resolve(self, memory: KernelMemory) -> tuple[ResolvedSymbol, ...]:
        try:
            return resolve_symbols(memory, self._symbols)
        except LkmError as error:
            self._notes.append(str(error))
            return ()

    def _read_tasks(self, modules: Sequence[LoadedModule]) -> tuple[Task, ...]:
        own = os.getpid()
        hidden = why_no_stacks(self._root)
        if hidden:
            self._unread.append(Unread(Reader.STACKS, hidden))
        found = self._in_child(
            Reader.TASKS,
            lambda: encode(read_tasks(self._root, modules, samples=self._samples, own_pid=own)),
        )
        return tuple(decode(Task, item) for item in found)

    def _read_users(self, kernel: _Kernel) -> tuple[tuple[OpenFile, ...], tuple[Mount, ...]]:
        """Open files and mounts. Files by their operations come first: these name the module for certain."""
        root = self._root
        chars = self._read_char_devices(kernel.registrations)
        owners = DeviceOwners(root, chars, disks_of(kernel.registrations))
        paths = paths_of(kernel.registrations)
        readers = {
            Reader.OPEN_FILES: lambda: encode(read_open_files(root, owners, paths)),
            Reader.MAPPINGS: lambda: encode(read_mappings(root, owners, paths)),
            Reader.MOUNTS: lambda: encode(
                mounts_of(read_mount_entries(root), kernel.modules, owners, kernel.registrations)
            ),
        }
        read = self._in_children(readers)
        files, mapped = (
            tuple(decode(OpenFile, item) for item in read[reader])
            for reader in (Reader.OPEN_FILES, Reader.MAPPINGS)
        )
        mounts = tuple(decode(Mount, item) for item in read[Reader.MOUNTS])
        found: dict[tuple[ModuleName, int, Optional[int], str], OpenFile] = {}
        for item in (*kernel.open_files, *files, *mapped):
            found.setdefault((item.module, item.pid, item.fd, item.path if item.fd is None else ""), item)
        return tuple(found.values()), mounts

    def _read_char_devices(self, registrations: tuple[Registration, ...]) -> dict[CharKey, ModuleName]:
        result = run_in_child(
            lambda: char_devices_of(self._root, registrations), seconds=self._seconds, name="lkm-devices"
        )
        if not result.ok:
            self._unread.append(Unread(Reader.DEVICE_NUMBERS, result.error))
            return {}
        devices: dict[CharKey, ModuleName] = result.value
        return devices

    def _in_children(self, readers: Mapping[Reader, Callable[[], Any]]) -> dict[Reader, Any]:
        """What each reader finds. One child reads all, as a fork takes longer than a reader; where that one does
        not come back, each has a child of its own, so that one that blocks does not hide the others."""
        result = run_in_child(
            lambda: [read() for read in readers.values()], seconds=self._seconds, name="lkm-users"
        )
        if result.ok:
            return dict(zip(readers, result.value))
        return {reader: self._in_child(reader, read) for reader, read in readers.items()}

    def _in_child(self, reader: Reader, read: Callable[[], Any]) -> Any:
        """What a reader finds, or nothing and a note in `unread`."""
        result = run_in_child(read, seconds=self._seconds, name=f"lkm-{reader.name.lower()}")
        if not result.ok:
            self._unread.append(Unread(reader, result.error))
            return ()
        return result.value


def _as_raw(module: LoadedModule) -> LoadedModule:
    """State and count as its struct module has them, where that was read: what a plan expects is then what was
    diagnosed, though /sys/module was read a moment before."""
    if module.raw is None:
        return module
    state = ModuleState.of_number(module.raw.state) or module.state
    return module._replace(state=state, refcnt=module.raw.refcnt - 1)


def _with_exports(memory: KernelMemory, module: LoadedModule) -> LoadedModule:
    """A coming module with the names after `__ksymtab_`, which kallsyms has at least until init is done."""
    if module.state not in (ModuleState.COMING, ModuleState.GOING):
        return module
    try:
        symbols = memory.symbols.module_symbols(module.name)
    except LkmError:
        return module
    mark = "__ksymtab_"
    return module._replace(
        exports=tuple(sorted(name[len(mark) :] for _, name in symbols if name.startswith(mark)))
    )


INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO, include/linux/proc_ns.h: 0xEFFFFFFC."""


def _other_pid_namespace(root: Root) -> str:
    """Why tasks outside are not seen, where this process is in a container's PID namespace; else ""."""
    try:
        own = os.readlink(root.join("/proc/self/ns/pid"))
    except OSError:
        return ""
    return "" if own == INITIAL_PID_NAMESPACE else f"those outside of this PID namespace ({own}) are not seen"


def _read_builtin(root: Root) -> tuple[ModuleName, ...]:
    """The modules that are part of the kernel itself (modules.builtin of its tree)."""
    text = read_text(f"{root.modules_dir}/modules.builtin") or ""
    return tuple(sorted({module_name_from_path(line) for line in text.splitlines() if line}))
