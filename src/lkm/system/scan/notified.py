# SPDX-License-Identifier: MIT
"""Pointers into a module in what the kernel itself keeps of each module: its removal takes that away.

Most of it goes by the notifiers of MODULE_STATE_GOING, which delete_module calls whether or not there is an exit
(kernel/module.c in 5.10, kernel/module/main.c since 5.19), some in free_module: trace events, tracepoints, static
calls and keys, BTF, debug messages. A driver with trace events has thousands. Each rule names the function.
"""

from __future__ import annotations

from bisect import bisect_right
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
_ABOVE = 1 << 64
_EVENTS = "trace_module_remove_events at MODULE_STATE_GOING"


class _Listed(NamedTuple):
    """Elements of a list of the kernel: each is of the module that `owner` points into, by the first of these names
    that the struct has."""

    head: str
    struct: str
    link: str
    owner: tuple[str, ...]
    why: str


_GOING = "at MODULE_STATE_GOING"
_LISTS = (
    _Listed("tracepoint_module_list", "tp_module", "list", ("mod",), f"tracepoint_module_going {_GOING}"),
    _Listed("btf_modules", "btf_module", "list", ("module",), f"btf_module_notify {_GOING}"),
    _Listed("bpf_trace_modules", "bpf_trace_module", "list", ("module",), f"bpf_event_notify {_GOING}"),
    _Listed("module_strings", "module_string", "next", ("module",), _EVENTS),
    _Listed("error_injection_list", "ei_entry", "list", ("priv",), f"module_unload_ei_list {_GOING}"),
    _Listed(
        "kprobe_blacklist", "kprobe_blacklist_entry", "list", ("start_addr",),
        f"remove_module_kprobe_blacklist {_GOING}",
    ),
    _Listed("ftrace_mod_maps", "ftrace_mod_map", "list", ("mod",), "ftrace_release_mod in delete_module"),
    _Listed(
        "ddebug_tables", "ddebug_table", "link", ("mod_name", "info.mod_name"),
        f"ddebug_remove_module {_GOING}, or in free_module",
    ),
    _Listed("smp_alt_modules", "smp_alt_module", "next", ("mod",), "alternatives_smp_module_del in free_module"),
)  # fmt: skip
_HOLDERS = (("perf_event", "tp_event"), ("trace_eprobe", "event"))
"""Members of other objects that point to a trace event and stay: these hold a reference."""


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
        at = bisect_right(self._events, (value, _ABOVE)) - 1
        if at >= 0 and value < self._events[at][1] and not self._holds(place):
            return _EVENTS
        return self.of_object(place)

    def _holds(self, place: Place) -> bool:
        """Whether it is a member of `_HOLDERS`, by its offset; an event probe may have any number of arguments."""
        return place.kind is PlaceKind.SLAB and any(
            place.offset == self._memory.find_offset(struct, member)
            and 0 < self._memory.find_size(struct) <= place.size
            for struct, member in _HOLDERS
        )

    def of_object(self, place: Place) -> str:
        """What frees that object, or ""."""
        if place.kind is not PlaceKind.SLAB:
            return ""
        return self._objects.get(place.start, "") or self._patch(place)

    def _patch(self, place: Place) -> str:
        for each, (start, end) in self._tables:
            if (
                start < end
                and 0 < self._memory.find_size(each.struct) <= place.size
                and start <= self._member(place.start, each.struct, each.table) < end
                and self._member(place.start, each.struct, "mod") == self._module.address
            ):
                return f"{each.why} {_GOING}"
        return ""

    @cached_property
    def _tables(self) -> tuple[tuple[_Patched, tuple[int, int]], ...]:
        """Where the module has its tables of places to be patched."""
        return tuple((each, self._table(each)) for each in _PATCHES)

    def _table(self, of: _Patched) -> tuple[int, int]:
        start = self._member(self._module.address, "module", of.start)
        try:
            count = self._memory.u32(self._module.address + self._memory.offset("module", of.number))
        except LkmError:
            return 0, 0
        return start, start + count * self._memory.find_size(of.entry)

    @cached_property
    def _objects(self) -> dict[int, str]:
        """Start of each element → why."""
        found = dict.fromkeys(self._event_fields(), _EVENTS)
        for each in _LISTS:
            found.update(dict.fromkeys(self._listed(each), each.why))
        return found

    def _listed(self, each: _Listed) -> Iterator[int]:
        link, head = self._memory.find_offset(each.struct, each.link), self._memory.symbols.address(each.head)
        if link is None or not head:
            return
        for node in self._memory.list_nodes(head, what=each.head):
            if self._module.owns(self._member(node - link, each.struct, *each.owner)):
                yield node - link

    @cached_property
    def _calls(self) -> tuple[int, ...]:
        """Each struct trace_event_call of the module."""
        try:
            start = self._memory.offset("module", "trace_events")
            count = self._memory.offset("module", "num_trace_events")
            number = self._memory.u32(self._module.address + count)
            first = self._memory.u64(self._module.address + start)
            if number > _MAX_EVENTS:
                self._memory.note(
                    f"of {number} trace events of {self._module.name} {_MAX_EVENTS} were looked at"
                )
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
        """Where its events are, and those of their classes that are its own."""
        call, kind = self._memory.find_size("trace_event_call"), self._memory.find_size("trace_event_class")
        calls = [(at, at + call) for at in self._calls]
        return tuple(sorted([*calls, *((at, at + kind) for at in self._classes if self._module.owns(at))]))

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

    def _member(self, start: int, struct: str, *members: str) -> int:
        """The pointer in the first of these that the struct has; 0 where it has none, or it cannot be read."""
        try:
            return self._memory.u64(start + self._memory.offset(struct, *members))
        except LkmError:
            return 0
