# SPDX-License-Identifier: MIT
"""The list of modules: two sources that may differ, block, or lose files while they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.system.module_list import has_loadable_modules, read_module_rows
from lkm.system.modules import read_modules
from lkm.system.snapshot import MemoryRange, ModuleState
from tests.builders import make_note
from tests.unit.system.trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(str(tmp_path))
    made.write("/proc/stat", "cpu 0\n")
    return made


def test_both_sources_are_merged(tree: Tree) -> None:
    tree.write("/proc/modules", "demo 16384 1 user,[permanent], Live 0xffffffffc0120000 (OE)\n")
    base = tree.module("demo", refcnt=1)
    tree.directory(f"{base}/holders/user")
    tree.directory(f"{base}/drivers/pci:demo")
    tree.write(f"{base}/notes/.note.gnu.build-id", make_note(b"GNU", 3, b"\xab" * 20))
    (demo,), error = read_modules(tree.root)
    assert error == ""
    assert demo.name == "demo"
    assert (demo.state, demo.refcnt, demo.size, demo.permanent) == (ModuleState.LIVE, 1, 16384, True)
    assert demo.holders == ("user",)
    assert demo.drivers == ("pci:demo",)
    assert demo.taints == "OE"
    assert demo.address == 0xFFFFFFFFC0123000
    assert demo.build_id == "ab" * 20
    assert demo.memory == (MemoryRange(0xFFFFFFFFC0120000, 16384, "core"),)
    assert demo.in_sysfs
    assert demo.in_proc


def test_live_patches_by_what_they_change(tree: Tree) -> None:
    """A patch has a directory for each object; its other entries are files, whatever a module is called."""
    tree.write("/proc/modules", "".join(f"{each} 1 0 - Live 0x0\n" for each in ("demo", "enabled", "fix")))
    for each in ("demo", "enabled", "fix"):
        tree.module(each)
    tree.write("/sys/kernel/livepatch/fix/enabled", "1\n")
    for patched in ("vmlinux", "demo", "absent"):
        tree.directory(f"/sys/kernel/livepatch/fix/{patched}")
    modules, _ = read_modules(tree.root)
    assert [module.live_patches for module in modules] == [("fix",), (), ("fix",)]


def test_order_is_the_kernels(tree: Tree) -> None:
    tree.write("/proc/modules", "zeta 1 0 - Live 0x0\nalpha 1 0 - Live 0x0\n")
    tree.module("alpha")
    tree.module("zeta")
    assert [row.name for row in read_module_rows(tree.root).rows] == ["zeta", "alpha"]


def test_built_in_modules_are_none(tree: Tree) -> None:
    tree.write("/proc/modules", "")
    tree.write("/sys/module/printk/parameters/time", "Y\n")
    assert read_module_rows(tree.root).rows == ()


@pytest.mark.parametrize(
    ("line", "initstate", "state", "refcnt"),
    [
        ("demo 1 1 - Loading 0x0 (OE+)", "coming", ModuleState.COMING, 1),
        ("demo 1 -1 - Unloading 0x0 (OE-)", "going", ModuleState.GOING, -1),
    ],
)
def test_states_on_the_way(tree: Tree, line: str, initstate: str, state: ModuleState, refcnt: int) -> None:
    tree.write("/proc/modules", line + "\n")
    tree.module("demo", initstate, refcnt)
    (demo,), _ = read_modules(tree.root)
    assert (demo.state, demo.refcnt, demo.taints) == (state, refcnt, "OE")


def test_module_without_sysfs_entry(tree: Tree) -> None:
    """Its load died before mod_sysfs_setup: a removal would wait for ever."""
    tree.write("/proc/modules", "demo 16384 1 - Loading 0x0 (OE+)\n")
    (row,) = read_module_rows(tree.root).rows
    assert (row.state, row.refcnt, row.in_sysfs, row.in_proc) == ("coming", 1, False, True)
    assert row.taints == "OE"


def test_sysfs_entry_without_sections_counts_as_none(tree: Tree) -> None:
    tree.write("/proc/modules", "demo 16384 1 - Loading 0x0\n")
    tree.write("/proc/kallsyms", "")
    tree.module("demo", "coming", 1, sections=False)
    (row,) = read_module_rows(tree.root).rows
    assert not row.in_sysfs


def test_kernel_without_kallsyms_has_no_sections(tree: Tree) -> None:
    tree.write("/proc/modules", "demo 16384 0 - Live 0x0\n")
    tree.module("demo", sections=False)
    (row,) = read_module_rows(tree.root).rows
    assert row.in_sysfs


def test_module_that_proc_does_not_list(tree: Tree) -> None:
    tree.write("/proc/modules", "")
    tree.module("demo", "live", 3)
    (row,) = read_module_rows(tree.root).rows
    assert (row.refcnt, row.size, row.permanent, row.in_proc) == (3, 16384, None, False)


def test_proc_that_does_not_answer(tree: Tree) -> None:
    """A dead task holds module_mutex: sysfs is all there is, and nothing counts as unlisted."""
    os.mkfifo(tree.root.join("/proc/modules"))
    tree.module("demo", "live", -1)
    found = read_module_rows(tree.root, seconds=0.2)
    assert found.proc_error == "module_mutex is held: /proc/modules did not answer in 0.2 s"
    (row,) = found.rows
    assert (row.name, row.refcnt, row.permanent, row.in_proc) == ("demo", -1, None, True)


def test_proc_that_is_no_list(tree: Tree) -> None:
    tree.write("/proc/modules", "demo\n")
    tree.module("demo")
    found = read_module_rows(tree.root)
    assert "could not be read" in found.proc_error
    assert len(found.rows) == 1


def test_files_that_vanish(tree: Tree) -> None:
    """Between the listing and the reading of a directory anything may go."""
    tree.write("/proc/modules", "demo 16384 2 - Live 0x0 (O)\n")
    base = tree.module("demo")
    for name in ("refcnt", "taint", "coresize"):
        os.unlink(tree.root.join(f"{base}/{name}"))
        tree.link(f"{base}/{name}", "gone")
    tree.link("/sys/module/gone", "nowhere")
    tree.directory("/sys/module/odd/initstate")
    (demo,), _ = read_modules(tree.root)
    assert (demo.name, demo.refcnt, demo.size, demo.taints) == ("demo", 2, 16384, "O")


def test_values_that_are_hidden_or_wrong(tree: Tree) -> None:
    tree.write("/proc/modules", "demo 16384 - - Live 0x0000000000000000\n")
    base = tree.module("demo")
    tree.write(f"{base}/sections/.gnu.linkonce.this_module", "0x0000000000000000\n")
    tree.write(f"{base}/notes/.note.gnu.build-id", b"\x04\0\0\0\xff\xff\0\0\x03\0\0\0GNU\0")
    tree.write(f"{base}/refcnt", "many\n")
    (demo,), _ = read_modules(tree.root)
    assert (demo.refcnt, demo.address, demo.build_id, demo.memory) == (None, 0, "", ())


def test_kernel_without_loadable_modules(tree: Tree) -> None:
    found = read_module_rows(tree.root)
    assert (found.rows, found.proc_error, found.loadable) == ((), "", False)


def test_no_proc_at_all(tmp_path: Path) -> None:
    assert has_loadable_modules(Tree(str(tmp_path)).root) is None
