# SPDX-License-Identifier: MIT
"""Where a word of RAM lies: whose memory it is, and whether that is in use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.system.exports import symbol_or_export
from lkm.system.kcore import Kcore, Segment
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.scan.pages import Page, PageKind, Pages
from lkm.system.scan.slabs import Slabs
from lkm.system.scan.stacks import Stacks
from lkm.system.scan.translate import LinearMap, PageTables
from lkm.system.scanned import Place, PlaceKind
from lkm.system.snapshot import LoadedModule

__all__ = ["Places", "mapped_addresses"]

_WORD = (1 << 64) - 1
_LARGE = 1 << 21
"""Bytes: a mapping of this size or more is no vmalloc area, nor a module."""

_SECTION = ".data..percpu"
_EXPORTED = ("cpu_number", "numa_node", "softnet_data", "cpu_sibling_map")
"""Per-CPU variables that modules may use."""
_CPU_STACKS = ("irq_stack_backing_store", "exception_stacks", "entry_stack_storage", "doublefault_stack")
"""Stacks of a CPU, arch/x86/kernel/{irq_64,cpu/common}.c, 5.10 to 7.x: how much is in use nobody tells."""

_SIMPLE = {
    PageKind.FREE: (PlaceKind.FREE, False),
    PageKind.ANONYMOUS: (PlaceKind.PROCESS, False),
    PageKind.CACHE: (PlaceKind.PAGE_CACHE, False),
    PageKind.RESERVED: (PlaceKind.EARLY, None),
    PageKind.OTHER: (PlaceKind.PAGE, None),
}


def mapped_addresses(
    kcore: Kcore, tables: PageTables, numbers: Iterable[int], page_size: int
) -> dict[int, int]:
    """Page number → the address at which vmalloc, a module or the kernel's image has it, for those that one
    of them has."""
    wanted = set(numbers)
    found: dict[int, int] = {}
    for segment in kcore.segments:
        if segment.physical is not None:
            continue
        for stretch in tables.walk(segment.start, segment.start + segment.size):
            first = stretch.physical // page_size
            count = stretch.size // page_size
            if stretch.size < _LARGE:
                found.update(
                    (n, stretch.start + (n - first) * page_size)
                    for n in range(first, first + count)
                    if n in wanted
                )
            else:
                for number in wanted:
                    if first <= number < first + count:
                        found[number] = stretch.start + (number - first) * page_size
    return found


class Places:
    """Answers for one scan; `mapped` is what `mapped_addresses` gave for the pages of its hits."""

    def __init__(
        self,
        memory: KernelMemory,
        modules: Sequence[LoadedModule],
        *,
        linear: LinearMap,
        pages: Pages,
        images: Sequence[Segment],
        mapped: dict[int, int],
        slabs: Slabs,
    ) -> None:
        self._memory = memory
        self._linear = linear
        self._pages = pages
        self._mapped = mapped
        self._owners = Owners(modules)
        self._stacks = Stacks(memory)
        self._slabs = slabs
        self._per_cpu = _PerCpu(memory, modules, self._slabs.cpu_offsets)
        self._named = bool(memory.symbols.address("init_task"))  # else functions alone have names
        self._images = images

    def place(self, at: int) -> Place:
        """The place of the word at the address `at`, of the linear map or of the image. What cannot be told is a
        place of kind PAGE."""
        physical = self._linear.physical(at)
        try:
            if physical is None:
                return self._variable(at)
            number = physical // self._pages.page_size
            mapped = self._mapped.get(number)
            alias = mapped + physical % self._pages.page_size if mapped is not None else None
            return self._by_page(at, alias, number)
        except LkmError as error:
            self._memory.note_error(f"the place of the word at {at:#x}", error)
            return Place(PlaceKind.PAGE, at)

    def _variable(self, at: int) -> Place:
        """Of a word that was found in the image itself; memory of its init was given back after boot."""
        segment = next((s for s in self._images if s.start <= at < s.start + s.size), None)
        if segment is not None and segment.physical is not None:
            number = (segment.physical + at - segment.start) // self._pages.page_size
            if self._pages.page(number).kind is PageKind.RESERVED:
                return self.mapped(at) or Place(PlaceKind.PAGE, at)
        return Place(PlaceKind.PAGE, at)

    def _image(self, at: int) -> Optional[int]:
        """The address in the kernel's image, where /proc/kcore has a segment for it (x86_64)."""
        physical = self._linear.physical(at) or 0
        for segment in self._images:
            if segment.physical is not None and 0 <= physical - segment.physical < segment.size:
                return segment.start + physical - segment.physical
        return None

    def _kernel(self, address: int) -> Place:
        symbol = self._memory.symbolize(address) if self._named else None
        name, offset = (symbol.name, symbol.offset) if symbol else ("", 0)
        return Place(PlaceKind.KERNEL, address, name=name, offset=offset, live=True)

    def _by_page(self, at: int, alias: Optional[int], number: int) -> Place:
        page = self._pages.page(number)
        if page.kind is PageKind.SLAB:
            return self._slab(at, page)
        if alias is None and page.kind is PageKind.RESERVED:
            alias = self._image(at)
        for address in (at, alias):
            stack = self._stacks.of(address) if address is not None else None
            if stack and address is not None:
                return Place(
                    PlaceKind.STACK, address, name=stack.command, pid=stack.tid, live=stack.in_use(address),
                    start=stack.start, offset=address - stack.start,
                )  # fmt: skip
        if page.kind not in (PageKind.ANONYMOUS, PageKind.CACHE, PageKind.FREE):
            reserved = page.kind is PageKind.RESERVED
            known = self._mapping(alias, reserved=reserved) if alias is not None else None
            known = known or self._per_cpu.place(at)
            if known:
                return known
        kind, live = _SIMPLE[page.kind]
        start = self._linear.virtual(page.head * self._pages.page_size) or 0
        return Place(kind, at, start=start, offset=at - start, live=live)

    def mapped(self, address: int) -> Optional[Place]:
        """The place of a variable of the kernel or of a module at the address that the kernel uses, or None."""
        if self._stacks.of(address):  # that of CPU 0's idle task is among the variables
            return None
        try:
            place = self._mapping(address, reserved=True)
        except LkmError as error:
            self._memory.note_error(f"the place of the word at {address:#x}", error)
            return None
        bounded = bool(self._memory.symbols.address("_end"))
        return place if bounded or place is None or place.kind is not PlaceKind.KERNEL else None

    def _mapping(self, address: int, *, reserved: bool) -> Optional[Place]:
        """By the address in another mapping. Pages of the image that were given back after boot (init memory,
        the rest of a large page) are not reserved any more, and are anybody's."""
        owner = self._owners.of(address)
        if owner:
            name, offset = self._symbol_of_module(owner, address)
            return Place(PlaceKind.MODULE, address, name=name, offset=offset, module=owner, live=True)
        if reserved and self._in_image(address):
            return self._kernel(address)
        known = self._per_cpu.place(address)
        return known or (None if reserved else Place(PlaceKind.VMALLOC, address))

    def _symbol_of_module(self, owner: ModuleName, address: int) -> tuple[str, int]:
        """The symbol, if it is in the same stretch of its memory: sections without symbols come after others."""
        symbol = self._memory.symbolize(address, owner)
        module = next(each for each in self._owners.modules if each.name == owner)
        if symbol and any(
            part.holds(address) and part.holds(address - symbol.offset) for part in module.memory
        ):
            return symbol.name, symbol.offset
        return "", 0

    def _in_image(self, address: int) -> bool:
        symbols = self._memory.symbols
        return symbols.address("_stext") <= address <= (symbols.address("_end") or _WORD)

    def _slab(self, at: int, page: Page) -> Place:
        start = self._linear.virtual(page.head * self._pages.page_size) or 0
        found = self._slabs.object_at(at, page.address, start)
        return Place(
            PlaceKind.SLAB, at, name=found.cache, start=found.start, offset=at - found.start,
            size=found.size, live=found.allocated, shared=found.shared,
        )  # fmt: skip


class _PerCpu:
    """Per-CPU data: the kernel's own by symbol, that of modules, and what was allocated."""

    def __init__(self, memory: KernelMemory, modules: Sequence[LoadedModule], offsets: Sequence[int]) -> None:
        self._memory = memory
        self._offsets = offsets
        self._start, self._end = _static_area(memory, offsets)
        has_symbols = memory.symbols.address("__per_cpu_end") or not self._end
        self._names = None if has_symbols else memory.types.section(_SECTION)
        self._modules = [found for module in modules if (found := _module_per_cpu(memory, module))]
        self._chunk = _first_chunk(memory)

    def _named(self, address: int) -> tuple[str, int]:
        """The variable there, and how far inside of it."""
        if self._names is None:
            symbol = self._memory.symbolize(address)
            return (symbol.name, symbol.offset) if symbol else ("", 0)
        inside = address - self._start
        at, name = max(((at, name) for name, at in self._names.items() if at <= inside), default=(inside, ""))
        return name, inside - at

    def place(self, address: int) -> Optional[Place]:
        """The place of an address in per-CPU memory, or None for an address that is not."""
        for cpu, offset in enumerate(self._offsets):
            inside = address - offset & _WORD
            if self._start <= inside < self._end:
                name, at = self._named(inside)
                if name in _CPU_STACKS:
                    return Place(
                        PlaceKind.STACK, address, name=f"interrupts of CPU {cpu}", offset=at, cpu=cpu
                    )
                return Place(PlaceKind.PER_CPU, address, name=name, offset=at, cpu=cpu, live=True)
            for start, size, name in self._modules:
                if start <= inside < start + size:
                    return Place(
                        PlaceKind.PER_CPU, address, offset=inside - start, cpu=cpu, module=name, live=True
                    )
        start, end = self._chunk
        if start <= address < end:
            return Place(PlaceKind.PER_CPU, address, start=start, offset=address - start)
        return None


def _module_per_cpu(memory: KernelMemory, module: LoadedModule) -> Optional[tuple[int, int, str]]:
    if not module.address or not memory.has("module", "percpu"):
        return None
    try:
        start = memory.u64(module.address + memory.offset("module", "percpu"))
        size = memory.u32(module.address + memory.offset("module", "percpu_size"))
    except LkmError:
        return None
    return (start, size, module.name) if start and size else None


def _static_area(memory: KernelMemory, offsets: Sequence[int]) -> tuple[int, int]:
    """The kernel's own per-CPU variables, at the addresses that their symbols have; without such symbols, by the
    one that is exported, and what BTF has of their section."""
    start, end = memory.symbols.address("__per_cpu_start"), memory.symbols.address("__per_cpu_end")
    if end or not offsets:
        return start, end
    try:
        known = memory.types.section(_SECTION)
        name = next((name for name in _EXPORTED if name in known), "")
        start = symbol_or_export(memory, name) - known[name]
        return start, start + memory.sizeof(_SECTION)
    except LkmError as error:
        memory.note_error("the kernel's per-CPU variables", error)
        return 0, 0


def _first_chunk(memory: KernelMemory) -> tuple[int, int]:
    """The chunk that was set up at boot (pcpu_setup_first_chunk, mm/percpu.c): a unit a CPU."""
    try:
        start = memory.pointer(symbol_or_export(memory, "pcpu_base_addr"))
        units = memory.u32(memory.symbol("pcpu_nr_units"))
        return start, start + units * memory.u32(memory.symbol("pcpu_unit_size"))
    except LkmError:
        return 0, 0
