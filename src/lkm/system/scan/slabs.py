# SPDX-License-Identifier: MIT
"""Objects of slab caches (SLUB): whose an address is, and whether it is allocated.

A slab's head page is its struct slab (struct page until 5.16, d122019bf061 "mm: Split slab into its own
type"): cache, number of objects, first free object. The free ones are a chain, each with a pointer at
`kmem_cache.offset`; with CONFIG_SLAB_FREELIST_HARDENED it is stored as `pointer ^ random ^ swab(its address)`
(freelist_ptr, mm/slub.c, since 5.7). A CPU has a chain of its own of the slab it allocates from
(kmem_cache_cpu), and since 6.18 sheaves: arrays of free objects (slub_percpu_sheaves, node_barn).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.exports import symbol_or_export
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.per_cpu import per_cpu_offsets

__all__ = ["SlabObject", "Slabs"]

_MAX_OBJECTS = 1 << 15
_MAX_SHEAVES = 1 << 12
_KFENCE_SIZE = (255 + 1) * 2 * 4096
"""KFENCE_POOL_SIZE with the usual CONFIG_KFENCE_NUM_OBJECTS (include/linux/kfence.h, since 5.12)."""
_MAX_NODES = 1 << 10
"""MAX_NUMNODES: CONFIG_NODES_SHIFT is at most 10."""


class SlabObject(NamedTuple):
    """An object: its cache, where it starts, its size in bytes; `allocated` is None where that is not known;
    `shared` where the cache has other types of that size too: it has the name of the first (slab merging)."""

    cache: str
    start: int
    size: int
    allocated: Optional[bool]
    shared: bool = False


class _Cache(NamedTuple):
    address: int
    name: str
    size: int
    object_size: int
    link: int
    random: int
    left_pad: int
    shared: bool


class Slabs:
    """The slabs of this kernel; what was read once is kept."""

    def __init__(self, memory: KernelMemory) -> None:
        self._memory = memory
        self._type = "slab" if memory.has("slab", "slab_cache") else "page"
        self._caches: dict[int, _Cache] = {}
        self._free: dict[int, Optional[frozenset[int]]] = {}
        self._sheaves: dict[int, frozenset[int]] = {}
        self._offsets: Optional[tuple[int, ...]] = None
        self._kfence: Optional[int] = None

    def object_at(self, address: int, slab: int, start: int) -> SlabObject:
        """The object at `address` in the slab whose struct is at `slab` and whose memory starts at `start`.

        Raises `LkmError` where the slab's cache cannot be read.
        """
        memory = self._memory
        if not memory.has("kmem_cache", "offset"):
            raise LkmError("the allocator of this kernel is not known (CONFIG_SLAB, until 6.7)")
        cache = self._cache(memory.pointer(slab + memory.offset(self._type, "slab_cache")))
        index = (address - start) // cache.size
        base = start + index * cache.size + cache.left_pad
        free = None if self._in_kfence(address) else self._free_of(cache, slab)
        allocated = None if free is None else base not in free
        return SlabObject(cache.name, base, cache.object_size, allocated, cache.shared)

    def _in_kfence(self, address: int) -> bool:
        """In the pool that a sample of all objects comes from, one a page: what is free there is in no chain."""
        if self._kfence is None:
            try:
                self._kfence = self._memory.pointer(self._memory.symbol("__kfence_pool"))
            except LkmError:
                self._kfence = 0
        return 0 <= address - self._kfence < _KFENCE_SIZE

    def _cache(self, address: int) -> _Cache:
        if address not in self._caches:
            memory = self._memory

            def field(name: str) -> int:
                return memory.u32(address + memory.offset("kmem_cache", name))

            random = 0
            if memory.has("kmem_cache", "random"):
                random = memory.u64(address + memory.offset("kmem_cache", "random"))
            pad = field("red_left_pad") if memory.has("kmem_cache", "red_left_pad") else 0
            flags = field("flags")
            self._caches[address] = _Cache(
                address=address,
                name=memory.cstring(memory.pointer(address + memory.offset("kmem_cache", "name"))),
                size=field("size"),
                object_size=field("object_size"),
                link=field("offset"),
                random=random,
                left_pad=pad if flags & _SLAB_RED_ZONE else 0,
                shared=memory.has("kmem_cache", "refcount")
                and memory.i32(address + memory.offset("kmem_cache", "refcount")) > 1,
            )
            if not self._caches[address].size:
                raise KcoreError(f"the cache at {address:#x} has objects of no size")
        return self._caches[address]

    def _free_of(self, cache: _Cache, slab: int) -> Optional[frozenset[int]]:
        """The free objects of a slab, or None where a chain is broken: it changed while it was read."""
        if slab not in self._free:
            try:
                first = self._memory.u64(slab + self._memory.offset(self._type, "freelist"))
                found = set(self._chain(cache, first))
                for start in self._of_cpus(cache, slab):
                    found.update(self._chain(cache, start))
                self._free[slab] = frozenset(found | self._in_sheaves(cache))
            except LkmError:
                self._free[slab] = None
        return self._free[slab]

    def _chain(self, cache: _Cache, first: int) -> list[int]:
        found: list[int] = []
        node = first
        while node:
            if not is_kernel_pointer(node) or len(found) > _MAX_OBJECTS:
                raise KcoreError(f"{cache.name}: its chain of free objects is broken at {node:#x}")
            found.append(node)
            at = node + cache.link
            node = self._memory.u64(at)
            if cache.random:
                node ^= cache.random ^ int.from_bytes(at.to_bytes(8, "little"), "big")
        return found

    def _of_cpus(self, cache: _Cache, slab: int) -> list[int]:
        """The first object of the chain of each CPU that allocates from this slab."""
        memory = self._memory
        if not memory.has("kmem_cache", "cpu_slab"):
            return []
        base = memory.u64(cache.address + memory.offset("kmem_cache", "cpu_slab"))
        first, current = (
            memory.offset("kmem_cache_cpu", "freelist"),
            memory.offset("kmem_cache_cpu", "slab", "page"),
        )
        found = []
        for offset in self.cpu_offsets:
            here = base + offset & _WORD
            if memory.u64(here + current) == slab:
                found.append(memory.u64(here + first))
        return found

    @property
    def cpu_offsets(self) -> tuple[int, ...]:
        """`__per_cpu_offset` of each CPU."""
        if self._offsets is None:
            self._offsets = per_cpu_offsets(self._memory)
        return self._offsets

    def _in_sheaves(self, cache: _Cache) -> frozenset[int]:
        """Free objects that wait in the sheaves of CPUs and nodes, since 6.18."""
        memory = self._memory
        if not memory.has("kmem_cache", "cpu_sheaves"):
            return frozenset()
        if cache.address not in self._sheaves:
            found: set[int] = set()
            base = memory.u64(cache.address + memory.offset("kmem_cache", "cpu_sheaves"))
            for offset in self.cpu_offsets if base else ():
                here = base + offset & _WORD
                for name in ("main", "spare", "rcu_free"):
                    found.update(self._sheaf(memory.u64(here + memory.offset("slub_percpu_sheaves", name))))
            found.update(self._in_barns(cache))
            self._sheaves[cache.address] = frozenset(found)
        return self._sheaves[cache.address]

    def _sheaf(self, sheaf: int) -> tuple[int, ...]:
        if not sheaf:
            return ()
        memory = self._memory
        count = memory.u32(sheaf + memory.offset("slab_sheaf", "size"))
        if count > _MAX_OBJECTS:
            raise KcoreError(f"a sheaf of {count} objects")
        at = sheaf + memory.offset("slab_sheaf", "objects")
        return struct.unpack(f"<{count}Q", memory.read(at, 8 * count))

    def _in_barns(self, cache: _Cache) -> set[int]:
        """The full sheaves of each node."""
        memory = self._memory
        found: set[int] = set()
        for barn in self._barns(cache):
            head = barn + memory.offset("node_barn", "sheaves_full")
            for node in memory.list_nodes(head, what="sheaves_full", limit=_MAX_SHEAVES):
                found.update(self._sheaf(node - memory.offset("slab_sheaf", "barn_list")))
        return found

    def _barns(self, cache: _Cache) -> list[int]:
        """Each node's: kmem_cache.node[] to 6.19, kmem_cache.per_node[] since 7.0; none without sheaves."""
        memory = self._memory
        if memory.has("kmem_cache", "node") and memory.has("kmem_cache_node", "barn"):
            start = cache.address + memory.offset("kmem_cache", "node")
            nodes = [node for node in memory.words(start, self._nodes()) if node]
            inside = memory.offset("kmem_cache_node", "barn")
            found = [memory.u64(node + inside) for node in nodes]
        elif memory.has("kmem_cache", "per_node"):
            start = cache.address + memory.offset("kmem_cache", "per_node")
            start += memory.offset("kmem_cache_per_node_ptrs", "barn")
            step = memory.sizeof("kmem_cache_per_node_ptrs")
            found = [memory.u64(start + index * step) for index in range(self._nodes())]
        else:
            found = []
        return [barn for barn in found if is_kernel_pointer(barn)]

    def _nodes(self) -> int:
        """`nr_node_ids`; 1 without CONFIG_NUMA, where it is no variable. Raises `KcoreError` for an absurd number."""
        try:
            count = self._memory.u32(symbol_or_export(self._memory, "nr_node_ids"))
        except KcoreError:
            return 1
        if not 1 <= count <= _MAX_NODES:
            raise KcoreError(f"nr_node_ids is {count}")
        return count


_SLAB_RED_ZONE = 0x400
"""include/linux/slab.h: the same bit in 5.10 to 7.x."""
_WORD = (1 << 64) - 1
