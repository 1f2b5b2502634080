# SPDX-License-Identifier: MIT
"""Pointers into a module that the notifiers of MODULE_STATE_GOING take away.

delete_module calls them whether or not there is an exit (kernel/module.c in 5.10, kernel/module/main.c since 5.19):
trace events, tracepoints, static calls and keys, BTF, debug messages. A driver with trace events has thousands.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from lkm.errors import LkmError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scanned import Place, PlaceKind
from lkm.system.snapshot import LoadedModule

__all__ = ["Notified"]

_MAX_EVENTS = 4096
_MAX_FIELDS = 256
_EVENTS = "trace_module_remove_events, by the notifier of MODULE_STATE_GOING"


class _Listed(NamedTuple):
    """Elements of a list of the kernel: each is of a module that `owner` points into."""

    head: str
    struct: str
    link: str
    owner: str
    why: str


_LISTS = (
    _Listed("tracepoint_module_list", "tp_module", "list", "mod", "tracepoint_module_going"),
    _Listed("btf_modules", "btf_module", "list", "module", "btf_module_notify"),
    _Listed("bpf_trace_modules", "bpf_trace_module", "list", "module", "bpf_event_notify"),
    _Listed("ddebug_tables", "ddebug_table", "link", "mod_name", "ddebug_remove_module"),
    _Listed("error_injection_list", "ei_entry", "list", "priv", "module_unload_ei_list"),
    _Listed(
        "kprobe_blacklist", "kprobe_blacklist_entry", "list", "start_addr", "remove_module_kprobe_blacklist"
    ),
    _Listed("smp_alt_modules", "smp_alt_module", "next", "mod", "alternatives_smp_module_del"),
)


class _Patched(NamedTuple):
    """What a key of the kernel keeps of each module that has places for it to patch: the module, and its table."""

    struct: str
    table: str
    start: str
    number: str
    entry: str
    why: str


_PATCHES = (
    _Patched(
        "static_call_mod", "sites", "static_call_sites", "num_static_call_sites", "static_call_site",
        "static_call_del_module",
    ),
    _Patched(
        "static_key_mod", "entries", "jump_entries", "num_jump_entries", "jump_entry", "jump_label_del_module"
    ),
)  # fmt: skip


class Notified:
    """The rules for one module. What cannot be read makes a rule that applies to nothing."""

    def __init__(self, memory: KernelMemory, module: LoadedModule) -> None:
        self._memory = memory
        self._module = module

    def reason(self, value: int, place: Place) -> str:
        """What takes this word away, or ""."""
        if any(start <= value < end for start, end in self._events):
            return _EVENTS
        return self.of_object(place)

    def of_object(self, place: Place) -> str:
        """What frees that object, or ""."""
        if place.kind is not PlaceKind.SLAB:
            return ""
        return self._objects.get(place.start, "") or self._patch(place)

    def _patch(self, place: Place) -> str:
        for each in _PATCHES:
            start, end = self._table(each)
            if (
                start < end
                and 0 < self._size(each.struct) <= place.size
                and start <= self._member(place.start, each.struct, each.table) < end
                and self._member(place.start, each.struct, "mod") == self._module.address
            ):
                return f"{each.why}, by the notifier of MODULE_STATE_GOING"
        return ""

    def _table(self, of: _Patched) -> tuple[int, int]:
        """Start and end of the module's table of that kind; the same where it has none."""
        start = self._member(self._module.address, "module", of.start)
        try:
            count = self._memory.u32(self._module.address + self._memory.offset("module", of.number))
        except LkmError:
            return 0, 0
        return start, start + count * self._size(of.entry)

    @cached_property
    def _objects(self) -> dict[int, str]:
        """Start of each element → why."""
        found = dict.fromkeys(self._event_fields(), _EVENTS)
        for each in _LISTS:
            found.update(
                dict.fromkeys(self._listed(each), f"{each.why}, at MODULE_STATE_GOING or in free_module")
            )
        return found

    def _listed(self, each: _Listed) -> Iterator[int]:
        try:
            link, head = self._memory.offset(each.struct, each.link), self._memory.symbol(each.head)
        except LkmError:
            return
        for node in self._memory.list_nodes(head, what=each.head):
            if self._module.owns(self._member(node - link, each.struct, each.owner)):
                yield node - link

    @cached_property
    def _calls(self) -> tuple[int, ...]:
        """Each struct trace_event_call of the module."""
        try:
            start = self._memory.offset("module", "trace_events")
            count = self._memory.offset("module", "num_trace_events")
            number = self._memory.u32(self._module.address + count)
            first = self._memory.u64(self._module.address + start)
            calls = self._memory.words(first, min(number, _MAX_EVENTS)) if number else ()
        except LkmError:
            return ()
        return tuple(call for call in calls if self._module.owns(call))

    @cached_property
    def _classes(self) -> tuple[int, ...]:
        found = {self._member(call, "trace_event_call", "class") for call in self._calls}
        return tuple(sorted(each for each in found if is_kernel_pointer(each)))

    @cached_property
    def _events(self) -> tuple[tuple[int, int], ...]:
        """Where its events are, and those of their classes that are not another module's."""
        call, kind = self._size("trace_event_call"), self._size("trace_event_class")
        return (
            *((at, at + call) for at in self._calls),
            *((at, at + kind) for at in self._classes if self._module.owns(at)),
        )

    def _event_fields(self) -> Iterator[int]:
        """Each struct ftrace_event_field: its name and type are strings of the module."""
        try:
            fields = self._memory.offset("trace_event_class", "fields")
            link = self._memory.offset("ftrace_event_field", "link")
        except LkmError:
            return
        for each in self._classes:
            what = f"the fields of trace events of {self._module.name}"
            for node in self._memory.list_nodes(each + fields, what=what, limit=_MAX_FIELDS):
                yield node - link

    def _member(self, start: int, struct: str, member: str) -> int:
        """The pointer there; 0 where that cannot be read, or this kernel's struct has none."""
        try:
            return self._memory.u64(start + self._memory.offset(struct, member))
        except LkmError:
            return 0

    def _size(self, name: str) -> int:
        """Bytes of that type; 0 where this kernel has none."""
        try:
            return self._memory.sizeof(name)
        except LkmError:
            return 0
