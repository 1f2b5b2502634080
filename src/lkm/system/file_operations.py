# SPDX-License-Identifier: MIT
"""Open files by who serves them: each task's files, whose operations lie in a module or not.

The way: task_struct.files → files_struct.fdt → fdtable.fd[] → file.f_op (include/linux/fdtable.h, 5.10 to
7.x). It sees what no path tells: anonymous inodes (`anon_inode:kvm-vm`), and sockets by their
`socket.ops`. Regular files are found too, where the file system is a module.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.files import read_link
from lkm.system.kernel_tasks import process_addresses, read_task
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.owners import Owners
from lkm.system.snapshot import LoadedModule, OpenFile

__all__ = ["descriptors", "read_served_files"]

_MAX_DESCRIPTORS = 1 << 17
_MAX_FILES = 1 << 18
_MAX_EACH = 1000
"""Open files that are reported of one module."""


def read_served_files(
    root: Root, memory: KernelMemory, modules: Iterable[LoadedModule]
) -> tuple[OpenFile, ...]:
    """The descriptors of all processes whose file is served by one of these modules.

    Paths are read below `root` (/proc/PID/fd/N). Tables that are shared are counted for the first process
    that has them. Never raises: what could not be read is in `memory.notes`.
    """
    owners = Owners(modules)
    if not owners or not memory.has_types:
        return ()
    try:
        return tuple(_walk(root, memory, owners))
    except LkmError as error:
        memory.note_error("open files", error)
        return ()


def _walk(root: Root, memory: KernelMemory, owners: Owners) -> Iterator[OpenFile]:
    files_at = memory.offset("task_struct", "files")
    servers = _Servers(memory, owners)
    tables = set()
    counts: dict[ModuleName, int] = {}
    for leader in process_addresses(memory):
        try:
            files = memory.u64(leader + files_at)
            if files in tables or not is_kernel_pointer(files):
                continue  # a kernel thread or an exiting task has none
            tables.add(files)
            held = [(fd, module) for fd, file in descriptors(memory, files) if (module := servers.of(file))]
            task = read_task(memory, leader) if held else None
        except LkmError:
            continue  # the task has ended in between
        for fd, module in held if task else ():
            counts[module] = counts.get(module, 0) + 1
            if counts[module] > _MAX_EACH:
                memory.note(f"{module}: more than {_MAX_EACH} open files: the others are not listed")
            elif task:
                path = read_link(root.join(f"/proc/{task.pid}/fd/{fd}"))
                yield OpenFile(module, task.pid, task.command, path, fd=fd, via="fd", how="f_op")


def descriptors(memory: KernelMemory, files: int) -> Iterator[tuple[int, int]]:
    """Number and struct file of each open descriptor."""
    table = memory.pointer(files + memory.offset("files_struct", "fdt"))
    count = memory.u32(table + memory.offset("fdtable", "max_fds"))
    if count > _MAX_DESCRIPTORS:
        memory.note(f"a process has {count} descriptors: {_MAX_DESCRIPTORS} were read")
        count = _MAX_DESCRIPTORS
    array = memory.pointer(table + memory.offset("fdtable", "fd"))
    if not array or not count:
        return
    for fd, file in enumerate(struct.unpack(f"<{count}Q", memory.read(array, 8 * count))):
        if is_kernel_pointer(file):
            yield fd, file


class _Servers:
    """The module that serves a struct file, asked once a file."""

    def __init__(self, memory: KernelMemory, owners: Owners) -> None:
        self._memory = memory
        self._owners = owners
        self._operations = memory.offset("file", "f_op")
        self._private = memory.offset("file", "private_data")
        self._socket_operations = memory.symbols.address("socket_file_ops")
        self._known: dict[int, Optional[ModuleName]] = {}

    def of(self, file: int) -> Optional[ModuleName]:
        """The module, or None. A file that has gone is nobody's."""
        if file not in self._known:
            if len(self._known) >= _MAX_FILES:
                self._memory.note(f"more than {_MAX_FILES} open files: the others were not looked at")
                return None
            try:
                self._known[file] = self._look(file)
            except LkmError:
                self._known[file] = None
        return self._known[file]

    def _look(self, file: int) -> Optional[ModuleName]:
        operations = self._memory.u64(file + self._operations)
        if operations and operations == self._socket_operations:
            socket = self._memory.pointer(file + self._private)
            operations = self._memory.u64(socket + self._memory.offset("socket", "ops")) if socket else 0
        return self._owners.of(operations)
