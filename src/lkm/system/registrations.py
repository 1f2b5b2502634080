# SPDX-License-Identifier: MIT
"""What modules have registered in the kernel's tables, each entry with its module.

A table in kernel memory is walked and each entry attributed by a pointer into a module (certain). Where the
table cannot be walked (no BTF, or no data symbols in kallsyms) and has a file in /proc, the names in the
file are looked for in the modules' memory instead (not certain).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import LoadedModule, Registration, RegistrationKind
from lkm.system.tables.blocks import read_blocks
from lkm.system.tables.chrdevs import chrdev_names, read_chrdevs
from lkm.system.tables.crypto import read_crypto
from lkm.system.tables.drivers import read_drivers
from lkm.system.tables.filesystems import filesystem_names, read_filesystems
from lkm.system.tables.hrtimers import read_hrtimers
from lkm.system.tables.interfaces import read_interfaces
from lkm.system.tables.interrupts import interrupt_names, read_interrupts
from lkm.system.tables.misc import misc_names, read_misc
from lkm.system.tables.notifiers import read_notifiers
from lkm.system.tables.proc_entries import read_proc_entries
from lkm.system.tables.protocols import read_protocols
from lkm.system.tables.strings import ModuleStrings
from lkm.system.tables.timers import read_timers
from lkm.system.tables.trace_events import read_trace_events
from lkm.system.tables.works import read_works

__all__ = ["read_registrations"]


class _Walk(NamedTuple):
    """A table that only memory has. `names` are what its file in /proc lists, where it has one."""

    kind: RegistrationKind
    read: Callable[[Root, KernelMemory, Owners], Iterable[Registration]]
    names: Optional[Callable[[Root], Iterable[tuple[str, str]]]] = None
    path: str = ""


_K = RegistrationKind
_WALKS = (
    _Walk(_K.MISC, read_misc, misc_names, "/proc/misc"),
    _Walk(_K.CHRDEV, read_chrdevs, chrdev_names, "/proc/devices"),
    _Walk(_K.FILESYSTEM, read_filesystems, filesystem_names, "/proc/filesystems"),
    _Walk(_K.PROC_ENTRY, read_proc_entries),
    _Walk(_K.INTERRUPT, read_interrupts, interrupt_names, "/proc/interrupts"),
    _Walk(_K.TIMER, read_timers),
    _Walk(_K.WORK, read_works),
    _Walk(_K.NOTIFIER, read_notifiers),
)
_FILES: tuple[
    tuple[RegistrationKind, Callable[[Root, Optional[KernelMemory], Owners], Iterable[Registration]]], ...
] = (
    (_K.BLOCK, read_blocks),
    (_K.INTERFACE, read_interfaces),
    (_K.CRYPTO, read_crypto),
    (_K.PROTOCOL, read_protocols),
    (_K.HRTIMER, read_hrtimers),
    (_K.DRIVER, read_drivers),
    (_K.TRACE_EVENT, read_trace_events),
)
"""Tables that tell the module in /proc or /sys too."""


def read_registrations(
    root: Root,
    memory: Optional[KernelMemory],
    modules: Iterable[LoadedModule],
    *,
    notes: Optional[list[str]] = None,
) -> tuple[Registration, ...]:
    """Everything registered by these modules (those of `with_raw`: their memory must be known).

    Never raises: a table that could not be read is a sentence in `notes`, and in `memory.notes` what a walk
    had to leave out.
    """
    said = notes if notes is not None else []
    owners = Owners(modules)
    found: list[Registration] = []
    if not owners.modules:
        return ()
    if memory is not None and not memory.has_symbols:
        memory.note("the kernel's tables were not walked, as its symbols are hidden or missing")
        memory = None
    if memory is not None and owners:
        strings = ModuleStrings(memory, owners)
        for walk in _WALKS:
            found.extend(_walked(root, memory, walk, strings, said))
    for kind, read in _FILES:
        found.extend(_collected(kind, read(root, memory, owners), said))
    return tuple(found)


def _collected(
    kind: RegistrationKind, entries: Iterable[Registration], notes: list[str]
) -> Iterator[Registration]:
    """The entries up to an error, which becomes a note."""
    try:
        yield from entries
    except LkmError as error:
        notes.append(f"registrations ({kind.value}): {error}")


def _walked(
    root: Root,
    memory: KernelMemory,
    walk: _Walk,
    strings: ModuleStrings,
    notes: list[str],
) -> Iterator[Registration]:
    problems: list[str] = []
    if memory.has_types:
        yield from _collected(walk.kind, walk.read(root, memory, strings.owners), problems)
        if not problems:
            return
    else:
        problems.append(f"registrations ({walk.kind.value}): this kernel has no BTF")
    if walk.names is None:
        notes.extend(problems)
        return
    notes.extend(f"{problem}: the names in {walk.path} were looked for instead" for problem in problems)
    yield from _collected(walk.kind, _named(walk, walk.names(root), strings), notes)


def _named(walk: _Walk, names: Iterable[tuple[str, str]], strings: ModuleStrings) -> Iterator[Registration]:
    for name, detail in names:
        module = strings.owner(name)
        if module:
            yield Registration(walk.kind, name, module, certain=False, source=walk.path, detail=detail)
