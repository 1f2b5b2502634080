# SPDX-License-Identifier: MIT
"""What leads to an object of a general cache: nobody knows its type, but the kernel finds it from somewhere.

An object is led to if a variable of the kernel or of another module holds its address, or if it is in a list (of
structs list_head or hlist_node) that one of them is in too. So are hooks of netfilter found, and elements that a
module has allocated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.system.kcore import Kcore, KcoreError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scan.engine import Span, Wanted, search
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
_FIXED = ("text", "rodata", "init")
_MAX_OBJECTS = 256
_MAX_WORDS = 128
_MAX_NODES = 2048


class Leads:
    """For one scan. What cannot be read leads nowhere."""

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
        chosen = list(objects)[:_MAX_OBJECTS]
        leads = self._variables(chosen, module)
        for start in chosen:
            if start not in leads and (node := self._listed(objects[start], module)):
                leads[start] = node
        return tuple(
            self._live(hit, leads[hit.place.start]) if _is_object(hit) and hit.place.start in leads else hit
            for hit in hits
        )

    def _live(self, hit: Hit, lead: Place) -> Hit:
        try:
            found = identify(self._memory, lead, hit.place.start)
        except LkmError as error:
            self._memory.note_error(f"what leads to the object at {hit.place.start:#x}", error)
            found = None
        if found is None:
            return hit
        what, event = found
        what = f"{what} leads to a {hit.place.name} object, which"
        return hit._replace(found=HitClass.LIVE, what=what, event=event)

    def _variables(self, objects: Iterable[int], module: LoadedModule) -> dict[int, Place]:
        """Object → the variable that holds its address: of the kernel, of another module, of a network namespace."""
        wanted = Wanted((start, start + 1) for start in objects)
        spans = [span for start, end in self._stretches(module) for span in self._span(start, end)]
        found: dict[int, Place] = {}
        try:
            for at, value in search(self._kcore, spans, wanted, _silent):
                place = self._places.mapped(at) or self._places.place(at)
                if is_followed(place):
                    found.setdefault(value, place)
        except KcoreError as error:
            self._memory.note_error("the kernel's variables", error)
        return found

    def _span(self, start: int, end: int) -> Iterator[Span]:
        for segment in self._kcore.segments:
            if segment.start <= start < end <= segment.start + segment.size:
                yield Span(segment, start, end - start)
                return

    def _stretches(self, module: LoadedModule) -> Iterator[tuple[int, int]]:
        """Start and end of memory with variables, in whole words."""
        for first, last in _IMAGE:
            yield self._memory.symbols.address(first) & ~7, self._memory.symbols.address(last) & ~7
        for other in self._modules:
            if other.name != module.name:
                for part in other.memory:
                    if not part.kind.startswith(_FIXED):
                        yield part.start, part.start + (part.size & ~7)
        try:
            size = self._memory.sizeof("net") & ~7
            yield from ((net, net + size) for net in network_namespaces(self._memory))
        except LkmError as error:
            self._memory.note_error("the network namespaces", error)

    def _listed(self, place: Place, module: LoadedModule) -> Optional[Place]:
        """A variable in one of the lists that the object is in, or None."""
        count = min(place.size // 8, _MAX_WORDS)
        try:
            words = self._memory.words(place.start, count)
        except LkmError:
            return None
        for index in range(1, count):
            if is_kernel_pointer(words[index]):
                found = self._behind(place.start + 8 * (index - 1), module)
                if found:
                    return found
        return None

    def _behind(self, first: int, module: LoadedModule) -> Optional[Place]:
        """The variable that is reached from that node, backwards: each has, after the way on, the way back to where
        its address is (list_head.prev, hlist_node.pprev). None where `first` is no node, or only the module's own
        variables are in its list."""
        node = first
        try:
            for _ in range(_MAX_NODES):
                before = self._memory.u64(node + 8)
                if before in (node, first) or self._memory.u64(before) != node:
                    return None
                place = self._places.mapped(before)
                if place and place.live and place.module != module.name:
                    return place
                node = before
        except LkmError:
            pass
        return None


def _is_object(hit: Hit) -> bool:
    return hit.found is HitClass.UNKNOWN and hit.place.kind is PlaceKind.SLAB and hit.place.live is True


def _silent(_done: int, _total: int) -> None:
    """A few megabytes."""
