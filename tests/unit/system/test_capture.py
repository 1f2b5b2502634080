# SPDX-License-Identifier: MIT
"""A whole snapshot of a recorded tree, of a bare one, and of the machine that runs the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.files import read_text
from lkm.system.snapshot import ModuleState, Reader, Snapshot, Task
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


def _look(tree: Tree, monkeypatch: pytest.MonkeyPatch, states: dict[str, str]) -> Snapshot:
    """A look at a machine on which a module's state, once the tasks have been read, is that of `states`."""
    path = f"{tree.module('demo', 'coming', 1)}/initstate"

    def read_tasks(*_: object, **__: object) -> tuple[Task, ...]:
        tree.write(path, states[(read_text(tree.root.join(path)) or "").strip()])
        return ()

    monkeypatch.setattr("lkm.system.capture.read_tasks", read_tasks)
    return capture(tree.root)


def test_a_load_that_ends_meanwhile_is_not_taken_for_dead(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _look(tree, monkeypatch, {"coming": "live", "live": "live"})
    assert [module.state for module in found.modules] == [ModuleState.LIVE]


def test_a_load_that_has_died_stays_as_it_is(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _look(tree, monkeypatch, {"coming": "coming"})
    assert [module.state for module in found.modules] == [ModuleState.COMING]
    assert not any("changed while" in unread.why for unread in found.unread)


def test_what_changes_all_the_time_is_not_judged(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _look(tree, monkeypatch, {"coming": "going", "going": "coming"})
    (unread,) = [unread for unread in found.unread if "changed while" in unread.why]
    assert unread.reader is Reader.TASKS


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
