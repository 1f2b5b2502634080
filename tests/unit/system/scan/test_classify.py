# SPDX-License-Identifier: MIT
"""What a pointer into a module is, by its place: expected, live, left over, or nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.names import ModuleName
from lkm.system.scanned import HitClass, Place, PlaceKind
from lkm.system.snapshot import ModuleState, Registration, RegistrationKind
from tests.unit.system.kernel import MODULES, FakeKernel
from tests.unit.system.scan.world import INIT, OTHER, OTHERS, STRUCT, classify, demo, make_kernel, slab
from tests.unit.system.trees import Tree

VARIABLE = Place(PlaceKind.KERNEL, 0xFFFF_FFFF_8200_0000, "some_list", live=True)


@pytest.fixture
def kernel() -> FakeKernel:
    return make_kernel()


# Expected


@pytest.mark.parametrize("name", ["modules", "mod_tree", "module_bug_list"])
def test_what_free_module_unlinks_is_expected(kernel: FakeKernel, name: str) -> None:
    hit = classify(kernel, VARIABLE._replace(name=name))
    assert hit.found is HitClass.EXPECTED
    assert "free_module" in hit.reason


@pytest.mark.parametrize(("inside", "found"), [(0x8, "expected"), (0x48, "expected"), (0x1F0, "live")])
def test_a_variable_without_a_name_is_told_by_the_member_that_it_leads_to(
    kernel: FakeKernel, inside: int, found: str
) -> None:
    assert classify(kernel, VARIABLE._replace(name=""), STRUCT + inside).found.value == found


@pytest.mark.parametrize(
    ("inside", "found"), [(-8, "live"), (0, "expected"), (0xFF8, "expected"), (0x1000, "live")]
)
def test_code_of_the_kernel_that_looks_like_an_address_is_none(
    kernel: FakeKernel, inside: int, found: str
) -> None:
    """On x86_64 `mov $-1, %rax` does."""
    text = 0xFFFF_FFFF_8100_0000
    kernel.symbols.update(_stext=text, _etext=text + 0x1000)
    place = VARIABLE._replace(address=text + inside)
    assert classify(kernel, place).found.value == found
    assert classify(kernel, place, machine="aarch64").found is HitClass.LIVE


@pytest.mark.parametrize(("inside", "found"), [(0x100, "expected"), (0x200, "live")])
def test_code_of_a_module_that_uses_it_is_none_either(kernel: FakeKernel, inside: int, found: str) -> None:
    kernel.put(OTHER + 0x850, (0x200).to_bytes(4, "little"))
    place = Place(PlaceKind.MODULE, OTHER + inside, "function", module=ModuleName("other"), live=True)
    assert classify(kernel, place, module=demo()._replace(holders=(OTHERS.name,))).found.value == found


@pytest.mark.parametrize(
    ("inside", "found"),
    [(0x808, "expected"), (0x840, "expected"), (0x9F8, "expected"), (0xA00, "live"), (8, "live")],
)
def test_all_of_another_struct_module_is_expected(kernel: FakeKernel, inside: int, found: str) -> None:
    place = Place(PlaceKind.MODULE, OTHER + inside, "variable", module=ModuleName("other"), live=True)
    assert classify(kernel, place).found.value == found


@pytest.mark.parametrize("section", ["__patchable_function_entries", "_ftrace_eval_map"])
def test_tables_of_another_module_that_lead_to_its_init_are_fixed(
    kernel: FakeKernel, tmp_path: Path, section: str
) -> None:
    tree = Tree(str(tmp_path))
    for name, address in ((section, OTHER + 0x100), (".data", OTHER + 0x140)):
        tree.write(f"/sys/module/other/sections/{name}", f"{address:#x}\n")
    found = {}
    for inside in (0xF8, 0x100, 0x138, 0x140):
        place = Place(PlaceKind.MODULE, OTHER + inside, "variable", module=ModuleName("other"), live=True)
        found[inside] = classify(kernel, place, root=tree.root).found.value
    assert found == {0xF8: "live", 0x100: "expected", 0x138: "expected", 0x140: "live"}
    holder = demo()._replace(holders=(OTHERS.name,))
    place = Place(PlaceKind.MODULE, OTHER + 0x100, "variable", module=ModuleName("other"), live=True)
    assert classify(kernel, place, module=holder, root=tree.root).found is HitClass.LIVE


def test_what_a_dead_loader_would_have_freed_is_expected(kernel: FakeKernel) -> None:
    place = slab("kmalloc-128", kernel.new(128), 16, 128)
    assert classify(kernel, place, INIT).found is HitClass.EXPECTED
    assert classify(kernel, place, INIT + 8).found is HitClass.UNKNOWN
    assert classify(kernel, place, MODULES).found is HitClass.UNKNOWN
    assert classify(kernel, place, INIT, module=demo(ModuleState.LIVE)).found is HitClass.UNKNOWN
    assert classify(kernel, place._replace(offset=24), INIT).found is HitClass.UNKNOWN


@pytest.mark.parametrize(("offset", "found"), [(0, "expected"), (8, "expected"), (16, "unknown")])
def test_of_a_vmap_area_its_bounds_alone_are_expected(kernel: FakeKernel, offset: int, found: str) -> None:
    assert classify(kernel, slab("vmap_area", kernel.new("vmap_area"), offset), MODULES).found.value == found


def test_the_memory_of_sect_attrs_is_expected(kernel: FakeKernel) -> None:
    start = kernel.new(256)
    kernel.set(STRUCT, "module", sect_attrs=start)
    assert classify(kernel, slab("kmalloc-256", start, 0x40)).reason.startswith("free_sect_attrs")
    assert classify(kernel, slab("kmalloc-256", kernel.new(256), 0x40)).found is HitClass.UNKNOWN


def test_records_of_ftrace_are_expected_those_dropped_again_too(kernel: FakeKernel) -> None:
    page, records = kernel.new("ftrace_page"), kernel.new(0x1000)
    kernel.put(kernel.symbols["ftrace_pages_start"], page)
    kernel.set(page, "ftrace_page", records=records)
    kernel.put(page + 16, (2).to_bytes(4, "little"))
    for at, found in ((0, "expected"), (0xFF8, "expected"), (0x1000, "unknown")):
        assert classify(kernel, Place(PlaceKind.PAGE, records + at)).found.value == found


@pytest.mark.parametrize(("offset", "found"), [(0x48, "expected"), (0x50, "unknown")])
def test_the_constructor_of_a_cache_is_called_by_nobody_else(
    kernel: FakeKernel, offset: int, found: str
) -> None:
    place = slab("kmem_cache", kernel.new("kmem_cache"), offset, 256)
    assert classify(kernel, place).found.value == found


@pytest.mark.parametrize(("owner", "found"), [("demo", "expected"), ("other", "live"), ("", "live")])
def test_its_own_per_cpu_memory_goes_with_it(kernel: FakeKernel, owner: str, found: str) -> None:
    place = Place(PlaceKind.PER_CPU, kernel.new(64), "", module=owner, cpu=1, live=True)
    assert classify(kernel, place).found.value == found


# Live


def test_a_variable_of_the_kernel_is_live(kernel: FakeKernel) -> None:
    hit = classify(kernel, VARIABLE)
    assert hit.found is HitClass.LIVE
    assert "some_list" in hit.event


@pytest.mark.parametrize("where", ["pointed to", "points"])
def test_what_belongs_to_a_registration_is_live_and_told(kernel: FakeKernel, where: str) -> None:
    place = slab("kmalloc-64", kernel.new(64), 8)
    address = MODULES + 0x10 if where == "pointed to" else place.start
    item = Registration(
        RegistrationKind.MISC, "left", ModuleName("demo"), certain=True, source="", address=address, size=16
    )
    hit = classify(kernel, place, registrations=(item,))
    assert (hit.found, hit.registered, hit.what) == (HitClass.LIVE, True, "misc left")


def make_file(kernel: FakeKernel, *, sound: bool = True) -> int:
    file, dentry, inode = kernel.new("file"), kernel.new("dentry"), kernel.new(64)
    kernel.set(dentry, "dentry", d_name__name=kernel.text("entry"), d_inode=inode if sound else 0)
    kernel.set(file, "file", f_inode=inode, f_path__dentry=dentry)
    return file


def test_an_open_file_is_named_by_its_member_and_its_entry(kernel: FakeKernel) -> None:
    hit = classify(kernel, slab("filp", make_file(kernel), 0x58, 256))
    assert (hit.found, hit.what) == (HitClass.LIVE, "file.f_op of entry")
    assert "its close too" in hit.event


@pytest.mark.parametrize(("sound", "found"), [(True, "live"), (False, "unknown")])
def test_in_a_merged_cache_an_object_must_prove_to_be_a_file(
    kernel: FakeKernel, sound: bool, found: str
) -> None:
    place = slab("filp", make_file(kernel, sound=sound), 0x58, 256)._replace(shared=True)
    assert classify(kernel, place).found.value == found


@pytest.mark.parametrize(("kind", "found"), [(1, "live"), (2, "unknown")])
def test_in_a_merged_cache_a_file_of_sysfs_has_a_directory_above(
    kernel: FakeKernel, kind: int, found: str
) -> None:
    node, directory = kernel.new("kernfs_node"), kernel.new("kernfs_node")
    kernel.set(node, "kernfs_node", parent=directory, name=kernel.text("value"))
    kernel.set(directory, "kernfs_node", flags=0x20 | kind)
    place = slab("kernfs_node_cache", node, 0x60, 128)._replace(shared=True)
    assert classify(kernel, place).found.value == found


@pytest.mark.parametrize(
    ("offset", "inside", "found"), [(40, 0x100, "live"), (16, 0x100, "unknown"), (48, -8, "unknown")]
)
def test_an_entry_of_a_tree_is_named_by_the_variable_that_the_tree_is(
    kernel: FakeKernel, offset: int, inside: int, found: str
) -> None:
    """A tree that is no variable of the kernel is perhaps the module's own, which nobody looks at."""
    image = kernel.place(0xFFFF_FFFF_8200_0000, 0x1000)
    kernel.symbols.update(_sdata=image, families=image + 0x100, _end=image + 0x1000)
    node = kernel.set(kernel.new("xa_node"), "xa_node", array=image + inside)
    hit = classify(kernel, slab("radix_tree_node", node, offset, 576))
    assert hit.found.value == found
    assert found == "unknown" or "families" in hit.event


def make_table(kernel: FakeKernel, *names: str) -> int:
    """A table of sysctls below the top, and the directories between them, by the names of their first entries."""
    root, above = kernel.new(64), 0
    for name in ("", *names):
        table = kernel.new("ctl_table")
        if name:
            kernel.set(table, "ctl_table", procname=kernel.text(name))
        header = kernel.new("ctl_table_header")
        above = kernel.set(header, "ctl_table_header", ctl_table=table, root=root, parent=above)
    return above


@pytest.mark.parametrize(("offset", "found"), [(0, "live"), (0x20, "live"), (0x10, "unknown")])
def test_a_table_of_sysctls_is_known_by_its_directories(kernel: FakeKernel, offset: int, found: str) -> None:
    header = make_table(kernel, "dev", "demo", "value")
    hit = classify(kernel, slab("kmalloc-cg-128", header, offset, 128))
    assert hit.found.value == found
    assert found == "unknown" or "/proc/sys/dev/demo/value" in hit.event


@pytest.mark.parametrize("broken", [{"parent": 0}, {"root": 1}])
def test_what_has_no_directories_of_its_root_is_none(kernel: FakeKernel, broken: dict[str, int]) -> None:
    header = kernel.set(make_table(kernel, "dev", "value"), "ctl_table_header", **broken)
    assert classify(kernel, slab("kmalloc-cg-128", header, 0, 128)).found is HitClass.UNKNOWN


def test_a_cache_that_nobody_knows_has_unknown_objects(kernel: FakeKernel) -> None:
    assert classify(kernel, slab("demo_cache", kernel.new(64), 8)).found is HitClass.UNKNOWN


def make_worker(kernel: FakeKernel, *, listed: bool = True, dead: bool = False) -> int:
    worker, pool = kernel.new("worker"), kernel.new("worker_pool")
    task = kernel.set(kernel.new("task_struct"), "task_struct", exit_state=16 if dead else 0)
    kernel.set(worker, "worker", pool=pool, task=task)
    if listed:
        for here, there in ((pool + 0x10, worker + 0x40), (worker + 0x40, pool + 0x10)):
            kernel.put(here, there)
            kernel.put(there + 8, here)
    return worker


@pytest.mark.parametrize(
    ("offset", "listed", "dead", "found"),
    [
        (0x58, True, False, "expected"), (0x58, False, False, "unknown"), (0x50, True, False, "unknown"),
        (0x18, True, False, "unknown"), (0x18, True, True, "expected"), (0x18, False, True, "unknown"),
    ],
)  # fmt: skip
def test_nobody_calls_what_a_worker_remembers_of_its_last_work(
    kernel: FakeKernel, *, offset: int, listed: bool, dead: bool, found: str
) -> None:
    """Of the current work neither, if the worker died in it."""
    worker = make_worker(kernel, listed=listed, dead=dead)
    assert classify(kernel, slab("kmalloc-192", worker, offset, 192)).found.value == found


@pytest.mark.parametrize(("linked", "found"), [(True, "live"), (False, "unknown")])
def test_an_interface_is_known_by_the_list_that_it_is_in(
    kernel: FakeKernel, *, linked: bool, found: str
) -> None:
    """Where kallsyms has no variables, the list itself is not found."""
    device, other = kernel.new(0x1000), kernel.new(16)
    kernel.put(device, b"left0\0")
    for node, neighbour in ((device + 0x48, other), (other, device + 0x48)):
        kernel.put(node, neighbour)
        kernel.put(node + 8, neighbour)
    if not linked:
        kernel.put(other, 0)
    hit = classify(kernel, slab("kmalloc-4k", device, 0xD0, 0x1000))
    assert hit.found.value == found
    assert not linked or (hit.what, "left0" in hit.event) == ("net_device.netdev_ops of left0", True)


@pytest.mark.parametrize(("gone", "found"), [(0, "live"), (16, "stale")])
def test_a_task_that_has_ended_is_left_over(kernel: FakeKernel, gone: int, found: str) -> None:
    task = kernel.new("task_struct")
    kernel.put(task + 0x20, gone.to_bytes(4, "little"))
    assert classify(kernel, slab("task_struct", task, 0x400, 0x800)).found.value == found


def test_a_task_that_waits_in_the_module_is_live(kernel: FakeKernel) -> None:
    stack, head = kernel.new(0x100), MODULES + 0x100
    place = Place(PlaceKind.STACK, stack + 0x40, "waiter", 0x40, stack, pid=7, live=True)
    assert classify(kernel, place, head).found is HitClass.UNKNOWN
    kernel.put(head, stack + 0x38)
    kernel.put(head + 8, stack + 0x38)
    hit = classify(kernel, place, head)
    assert hit.found is HitClass.LIVE
    assert "waiter (pid 7)" in hit.event


# Left over


@pytest.mark.parametrize("name", ["filp", "kmalloc-64", "vmap_area"])
def test_a_freed_object_is_left_over(kernel: FakeKernel, name: str) -> None:
    assert classify(kernel, slab(name, kernel.new(256), live=False)).found is HitClass.STALE


def test_a_stack_below_its_pointer_is_left_over(kernel: FakeKernel) -> None:
    place = Place(PlaceKind.STACK, kernel.new(64), "task", pid=7, live=False)
    assert classify(kernel, place).found is HitClass.STALE


def test_an_object_whose_state_is_unknown_is_not_live(kernel: FakeKernel) -> None:
    assert classify(kernel, slab("filp", make_file(kernel), 0x58, live=None)).found is HitClass.UNKNOWN
