# SPDX-License-Identifier: MIT
"""A whole snapshot of a recorded tree, of a bare one, and of the machine that runs the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.snapshot import ModuleState, Reader, Snapshot
from tests.unit.system.trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path))


def test_recorded_tree(tree: Tree) -> None:
    tree.write("/proc/modules", "demo 16384 1 - Loading 0x0 (OE+)\n")
    tree.write("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n")
    tree.module("demo", "coming", 1)
    tree.thread(50, stack="[<0>] demo_init+0x1/0x2 [demo]\n[<0>] do_init_module+0x1/0x2\n")
    tree.link("/proc/1/ns/mnt", "mnt:[1]")
    tree.write("/proc/1/mountinfo", "36 35 0:9 / /mnt rw - demo none rw\n")
    tree.write("/lib/modules/6.1.0-test/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-16.ko\n")
    found = capture(tree.root)
    assert found.release == "6.1.0-test"
    (demo,) = found.modules
    assert demo.state is ModuleState.COMING
    assert [task.pid for task in found.tasks] == [50]
    assert [mount.mount_point for mount in found.mounts] == ["/mnt"]
    assert found.builtin == ("crc_16", "ext4")
    assert any("kernel memory was not read" in note for note in found.notes)
    assert Snapshot.from_json(found.to_json()) == found


def test_nothing_at_all(tree: Tree) -> None:
    found = capture(tree.root)
    assert found.modules == ()
    assert found.notes
    assert Snapshot.from_json(found.to_json()) == found


def test_reader_that_gives_no_answer_costs_its_own_part(tree: Tree) -> None:
    """With no time at all each child is late; what needs none is still there."""
    tree.thread(50, stack="[<0>] demo_work+0x1/0x2 [demo]\n")
    tree.write("/proc/modules", "demo 16384 1 - Live 0x0\n")
    tree.module("demo", refcnt=1)
    found = capture(tree.root, seconds=0)
    assert [module.name for module in found.modules] == ["demo"]
    assert (found.tasks, found.open_files, found.mounts) == ((), (), ())
    silent = {unread.reader for unread in found.unread if unread.why == "no answer in 0 s"}
    assert silent == set(Reader) - {Reader.STACKS}


def test_modules_that_proc_does_not_tell(tree: Tree) -> None:
    os.makedirs(tree.root.join("/proc"))
    os.mkfifo(tree.root.join("/proc/modules"))
    tree.module("demo", refcnt=1)
    tree.thread(50, stack="[<0>] demo_work+0x1/0x2 [demo]\n")
    found = capture(tree.root)
    assert found.proc_modules_error.startswith("module_mutex is held")
    assert [module.name for module in found.modules] == ["demo"]
    assert [task.pid for task in found.tasks] == [50]


def test_this_machine() -> None:
    found = capture(Root.live())
    assert found.release == os.uname().release
    assert found.policy.euid == os.geteuid()
    assert bool(found.modules) <= os.path.exists("/proc/modules")
    assert Snapshot.from_json(found.to_json()) == found
