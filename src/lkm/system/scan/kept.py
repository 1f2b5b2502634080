# SPDX-License-Identifier: MIT
"""Memory that a module has allocated and points to: where its exit does not run, it stays allocated for ever.

Only whole objects of the general caches (kmalloc) and of caches that nobody else knows, to whose start a word of
the module's data points. What the removal itself frees is left out: the members of struct module, and the strings
of its parameters (destroy_params in free_module, 5.10 to 7.x), and what the notifiers of its end free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lkm.errors import LkmError
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.scan.notified import Notified
from lkm.system.scan.objects import is_known
from lkm.system.scan.places import Places
from lkm.system.scan.translate import LinearMap
from lkm.system.scanned import Hit, HitClass, PlaceKind
from lkm.system.snapshot import LoadedModule

__all__ = ["kept_memory"]

_MAX_BYTES = 1 << 24
_MAX_PARAMETERS = 4096
_MAX_KEPT = 64


def kept_memory(
    memory: KernelMemory, linear: LinearMap, places: Places, module: LoadedModule, notified: Notified
) -> tuple[Hit, ...]:
    """The objects, each as the pointer to it: `value` is its address, `target` the module's variable, `place` the
    object. At most 64."""
    skipped = [*_parameters(memory, module), _own_struct(memory, module)]
    found: dict[int, Hit] = {}
    for at, value in _words(memory, module):
        if value in found or any(start <= at < end for start, end in skipped):
            continue
        if linear.physical(value) is None or len(found) >= _MAX_KEPT:
            continue
        place = places.place(value)
        if not (place.kind is PlaceKind.SLAB and place.live and place.start == value) or is_known(place):
            continue
        if not notified.of_object(place):
            symbol = memory.symbolize(at, module.name)
            found[value] = Hit(value, str(symbol) if symbol else hex(at), place, HitClass.UNKNOWN)
    return tuple(found.values())


def _words(memory: KernelMemory, module: LoadedModule) -> Iterator[tuple[int, int]]:
    """Address and value of each word of its data. What cannot be read has none."""
    for part in module.memory:
        if not part.writable or part.size > _MAX_BYTES:
            continue
        try:
            data = memory.read(part.start, part.size & ~7)
        except LkmError as error:
            memory.note_error(f"the data of {module.name}", error)
            continue
        for index, (value,) in enumerate(struct.iter_unpack("<Q", data)):
            if is_kernel_pointer(value):
                yield part.start + 8 * index, value


def _own_struct(memory: KernelMemory, module: LoadedModule) -> tuple[int, int]:
    try:
        return module.address, module.address + memory.sizeof("module")
    except LkmError:
        return 0, 0


def _parameters(memory: KernelMemory, module: LoadedModule) -> list[tuple[int, int]]:
    """The variables of its parameters."""
    try:
        first = memory.u64(module.address + memory.offset("module", "kp"))
        count = memory.u32(module.address + memory.offset("module", "num_kp"))
        size, inside = memory.sizeof("kernel_param"), memory.offset("kernel_param", "arg")
        found = [memory.u64(first + index * size + inside) for index in range(min(count, _MAX_PARAMETERS))]
    except LkmError:
        return []
    return [(at, at + 8) for at in found]
