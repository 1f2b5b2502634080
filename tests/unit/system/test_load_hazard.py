# SPDX-License-Identifier: MIT
"""What is in the way of a load: the bucket that its file falls into, the lock, or nothing at all."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NoReturn

import pytest

from lkm.errors import LkmError
from lkm.system.kcore import KcoreError
from lkm.system.load_hazard import hazard_of, inode_of, read_load_hazard
from lkm.system.load_table import LoadBucket, LoadTable
from tests.unit.system.kernel import FakeKernel, FakeTypes
from tests.unit.system.loads import Loads, cookie_of
from tests.unit.system.trees import Tree

DANGLING = LoadTable(buckets=(LoadBucket(7, 0xFF41D259C05FFB28, (), 0xFF41D259C05FFB28),))


def unknown() -> NoReturn:
    raise KcoreError("no BTF")


def test_nothing_is_in_the_way_of_a_sound_table() -> None:
    assert hazard_of(LoadTable(), unknown) is None
    assert hazard_of(LoadTable(present=False), unknown) is None


def test_a_file_in_the_bucket_that_dangles_would_crash() -> None:
    hazard = hazard_of(DANGLING, lambda: cookie_of(7))
    assert hazard is not None
    assert hazard.certain
    assert "lkm heal" in hazard.remedy


def test_a_file_in_another_bucket_is_only_warned_of() -> None:
    hazard = hazard_of(DANGLING, lambda: cookie_of(8))
    assert hazard is not None
    assert not hazard.certain


def test_a_file_whose_bucket_is_not_known_is_only_warned_of() -> None:
    hazard = hazard_of(DANGLING, unknown)
    assert hazard is not None
    assert not hazard.certain
    assert "no BTF" in hazard.text


def test_a_file_that_somebody_waits_for_in_vain_would_be_waited_for_too() -> None:
    loads = Loads()
    loads.thread(50)
    loads.node(50, cookie_of(7), waits=True)
    table = loads.read()
    assert not table.dangling
    hazard = hazard_of(table, lambda: cookie_of(7))
    assert hazard is not None
    assert (hazard.certain, "pid 50" in hazard.text) == (True, True)
    assert hazard_of(table, lambda: cookie_of(7, 1)) is None
    doubtful = hazard_of(table, unknown)
    assert doubtful is not None
    assert not doubtful.certain


def test_a_lock_that_is_held_stops_every_file() -> None:
    hazard = hazard_of(LoadTable(lock_held=True), unknown)
    assert hazard is not None
    assert hazard.certain


def test_a_table_that_could_not_be_read_is_said() -> None:
    hazard = hazard_of(LoadTable(error="it hides"), unknown)
    assert hazard is not None
    assert (hazard.certain, "it hides" in hazard.text) == (False, True)


@pytest.mark.parametrize(("taint", "release", "warned"), [
    ("0", "6.12.1", False), ("4224", "6.12.1", True), ("4096", "6.12.1", False), ("128", "6.1.0-56-amd64", False),
    ("128", "6.5.0", True),
])  # fmt: skip
def test_it_is_looked_for_only_after_an_oops(tmp_path: Path, taint: str, release: str, warned: bool) -> None:
    """There is no kcore in this tree: where it is looked for, that is said."""
    tree = Tree(str(tmp_path))
    tree.write("/proc/sys/kernel/tainted", f"{taint}\n")
    found = read_load_hazard(tree.root._replace(release=release), 0)
    assert (found is not None) == warned


def test_the_inode_behind_a_descriptor() -> None:
    kernel = FakeKernel(
        FakeTypes(
            {
                "task_struct": (
                    96, {"flags": 0, "exit_state": 4, "pid": 8, "tgid": 12, "tasks": 16, "files": 32, "comm": 64,
                         "stack": 80, "__state": 88}
                ),
                "files_struct": (64, {"fdt": 32}),
                "fdtable": (32, {"max_fds": 0, "fd": 8}),
                "file": (64, {"f_inode": 32}),
            }
        )
    )  # fmt: skip
    kernel.symbols["init_task"] = kernel.new("task_struct")
    tasks = [kernel.new("task_struct") for _ in range(2)]
    for task, pid in zip(tasks, (1, os.getpid())):
        kernel.put(task, struct.pack("<IIii", 0, 0, pid, pid))
    kernel.ring(kernel.symbols["init_task"] + 16, [task + 16 for task in tasks])
    files, table, array, file = (
        kernel.new("files_struct"),
        kernel.new("fdtable"),
        kernel.new(64),
        kernel.new("file"),
    )
    kernel.set(tasks[1], "task_struct", files=files)
    kernel.set(files, "files_struct", fdt=table)
    kernel.set(table, "fdtable", max_fds=8, fd=array)
    kernel.put(array + 8 * 3, file)
    kernel.set(file, "file", f_inode=cookie_of(7))
    assert inode_of(kernel.memory(), 3) == cookie_of(7)
    with pytest.raises(LkmError, match="descriptor 4"):
        inode_of(kernel.memory(), 4)
