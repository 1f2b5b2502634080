# SPDX-License-Identifier: MIT
"""A machine for the tests of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.system.kernel import MODULES, FakeKernel, FakeTypes
from tests.unit.system.tables.world import KERNEL_TEXT, SIZES, STRUCTS
from tests.unit.system.trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path))


@pytest.fixture
def kernel() -> FakeKernel:
    """All tables that are asked for by a symbol, each empty, and the memory of the modules."""
    kernel = FakeKernel(FakeTypes(STRUCTS, SIZES))
    kernel.place(MODULES, 0x1000)
    kernel.place(MODULES + 0x4000, 0x1000)
    for name in ("misc_list", "net_namespace_list", "crypto_alg_list", "workqueues"):
        kernel.symbols[name] = kernel.new(16)
        kernel.ring(kernel.symbols[name], [])
    for name in ("file_systems", "bus_kset", "class_kset", "cdev_map"):
        kernel.symbols[name] = kernel.new(8)
    for name in ("bus_kset", "class_kset"):
        kset = kernel.new("kset")
        kernel.put(kernel.symbols[name], kset)
        kernel.ring(kset, [])
    kernel.put(kernel.symbols["cdev_map"], kernel.new("kobj_map"))
    kernel.symbols["chrdevs"] = kernel.new(255 * 8)
    kernel.symbols["proc_root"] = kernel.new("proc_dir_entry")
    kernel.symbols["timer_bases"] = kernel.new(0x100)
    kernel.symbols["delayed_work_timer_fn"] = KERNEL_TEXT + 0x40
    kernel.symbols["nr_cpu_ids"] = kernel.new(8)
    kernel.put(kernel.symbols["nr_cpu_ids"], 2)
    kernel.symbols["__per_cpu_offset"] = kernel.new(16)
    kernel.put(kernel.symbols["__per_cpu_offset"], kernel.new(0x1000) - kernel.symbols["timer_bases"])
    kernel.symbols["irq_desc_tree"] = kernel.new("xarray")
    return kernel
