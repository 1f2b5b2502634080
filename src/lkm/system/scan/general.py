# SPDX-License-Identifier: MIT
"""Objects of the general caches (kmalloc-*) that are told by where the kernel has them: in a list, in /proc/sys."""

from __future__ import annotations

from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scanned import Place
from lkm.system.tables.interfaces import INTERFACE_FIELDS

__all__ = ["identify_general", "is_general"]


class _Linked(NamedTuple):
    """Objects of the general caches: those of `struct` are in a list of the kernel by their member `link`."""

    struct: str
    link: str
    fields: tuple[str, ...]
    event: str


_LINKED = (
    _Linked(
        "net_device",
        "dev_list",
        INTERFACE_FIELDS,
        "the next use of the interface {name!r} calls freed code",
    ),
    _Linked("miscdevice", "list", ("fops",), "the next open of /dev/{name} calls freed code"),
    _Linked("perf_event", "event_entry", ("tp_event",), "the end of that perf event calls freed code"),
)
"""Found so where their lists are not: without CONFIG_KALLSYMS_ALL kallsyms has no variables. Perf events have a cache
of their own since 5.13 (perf_event_init)."""


def is_general(cache: str) -> bool:
    """kmalloc-N, kmalloc-rcl-N, dma-kmalloc-N, kmalloc-rnd-NN-N, and merged ones (`:0000064`)."""
    return "kmalloc-" in cache or cache.startswith(":")


def identify_general(memory: KernelMemory, place: Place) -> Optional[tuple[str, str]]:
    """What the object at that place is and the event, or None. Raises `LkmError` for memory that is gone."""
    found = _linked(memory, place)
    try:
        return found or _sysctl(memory, place)
    except LkmError:  # what looks like an address in it is none
        return None


def _linked(memory: KernelMemory, place: Place) -> Optional[tuple[str, str]]:
    """An object whose pointer is where such objects have it, and whose neighbours in the list point back."""
    for kind in _LINKED:
        member = next((m for m in kind.fields if memory.find_offset(kind.struct, m) == place.offset), None)
        if member is None:
            continue
        node = place.start + memory.offset(kind.struct, kind.link)
        if node + 16 <= place.start + place.size and memory.is_listed(node):
            name = _name(memory, kind.struct, place.start)
            return f"{kind.struct}.{member}{f' of {name}' if name else ''}", kind.event.format(name=name)
    return None


def _name(memory: KernelMemory, struct: str, start: int) -> str:
    """A net_device has its name in itself, a miscdevice a pointer, a perf_event none."""
    inside = memory.find_offset(struct, "name")
    if inside is None:
        return ""
    return memory.text(start + inside if struct == "net_device" else memory.u64(start + inside), "")


_HEADER = "ctl_table_header"
_TABLES = ("ctl_table", "ctl_table_arg")
_MAX_DEPTH = 16


def _sysctl(memory: KernelMemory, place: Place) -> Optional[tuple[str, str]]:
    """A table below /proc/sys (struct ctl_table_header, fs/proc/proc_sysctl.c): its directories lead to the top, all
    of one root."""
    if place.offset not in [memory.find_offset(_HEADER, name) for name in _TABLES]:
        return None
    if place.size < memory.sizeof(_HEADER):
        return None
    root, parent = memory.offset(_HEADER, "root"), memory.offset(_HEADER, "parent")
    wanted, here, names = memory.u64(place.start + root), place.start, [_first_name(memory, place.start)]
    while (above := memory.u64(here + parent)) and len(names) < _MAX_DEPTH:
        if not is_kernel_pointer(above) or memory.u64(above + root) != wanted:
            return None
        here = above
        names.insert(0, _first_name(memory, here))
    if above or here == place.start or not is_kernel_pointer(wanted):
        return None
    path = "/".join(["/proc/sys", *filter(None, names)])
    return f"the table of {path}", f"the first look at {path} meets freed memory"


def _first_name(memory: KernelMemory, header: int) -> str:
    """Of the first entry in a table; a directory has no other. "" for the top."""
    table = memory.u64(header + memory.offset(_HEADER, "ctl_table"))
    return memory.text(memory.u64(table + memory.offset("ctl_table", "procname")), "") if table else ""
