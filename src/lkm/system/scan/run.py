# SPDX-License-Identifier: MIT
"""One scan, from the module's memory to hits with places."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.kcore import Kcore, KcoreError, Segment, open_kcore
from lkm.system.memory import KernelMemory
from lkm.system.scan.classify import Classifier
from lkm.system.scan.engine import Progress, RawHit, Span, Wanted, find_words, merged, silent, spans_of
from lkm.system.scan.expected import World
from lkm.system.scan.kept import kept_memory
from lkm.system.scan.leads import Leads
from lkm.system.scan.notified import Notified
from lkm.system.scan.pages import PageKind, Pages
from lkm.system.scan.places import Places, mapped_addresses
from lkm.system.scan.slabs import Slabs
from lkm.system.scan.translate import LinearMap, PageTables, linear_map
from lkm.system.scanned import Place, PlaceKind, Scan
from lkm.system.snapshot import LoadedModule, Registration

__all__ = ["Ram", "open_ram", "scan_modules"]

_LEAST = 1 << 16
"""Bytes: what is smaller and might be left out is searched with the rest, as a read more costs more."""
_MOST = 20_000
"""Pointers into one module that are looked at: most have a hundred, a file system in use may have a million."""
_NO_OBJECTS = (PlaceKind.FREE, PlaceKind.PROCESS, PlaceKind.PAGE_CACHE)


class Ram(NamedTuple):
    """What it takes to read RAM: the file, where RAM is in it, page tables and struct pages."""

    kcore: Kcore
    linear: LinearMap
    tables: PageTables
    pages: Pages

    def own_pages(self, module: LoadedModule) -> list[tuple[int, int]]:
        """Where the module's memory is in the linear map: (start, end)."""
        found = []
        for stretch in module.memory:
            end = -(-(stretch.start + stretch.size) // self.pages.page_size) * self.pages.page_size
            for part in self.tables.walk(stretch.start, end):
                first, last = max(part.start, stretch.start), min(part.start + part.size, end)
                address = self.linear.virtual(part.physical + first - part.start)
                if (
                    address is not None
                ):  # of a large page, the part that is the module's (execmem, since 6.10)
                    found.append((address, address + last - first))
        return merged(found)

    def without_objects(self) -> dict[PageKind, list[tuple[int, int]]]:
        """Where no kernel object is, in the linear map, (start, end), by kind; small stretches are left out."""
        size = self.pages.page_size
        found: dict[PageKind, list[tuple[int, int]]] = {PageKind.FREE: [], PageKind.CACHE: []}
        for segment in self.linear.segments:
            first = (segment.physical or 0) // size
            for kind, number, count in self.pages.blocks_without_objects(first, segment.size // size):
                start = segment.start + (number - first) * size
                found[kind].append((start, start + count * size))
        return {
            kind: [(start, end) for start, end in merged(ranges) if end - start >= _LEAST]
            for kind, ranges in found.items()
        }

    @property
    def images(self) -> list[Segment]:
        """Segments of the kernel's image: the same RAM at other addresses."""
        return [s for s in self.kcore.segments if s.physical is not None and s not in self.linear.segments]

    def hidden_variables(self, start: int) -> list[Span]:
        """What of the image from the address `start` on the linear map does not show: arm64 takes the kernel's
        variables out of it (seen on 7.3, not on 6.12), and /proc/kcore reads zeros there. Raises `KcoreError`."""
        size = self.pages.page_size
        for segment in self.images:
            if segment.start <= start and start + size <= segment.start + segment.size:
                alias = self.linear.virtual((segment.physical or 0) + start - segment.start)
                seen = self.kcore.read(alias, size) if alias is not None else bytes(size)
                if not any(seen) and any(self.kcore.read(start, size)):
                    return [Span(segment, start, segment.start + segment.size - start)]
        return []

    def number(self, address: int) -> int:
        """The page that a linear address lies in; 0 for one of another mapping."""
        return (self.linear.physical(address) or 0) // self.pages.page_size


def open_ram(root: Root, memory: KernelMemory) -> Ram:
    """Open /proc/kcore once more, for long reads. Raises `LkmError`."""
    kcore = open_kcore(root)
    info = kcore.vmcoreinfo()
    linear = linear_map(kcore.segments, info)
    tables = PageTables(kcore, linear, info, os.uname().machine)
    return Ram(kcore, linear, tables, Pages(kcore, info, memory.types.enum("pageflags")))


def scan_modules(
    root: Root,
    memory: KernelMemory,
    modules: Sequence[LoadedModule],
    targets: Sequence[LoadedModule],
    *,
    registrations: Iterable[Registration] = (),
    progress: Progress = silent,
) -> tuple[Scan, ...]:
    """Every pointer in RAM into each of `targets`, attributed; RAM is read once. Raises `LkmError`."""
    start = time.monotonic()
    before = len(memory.notes)
    ram = open_ram(root, memory)
    own = {target.name: ram.own_pages(target) for target in targets}
    for name, ranges in own.items():
        if not ranges:
            raise KcoreError(f"{name}: where its memory is in RAM cannot be told")
    left_out = ram.without_objects()
    spans = spans_of(ram.linear.segments, [span for ranges in left_out.values() for span in ranges])
    spans += tuple(ram.hidden_variables(memory.symbols.address("_sdata") & ~7))
    wanted = Wanted((part.start, part.start + part.size) for target in targets for part in target.memory)
    words = _first_of(
        memory, targets, _of_others(find_words(ram.kcore, spans, wanted, progress), targets, own)
    )
    places = _places(ram, memory, modules, words)
    found = [(word.value, place) for word in words if (place := _place(ram, places, word))]
    kept = [(value, place) for value, place in found if place.kind not in _NO_OBJECTS]
    world = World.of(root, memory, modules, registrations, machine=os.uname().machine)
    leads = Leads(memory, ram.kcore, places, modules)
    scans = []
    for target in targets:
        notified = Notified(memory, target)
        mine = [(value, place) for value, place in kept if target.owns(value)]
        scans.append(
            Scan(
                target.name,
                hits=leads.follow(Classifier(world, target, mine, notified).hits(), target),
                searched=sum(span.size for span in spans) - _bytes(own[target.name]),
                free=_bytes(left_out[PageKind.FREE]),
                users=_bytes(left_out[PageKind.CACHE]),
                own=_bytes(own[target.name]),
                dropped=sum(target.owns(value) for value, _ in found) - len(mine),
                changed=sum(target.owns(word.value) for word in words)
                - sum(target.owns(v) for v, _ in found),
                kept=kept_memory(memory, ram.linear, places, target, notified),
            )
        )
    seconds, notes = round(time.monotonic() - start, 3), tuple(memory.notes[before:])
    return tuple(scan._replace(seconds=seconds, notes=notes) for scan in scans)


def _of_others(
    words: Iterable[RawHit],
    targets: Sequence[LoadedModule],
    own: Mapping[ModuleName, Sequence[tuple[int, int]]],
) -> Iterator[RawHit]:
    """Those that are not in the memory of the module that they point into. It is left out here and not from the
    search: one of these modules may point into another."""
    for word in words:
        if not any(_holds(own[target.name], word.at) for target in targets if target.owns(word.value)):
            yield word


def _first_of(memory: KernelMemory, targets: Iterable[LoadedModule], words: Iterable[RawHit]) -> list[RawHit]:
    """So many of each module that their places can be told in good time; a note says how many more there are."""
    rest, kept = list(words), []
    for target in targets:
        mine = [word for word in rest if target.owns(word.value)]
        kept += mine[:_MOST]
        if len(mine) > _MOST:
            memory.note(f"{len(mine) - _MOST} of {len(mine)} pointers into {target.name} were not looked at")
    return kept


def _place(ram: Ram, places: Places, word: RawHit) -> Optional[Place]:
    """Its place, or None for a word that has changed since it was found, or while its place was told: that would be
    another object's by now."""
    if not _is_there(ram, word):
        return None
    place = places.place(word.at)
    return place if _is_there(ram, word) else None


def _is_there(ram: Ram, word: RawHit) -> bool:
    try:
        return int.from_bytes(ram.kcore.read(word.at, 8), "little") == word.value
    except KcoreError:
        return False


def _places(
    ram: Ram, memory: KernelMemory, modules: Sequence[LoadedModule], words: Sequence[RawHit]
) -> Places:
    numbers = {ram.number(word.at) for word in words}
    mapped = mapped_addresses(ram.kcore, ram.tables, numbers, ram.pages.page_size)
    return Places(
        memory,
        modules,
        linear=ram.linear,
        pages=ram.pages,
        images=ram.images,
        mapped=mapped,
        slabs=Slabs(memory),
    )


def _holds(ranges: Iterable[tuple[int, int]], address: int) -> bool:
    return any(start <= address < end for start, end in ranges)


def _bytes(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)
