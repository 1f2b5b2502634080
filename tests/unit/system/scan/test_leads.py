# SPDX-License-Identifier: MIT
"""Objects of unknown types: live where a variable leads to them, by itself or along a list."""

from __future__ import annotations

from typing import Optional

import pytest

from lkm.system.kcore import Segment
from lkm.system.scan.leads import Leads
from lkm.system.scanned import Hit, HitClass, Place, PlaceKind
from tests.unit.system.kernel import MODULES, FakeKernel
from tests.unit.system.scan.world import OTHER, OTHERS, demo, make_kernel, slab

IMAGE, SIZE = 0xFFFF_FFFF_8200_0000, 0x1000
NET = 0xFFFF_8880_4000_0000
UNKNOWN = NET + 0x800


class Kcore:
    """Two images, the modules, and what may be a network namespace."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.segments = (
            Segment(IMAGE, SIZE, 0),
            Segment(IMAGE + 0x2000, SIZE, 0),
            Segment(MODULES, 0x20000, 0),
            Segment(NET, SIZE, 0),
        )

    def read_into(self, view: memoryview, _segment: Segment, start: int) -> None:
        view[:] = self._kernel.read(start, len(view))


class Places:
    """By address alone."""

    def mapped(self, address: int) -> Optional[Place]:
        if IMAGE <= address < IMAGE + SIZE:
            name = "exec_summary_regs" if address < IMAGE + 8 else "hooks"
            return Place(PlaceKind.KERNEL, address, name, live=True)
        if OTHER + 0x1F00 <= address < OTHER + 0x2000:
            return Place(PlaceKind.MODULE, address, module="other", live=True)
        if OTHER <= address < OTHER + 0x2000:
            return Place(PlaceKind.MODULE, address, "table", module="other", live=True)
        if MODULES <= address < MODULES + 0x2000:
            return Place(PlaceKind.MODULE, address, "own", module="demo", live=True)
        return None

    def place(self, address: int) -> Place:
        if NET <= address < UNKNOWN:
            return Place(PlaceKind.SLAB, address, "net_namespace", address - NET, NET, 0x400, live=True)
        return Place(PlaceKind.PAGE, address)


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = make_kernel()
    kernel.place(IMAGE, SIZE)
    kernel.symbols.update(_sdata=IMAGE, _edata=IMAGE + SIZE)
    return kernel


def follow(kernel: FakeKernel, place: Place) -> Hit:
    """What becomes of a pointer of an unknown owner there."""
    hit = Hit(MODULES + 0x10, "hook", place, HitClass.UNKNOWN)
    leads = Leads(kernel.memory(), Kcore(kernel), Places(), [demo(), OTHERS])  # type: ignore[arg-type]
    return leads.follow([hit], demo())[0]


def link(kernel: FakeKernel, *nodes: int) -> None:
    """A list of these nodes."""
    for here, there in zip(nodes, [*nodes[1:], nodes[0]]):
        kernel.put(here, there)
        kernel.put(there + 8, here)


@pytest.mark.parametrize(("variable", "name"), [(IMAGE + 0x100, "hooks"), (OTHER + 0x100, "table")])
def test_an_object_whose_address_a_variable_has_is_live(kernel: FakeKernel, variable: int, name: str) -> None:
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(variable, place.start)
    hit = follow(kernel, place)
    assert hit.found is HitClass.LIVE
    assert name in hit.event
    assert "kmalloc-64 object" in hit.what


@pytest.mark.parametrize(("inside", "found"), [(-8, "unknown"), (0x38, "live"), (0x40, "unknown")])
def test_a_pointer_to_any_member_leads_to_it(kernel: FakeKernel, inside: int, found: str) -> None:
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(IMAGE + 0x100, place.start + inside)
    assert follow(kernel, place).found.value == found


def test_a_network_namespace_leads_to_its_hooks(kernel: FakeKernel) -> None:
    place, net = slab("kmalloc-64", kernel.new(64), 8), kernel.place(NET, 0x400)
    kernel.symbols["net_namespace_list"] = head = kernel.new(16)
    kernel.ring(head, [net + 0x10])
    kernel.put(net + 0x100, place.start)
    hit = follow(kernel, place)
    assert hit.found is HitClass.LIVE
    assert "network namespace" in hit.event


def test_variables_that_cannot_be_read_do_not_hide_the_others(kernel: FakeKernel) -> None:
    kernel.symbols.update(__bss_start=IMAGE + 0x2000, __bss_stop=IMAGE + 0x3000)
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(OTHER + 0x100, place.start)
    assert follow(kernel, place).found is HitClass.LIVE


def test_a_kernel_that_hides_its_variables_is_said(kernel: FakeKernel) -> None:
    kernel.symbols.clear()
    memory = kernel.memory()
    hit = Hit(MODULES + 0x10, "hook", slab("kmalloc-64", kernel.new(64), 8), HitClass.UNKNOWN)
    Leads(memory, Kcore(kernel), Places(), [demo()]).follow([hit], demo())  # type: ignore[arg-type]
    assert "from _sdata on" in memory.notes[0]


def test_a_list_is_walked_once_for_all_its_elements(kernel: FakeKernel) -> None:
    elements = [kernel.new(64) for _ in range(100)]
    link(kernel, MODULES + 0x200, *(element + 0x20 for element in elements))
    hits = [
        Hit(MODULES + 0x10, "hook", slab("kmalloc-64", element, 8), HitClass.UNKNOWN) for element in elements
    ]
    memory = kernel.memory()
    leads = Leads(memory, Kcore(kernel), Places(), [demo()])  # type: ignore[arg-type]
    before = kernel.reads
    assert {hit.found for hit in leads.follow(hits, demo())} == {HitClass.UNKNOWN}
    assert kernel.reads - before < 10 * len(elements)


def test_a_variable_of_the_module_itself_leads_nowhere(kernel: FakeKernel) -> None:
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(MODULES + 0x100, place.start)
    assert follow(kernel, place).found is HitClass.UNKNOWN


def test_a_lead_that_nobody_can_name_does_not_hide_another(kernel: FakeKernel) -> None:
    """A word of a module without a symbol, and one that is no variable."""
    kernel.symbols["net_namespace_list"] = head = kernel.new(16)
    kernel.ring(head, [kernel.place(UNKNOWN, 0x400) + 0x10])
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(OTHER + 0x1F00, place.start)
    kernel.put(UNKNOWN + 0x100, place.start)
    assert follow(kernel, place).found is HitClass.UNKNOWN
    link(kernel, IMAGE + 0x200, place.start + 0x20)
    assert follow(kernel, place).found is HitClass.LIVE


def test_registers_of_an_oops_lead_nowhere(kernel: FakeKernel) -> None:
    place = slab("kmalloc-64", kernel.new(64), 8)
    kernel.put(IMAGE, place.start)
    assert follow(kernel, place).found is HitClass.UNKNOWN


@pytest.mark.parametrize(("head", "found"), [(IMAGE + 0x200, "live"), (MODULES + 0x200, "unknown")])
def test_an_element_in_the_middle_of_a_list_is_live_by_its_head(
    kernel: FakeKernel, head: int, found: str
) -> None:
    elements = [kernel.new(64) for _ in range(3)]
    link(kernel, head, *(element + 0x20 for element in elements))
    hit = follow(kernel, slab("kmalloc-64", elements[1], 8))
    assert hit.found.value == found
    assert found == "unknown" or "hooks" in hit.event


def test_a_list_that_is_broken_leads_nowhere(kernel: FakeKernel) -> None:
    first, second = kernel.new(64), kernel.new(64)
    link(kernel, IMAGE + 0x200, first + 0x20, second + 0x20)
    kernel.put(IMAGE + 0x200, second + 0x20)
    assert follow(kernel, slab("kmalloc-64", first, 8)).found is HitClass.UNKNOWN


@pytest.mark.parametrize(("bucket", "found"), [(IMAGE + 0x200, "live"), (0, "unknown")])
def test_an_element_of_a_table_of_hashes_is_live_by_its_bucket(
    kernel: FakeKernel, bucket: int, found: str
) -> None:
    """Unless the table is allocated too: nobody knows whose that is."""
    bucket = bucket or kernel.new(64)
    first, last = kernel.new(64) + 0x10, kernel.new(64) + 0x10
    for here, there in ((bucket, first), (first, last)):
        kernel.put(here, there)
        kernel.put(there + 8, here)
    assert follow(kernel, slab("kmalloc-64", last - 0x10, 8)).found.value == found


@pytest.mark.parametrize("place", [
    slab("kmalloc-64", 0xFFFF_8880_1234_0000, 8, live=None), Place(PlaceKind.VMALLOC, 0xFFFF_C900_0000_0000),
])  # fmt: skip
def test_what_is_no_live_object_stays_unknown(kernel: FakeKernel, place: Place) -> None:
    kernel.put(IMAGE + 0x100, place.start)
    assert follow(kernel, place).found is HitClass.UNKNOWN
