# SPDX-License-Identifier: MIT
"""Objects of slabs: which one an address is in, and whether it is allocated."""

from __future__ import annotations

import pytest

from lkm.errors import LkmError
from lkm.system.scan.slabs import Slabs
from tests.unit.system.kernel import FakeKernel, FakeTypes

STRUCTS = {
    "slab": (64, {"slab_cache": 8, "freelist": 16}),
    "kmem_cache": (256, {
        "name": 0x60, "size": 0x18, "object_size": 0x1C, "offset": 0x28, "random": 0x30, "flags": 8, "cpu_slab": 0,
        "refcount": 0x40,
    }),
    "kmem_cache_cpu": (32, {"freelist": 0, "slab": 16}),
}  # fmt: skip
SIZE, LINK, RANDOM = 64, 32, 0x1234_5678_9ABC_DEF0


class Slab:
    """Eight objects of one cache, whose free ones are a chain."""

    def __init__(self, random: int = 0, refcount: int = 1) -> None:
        self.kernel = kernel = FakeKernel(FakeTypes(STRUCTS))
        self.random = random
        self.memory = kernel.new(8 * SIZE)
        self.cache, self.slab = kernel.new("kmem_cache"), kernel.new("slab")
        self.cpu = kernel.new(64)
        kernel.set(self.cache, "kmem_cache", name=kernel.text("demo"), random=random)
        for member, value in (("size", SIZE), ("object_size", 56), ("offset", LINK), ("refcount", refcount)):
            kernel.put(kernel.at(self.cache, "kmem_cache", member), value.to_bytes(4, "little"))
        kernel.set(self.slab, "slab", slab_cache=self.cache)
        kernel.symbols["__per_cpu_offset"], kernel.symbols["nr_cpu_ids"] = kernel.new(16), kernel.new(8)
        kernel.put(kernel.symbols["__per_cpu_offset"], self.cpu)
        kernel.put(kernel.symbols["nr_cpu_ids"], 1)

    def chain(self, *indexes: int) -> int:
        """Link these objects; the first."""
        objects = [self.memory + SIZE * index for index in indexes]
        for here, there in zip(objects, [*objects[1:], 0]):
            at = here + LINK
            self.kernel.put(
                at, there ^ (self.random and self.random ^ int.from_bytes(at.to_bytes(8, "little"), "big"))
            )
        return objects[0] if objects else 0

    def free(self) -> list[int]:
        """The objects that are told to be free."""
        slabs = Slabs(self.kernel.memory())
        found = [slabs.object_at(self.memory + SIZE * i + 24, self.slab, self.memory) for i in range(8)]
        assert [each.start for each in found] == [self.memory + SIZE * i for i in range(8)]
        assert {(each.cache, each.size) for each in found} == {("demo", 56)}
        return [index for index, each in enumerate(found) if each.allocated is False]


@pytest.mark.parametrize("random", [0, RANDOM], ids=["plain", "hardened"])
def test_the_chains_of_a_slab_and_of_its_cpu_are_free(random: int) -> None:
    slab = Slab(random)
    slab.kernel.set(slab.slab, "slab", freelist=slab.chain(3, 1))
    slab.kernel.set(slab.cpu, "kmem_cache_cpu", freelist=slab.chain(7, 5), slab=slab.slab)
    assert slab.free() == [1, 3, 5, 7]


def test_the_chain_of_a_cpu_that_is_at_another_slab_is_not_of_this_one() -> None:
    slab = Slab()
    slab.kernel.set(slab.cpu, "kmem_cache_cpu", freelist=slab.chain(7), slab=slab.slab + 64)
    assert slab.free() == []


def test_of_a_broken_chain_nothing_is_told() -> None:
    slab = Slab()
    slab.kernel.set(slab.slab, "slab", freelist=slab.chain(3, 1))
    slab.kernel.put(slab.memory + SIZE + LINK, 0x1234)
    found = Slabs(slab.kernel.memory()).object_at(slab.memory, slab.slab, slab.memory)
    assert found.allocated is None


@pytest.mark.parametrize(("refcount", "shared"), [(1, False), (3, True)])
def test_a_merged_cache_is_told(refcount: int, shared: bool) -> None:
    slab = Slab(refcount=refcount)
    assert Slabs(slab.kernel.memory()).object_at(slab.memory, slab.slab, slab.memory).shared is shared


def test_of_the_pool_of_kfence_nothing_is_told() -> None:
    slab = Slab()
    slab.kernel.symbols["__kfence_pool"] = slab.kernel.new(8)
    assert Slabs(slab.kernel.memory()).object_at(slab.memory, slab.slab, slab.memory).allocated is True
    slab.kernel.put(slab.kernel.symbols["__kfence_pool"], slab.memory - 0x1000)
    assert Slabs(slab.kernel.memory()).object_at(slab.memory, slab.slab, slab.memory).allocated is None


def test_another_allocator_is_said_to_be_unknown() -> None:
    slab = Slab()
    assert slab.kernel.types is not None
    slab.kernel.types.structs["kmem_cache"] = (64, {"cpu_cache": 0, "size": 0x18})
    with pytest.raises(LkmError, match="allocator of this kernel is not known"):
        Slabs(slab.kernel.memory()).object_at(slab.memory, slab.slab, slab.memory)
