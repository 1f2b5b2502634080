# SPDX-License-Identifier: MIT
"""What leads to an object whose type nobody knows, of a general cache mostly: the kernel may find it from somewhere.

An object is led to if a variable of the kernel or of another module points into it, or if it is in a list (of structs
list_head or hlist_node) that one of them is in too. So are hooks of netfilter found, and elements that a module has
allocated. Per-CPU variables are met in lists alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from lkm.errors import LkmError
from lkm.system.kcore import Kcore, KcoreError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scan.engine import RawHit, Span, Wanted, search, silent
from lkm.system.scan.expected import is_followed
from lkm.system.scan.objects import identify
from lkm.system.scan.places import Places
from lkm.system.scanned import Hit, HitClass, Place, PlaceKind
from lkm.system.snapshot import LoadedModule
from lkm.system.tables.namespaces import network_namespaces

__all__ = ["Leads"]

_IMAGE = (
    ("_sdata", "_edata"),
    ("__start_ro_after_init", "__end_ro_after_init"),
    ("__bss_start", "__bss_stop"),
)
"""Where the image has variables: between them lies memory that was given back after boot."""
_MAX_OBJECTS = 1024
_MAX_WORDS = 512
_MAX_NODES = 4096


class Leads:
    """For one scan. What cannot be read leads nowhere, and a note says so."""

    def __init__(
        self, memory: KernelMemory, kcore: Kcore, places: Places, modules: Iterable[LoadedModule]
    ) -> None:
        self._memory = memory
        self._kcore = kcore
        self._places = places
        self._modules = tuple(modules)

    def follow(self, hits: Iterable[Hit], module: LoadedModule) -> tuple[Hit, ...]:
        """The hits of that module; those of unknown owners in an object that something leads to are live."""
        hits = tuple(hits)
        objects = {hit.place.start: hit.place for hit in hits if _is_object(hit)}
        if not objects:
            return hits
        leads = self._variables(objects, module)
        rest = [place for start, place in objects.items() if start not in leads]
        if len(rest) > _MAX_OBJECTS:
            self._memory.note(f"of {len(rest)} objects the lists of {_MAX_OBJECTS} were looked at")
        lists = _Lists(self._memory, self._places, module)
        for place in rest[:_MAX_OBJECTS]:
            node = lists.variable(place)
            lead = self._told(node, place.start) if node else None
            if lead:
                leads[place.start] = lead
        return tuple(
            _live(hit, *leads[hit.place.start]) if _is_object(hit) and hit.place.start in leads else hit
            for hit in hits
        )

    def _told(self, variable: Place, value: int) -> Optional[tuple[str, str]]:
        """What it is in words, and the event; None for one whose pointers are not followed, or that nobody knows."""
        try:
            return identify(self._memory, variable, value) if is_followed(variable) else None
        except LkmError as error:
            self._memory.note_error(f"what leads to the object at {value:#x}", error)
            return None

    def _variables(self, objects: Mapping[int, Place], module: LoadedModule) -> dict[int, tuple[str, str]]:
        """Object → the variable that points into it: of the kernel, of another module, of a network namespace."""
        starts = sorted(objects)
        wanted = Wanted((start, start + objects[start].size) for start in starts)
        found: dict[int, tuple[str, str]] = {}
        for stretch in self._stretches(module):
            for at, value in self._words(*stretch, wanted):
                start = starts[bisect_right(starts, value) - 1]
                lead = self._told(self._places.mapped(at) or self._places.place(at), start)
                if lead:
                    found.setdefault(start, lead)
        return found

    def _words(self, start: int, end: int, wanted: Wanted) -> Iterator[RawHit]:
        """The wanted words of a stretch, up to one that cannot be read."""
        segments = self._kcore.segments
        segment = next((s for s in segments if s.start <= start and end <= s.start + s.size), None)
        if segment is None:
            self._memory.note(
                f"variables at {start:#x} were not searched: /proc/kcore does not have them whole"
            )
            return
        try:
            yield from search(self._kcore, [Span(segment, start, end - start)], wanted, silent)
        except KcoreError as error:
            self._memory.note_error(f"variables at {start:#x}", error)

    def _stretches(self, module: LoadedModule) -> Iterator[tuple[int, int]]:
        """Start and end of memory with variables, in whole words."""
        address = self._memory.symbols.address
        for first, last in _IMAGE:
            if address(first) and address(last):
                yield address(first) & ~7, address(last) & ~7
            else:
                self._memory.note(f"what the kernel's variables from {first} on lead to was not looked at")
        for part in (part for each in self._modules if each.name != module.name for part in each.memory):
            if part.writable:
                yield part.start, part.start + (part.size & ~7)
        try:
            size = self._memory.sizeof("net") & ~7
            yield from ((net, net + size) for net in network_namespaces(self._memory))
        except LkmError as error:
            self._memory.note_error("the network namespaces", error)


class _Lists:
    """Looks along the lists that objects are in, backwards: after the way on, each node has the way back to where its
    address is (list_head.prev, hlist_node.pprev)."""

    def __init__(self, memory: KernelMemory, places: Places, module: LoadedModule) -> None:
        self._memory = memory
        self._places = places
        self._module = module
        self._known: dict[int, Optional[Place]] = {}

    def variable(self, place: Place) -> Optional[Place]:
        """A variable in one of the object's lists that is not the module's own, or None."""
        count = min(place.size // 8, _MAX_WORDS)
        try:
            words = self._memory.words(place.start, count)
        except LkmError:
            return None
        for index in range(1, count):
            if is_kernel_pointer(words[index]):
                found = self._behind(place.start + 8 * (index - 1))
                if found:
                    return found
        return None

    def _behind(self, node: int) -> Optional[Place]:
        """The first variable on the way back from that node, or None where there is none, or it is no node."""
        path: list[int] = []
        found = None
        while node and node not in self._known and not found:
            if len(path) == _MAX_NODES:
                self._memory.note(
                    f"a list at {path[0]:#x} has more than {_MAX_NODES} nodes: no end was found"
                )
                break
            path.append(node)
            self._known[node] = None  # it may be a ring
            node = self._before(node)
            found = self._variable_at(node)
        found = found or self._known.get(node)
        self._known.update(dict.fromkeys(path, found))
        return found

    def _variable_at(self, address: int) -> Optional[Place]:
        place = self._places.mapped(address) if address else None
        return place if place and place.live and place.module != self._module.name else None

    def _before(self, node: int) -> int:
        """The node before; 0 where that does not lead back to this one."""
        try:
            before = self._memory.u64(node + 8)
            return before if before != node and self._memory.u64(before) == node else 0
        except LkmError:
            return 0


def _is_object(hit: Hit) -> bool:
    return hit.found is HitClass.UNKNOWN and hit.place.kind is PlaceKind.SLAB and hit.place.live is True


def _live(hit: Hit, what: str, event: str) -> Hit:
    return hit._replace(
        found=HitClass.LIVE, what=f"{what} leads to a {hit.place.name} object, which", event=event
    )
