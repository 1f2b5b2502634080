# SPDX-License-Identifier: MIT
"""What the notifiers of a module's end take away: the kernel's own notes of it, and nothing that looks like them."""

from __future__ import annotations

import pytest

from lkm.system.scanned import HitClass, Place, PlaceKind
from tests.unit.system.kernel import MODULES, FakeKernel
from tests.unit.system.scan.world import OTHER, STRUCT, classify, make_kernel, slab

VARIABLE = Place(PlaceKind.KERNEL, 0xFFFF_FFFF_8200_0000, "ftrace_events", live=True)
CALL, KIND, TABLE = MODULES + 0x100, MODULES + 0x180, MODULES + 0x200


@pytest.fixture
def kernel() -> FakeKernel:
    """A module with one trace event, whose class has one field."""
    kernel = make_kernel()
    kernel.set(STRUCT, "module", trace_events=TABLE)
    kernel.put(STRUCT + 0x118, (1).to_bytes(4, "little"))
    kernel.put(TABLE, CALL)
    kernel.set(CALL, "trace_event_call", **{"class": KIND})
    kernel.ring(KIND + 0x30, [])
    return kernel


@pytest.mark.parametrize(("value", "found"), [
    (CALL, "expected"), (CALL + 0x3F, "expected"), (CALL + 0x40, "live"),
    (KIND + 0x38, "expected"), (KIND - 8, "live"),
])  # fmt: skip
def test_pointers_into_a_trace_event_go_with_it(kernel: FakeKernel, value: int, found: str) -> None:
    hit = classify(kernel, VARIABLE, value)
    assert hit.found.value == found
    assert found == "live" or hit.reason.startswith("trace_module_remove_events")


def test_the_fields_of_a_trace_event_go_with_it(kernel: FakeKernel) -> None:
    field, other = kernel.new("ftrace_event_field"), kernel.new("ftrace_event_field")
    kernel.ring(KIND + 0x30, [field + 8])
    string = MODULES + 0x300
    assert classify(kernel, slab("ftrace_event_field", field, 24), string).found is HitClass.EXPECTED
    assert classify(kernel, slab("ftrace_event_field", other, 24), string).found is HitClass.UNKNOWN


def test_an_event_of_another_module_is_not_its_own(kernel: FakeKernel) -> None:
    kernel.put(TABLE, OTHER + 0x100)
    assert classify(kernel, VARIABLE, CALL).found is HitClass.LIVE


@pytest.mark.parametrize(("owner", "found"), [(STRUCT, "expected"), (OTHER, "unknown")])
def test_an_element_of_a_list_of_modules_goes_with_its_module(
    kernel: FakeKernel, owner: int, found: str
) -> None:
    head, element = kernel.new(16), kernel.new("btf_module")
    kernel.symbols["btf_modules"] = head
    kernel.ring(head, [element])
    kernel.set(element, "btf_module", module=owner)
    hit = classify(kernel, slab("kmalloc-64", element, 16), STRUCT)
    assert hit.found.value == found
    assert found == "unknown" or hit.reason.startswith("btf_module_notify")


@pytest.mark.parametrize(("sites", "owner", "found"), [
    (TABLE + 8, STRUCT, "expected"), (TABLE + 16, STRUCT, "unknown"), (TABLE + 8, OTHER, "unknown"),
])  # fmt: skip
def test_what_a_static_call_keeps_of_the_module_goes_with_it(
    kernel: FakeKernel, sites: int, owner: int, found: str
) -> None:
    """Not any object with an owner and a table: the table is that of its calls."""
    kernel.set(STRUCT, "module", static_call_sites=TABLE)
    kernel.put(STRUCT + 0x128, (2).to_bytes(4, "little"))
    node = kernel.set(kernel.new("static_call_mod"), "static_call_mod", mod=owner, sites=sites)
    assert classify(kernel, slab("kmalloc-32", node, 16, 32), sites).found.value == found


def test_what_a_key_keeps_of_the_module_goes_with_it(kernel: FakeKernel) -> None:
    kernel.set(STRUCT, "module", jump_entries=TABLE)
    kernel.put(STRUCT + 0x138, (1).to_bytes(4, "little"))
    node = kernel.set(kernel.new("static_key_mod"), "static_key_mod", mod=STRUCT, entries=TABLE)
    hit = classify(kernel, slab("kmalloc-32", node, 16, 32), STRUCT)
    assert hit.reason.startswith("jump_label_del_module")
    kernel.set(node, "static_key_mod", entries=TABLE + 16)
    assert classify(kernel, slab("kmalloc-32", node, 16, 32), STRUCT).found is HitClass.UNKNOWN


@pytest.mark.parametrize("name", ["perf_event", "kmalloc-256"])
def test_a_perf_event_holds_the_trace_event_that_it_counts(kernel: FakeKernel, name: str) -> None:
    """It has a reference, and stays; the table of its cache is only known since 5.13."""
    place = slab(name, kernel.new("perf_event"), 0x80, 256)
    assert classify(kernel, place, CALL).found.value == ("live" if name == "perf_event" else "unknown")
    assert classify(kernel, place._replace(offset=0x88), CALL).found is HitClass.EXPECTED


@pytest.mark.parametrize("size", [96, 512])
def test_an_event_probe_holds_its_event_whatever_its_arguments(kernel: FakeKernel, size: int) -> None:
    place = slab("kmalloc-512", kernel.new(512), 24, size)
    assert classify(kernel, place, CALL).found is HitClass.UNKNOWN
    assert classify(kernel, place._replace(offset=32), CALL).found is HitClass.EXPECTED


def test_a_kernel_without_trace_events_has_no_such_rule(kernel: FakeKernel) -> None:
    assert kernel.types is not None
    del kernel.types.structs["trace_event_call"]
    assert classify(kernel, VARIABLE, CALL).found is HitClass.LIVE
