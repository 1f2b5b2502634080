# SPDX-License-Identifier: MIT
"""Wheel timers, delayed works and notifiers: found, named, and attributed to the module that they call."""

from __future__ import annotations

import pytest

from lkm.system.snapshot import RegistrationKind
from tests.unit.system.kernel import FakeKernel
from tests.unit.system.tables.world import DATA, KERNEL_TEXT, OPS, brief, found
from tests.unit.system.trees import Tree

FUNCTION = KERNEL_TEXT + 0x100


def bucket(kernel: FakeKernel, base: int, index: int) -> int:
    """The hash list of a base of CPU 0."""
    first = kernel.symbols["timer_bases"] + kernel.read_word(kernel.symbols["__per_cpu_offset"])
    return first + base * kernel.sizeof("timer_base") + 16 + 8 * index


@pytest.mark.parametrize("base", [0, 1])
def test_a_timer_in_the_module_and_one_that_calls_it(kernel: FakeKernel, tree: Tree, base: int) -> None:
    own = kernel.set(DATA, "timer_list", function=FUNCTION)
    foreign = kernel.set(kernel.new("timer_list"), "timer_list", function=OPS)
    innocent = kernel.set(kernel.new("timer_list"), "timer_list", function=FUNCTION)
    kernel.put(bucket(kernel, base, 3), innocent)
    for here, there in ((innocent, own), (own, foreign)):
        kernel.put(here, there)
    timers = found(kernel, tree, RegistrationKind.TIMER)
    assert [(item.address, item.module, item.size) for item in timers] == [
        (own, "demo", 40),
        (foreign, "demo", 40),
    ]


def test_a_third_base_is_looked_at_since_6_9(kernel: FakeKernel, tree: Tree) -> None:
    kernel.put(bucket(kernel, 2, 0), kernel.set(kernel.new("timer_list"), "timer_list", function=OPS))
    assert found(kernel, tree, RegistrationKind.TIMER) == []
    assert kernel.types is not None
    kernel.types.structs["tmigr_cpu"] = (64, {"tmgroup": 0})
    assert len(found(kernel, tree, RegistrationKind.TIMER)) == 1


def test_a_delayed_work_is_told_by_the_function_of_the_work(kernel: FakeKernel, tree: Tree) -> None:
    work = kernel.new("delayed_work")
    kernel.put(work + 24, OPS)
    kernel.set(work + 32, "timer_list", function=kernel.symbols["delayed_work_timer_fn"])
    kernel.put(bucket(kernel, 0, 5), work + 32)
    (item,) = found(kernel, tree, RegistrationKind.WORK)
    assert (item.module, item.address, item.size) == ("demo", work, 96)
    assert found(kernel, tree, RegistrationKind.TIMER) == []


@pytest.mark.parametrize("where", ["pool", "kept back"])
def test_a_queued_work_is_found_by_its_queue(kernel: FakeKernel, tree: Tree, where: str) -> None:
    queue, pwq, pool = (kernel.new(kind) for kind in ("workqueue_struct", "pool_workqueue", "worker_pool"))
    kernel.ring(kernel.symbols["workqueues"], [queue + 16])
    kernel.ring(queue, [pwq + 32])
    kernel.put(pwq, pool)
    called = kernel.set(kernel.new("work_struct"), "work_struct", func=OPS)
    innocent = kernel.set(kernel.new("work_struct"), "work_struct", func=FUNCTION)
    own = kernel.set(DATA, "work_struct", func=FUNCTION)
    works = [work + 8 for work in (innocent, called, own)]
    kernel.ring(pool + 16, works if where == "pool" else [])
    kernel.ring(pwq + 16, works if where == "kept back" else [])
    items = found(kernel, tree, RegistrationKind.WORK)
    assert [(item.address, item.module, item.size) for item in items] == [
        (called, "demo", 32),
        (own, "demo", 32),
    ]


def test_a_bucket_that_goes_in_a_circle_ends(kernel: FakeKernel, tree: Tree) -> None:
    timer = kernel.set(kernel.new("timer_list"), "timer_list", function=OPS)
    kernel.put(timer, timer)
    kernel.put(bucket(kernel, 0, 0), timer)
    notes: list[str] = []
    assert len(found(kernel, tree, RegistrationKind.TIMER, notes)) == 1
    assert any("timer_bases: a node comes twice" in note for note in notes)


@pytest.mark.parametrize("head", [0, 8, 40])
def test_a_notifier_of_each_type_of_chain(kernel: FakeKernel, tree: Tree, head: int) -> None:
    kernel.symbols["_stext"], kernel.symbols["_etext"] = KERNEL_TEXT, KERNEL_TEXT + 0x1000
    chain = kernel.symbols["reboot_notifier_list"] = kernel.new(64)
    first = kernel.set(kernel.new("notifier_block"), "notifier_block", notifier_call=FUNCTION, next=DATA)
    kernel.set(DATA, "notifier_block", notifier_call=OPS)
    kernel.put(chain + head, first)
    kernel.symbols["tts_notifier"] = first  # a block is not a chain of its own
    items = found(kernel, tree, RegistrationKind.NOTIFIER)
    assert brief(items) == [("reboot_notifier_list", "demo", True)]
    assert items[0].address == DATA


def test_what_only_sounds_like_a_chain_is_none(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols["_stext"], kernel.symbols["_etext"] = KERNEL_TEXT, KERNEL_TEXT + 0x1000
    variable = kernel.symbols["key_chain"] = kernel.new(64)
    no_block = kernel.set(kernel.new("notifier_block"), "notifier_block", notifier_call=0x1234, next=DATA)
    kernel.set(DATA, "notifier_block", notifier_call=OPS)
    kernel.put(variable, no_block)
    assert found(kernel, tree, RegistrationKind.NOTIFIER) == []


def test_an_empty_chain_does_not_reach_into_the_next_variable(kernel: FakeKernel, tree: Tree) -> None:
    kernel.symbols["_stext"], kernel.symbols["_etext"] = KERNEL_TEXT, KERNEL_TEXT + 0x1000
    chain = kernel.symbols["pvclock_gtod_chain"] = kernel.new(64)
    kernel.symbols["next_to_it"] = chain + 8
    kernel.set(DATA, "notifier_block", notifier_call=OPS)
    kernel.put(chain + 8, DATA)
    assert found(kernel, tree, RegistrationKind.NOTIFIER) == []
