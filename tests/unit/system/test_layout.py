# SPDX-License-Identifier: MIT
"""The layout of struct module: sibling, BTF and proofs, agreeing and not."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from lkm.names import ModuleName
from lkm.system.layout import read_layout, read_raw
from lkm.system.siblings import find_sibling
from lkm.system.snapshot import LoadedModule, ModuleState
from tests.builders import BUILD_ID, VERMAGIC, make_module
from tests.unit.system.kernel import MODULES, FakeKernel, FakeTypes
from tests.unit.system.trees import Tree

RELEASE = "6.1.0-test"
OFFSETS = {
    "state": 0, "list": 8, "name": 24, "init": 312, "num_syms": 224, "num_gpl_syms": 276,
    "source_list": 816, "target_list": 832, "exit": 848, "refcnt": 856,
}  # fmt: skip
OTHER_BUILD = bytes(20)


def types(**changes: int) -> FakeTypes:
    return FakeTypes({"module": (changes.pop("size", 896), {**OFFSETS, **changes})})


def put_file(
    tree: Tree,
    name: str,
    *,
    intree: bool = True,
    vermagic: str = VERMAGIC,
    build_id: Optional[bytes] = BUILD_ID,
    exit_offset: Optional[int] = 848,
    directory: str = "kernel/lib",
) -> str:
    """A module file in the tree; its path."""
    items = [("license", "GPL"), ("name", name), ("retpoline", "Y"), ("vermagic", vermagic)]
    data = make_module(
        name,
        modinfo=[*items, ("intree", "Y")] if intree else items,
        build_id=build_id,
        exit_offset=exit_offset,
        versions={"module_layout": 0x1234},
    )
    return tree.write(f"/lib/modules/{RELEASE}/{directory}/{name}.ko", data)


def loaded(name: str, *, address: int = 0, build_id: bytes = BUILD_ID, taints: str = "") -> LoadedModule:
    return LoadedModule(
        ModuleName(name), ModuleState.LIVE, 2, 4096, address=address, build_id=build_id.hex(), taints=taints
    )


def put_module(
    kernel: FakeKernel, tree: Tree, name: str, at: int, *, refcnt: int = 3, state: int = 0
) -> LoadedModule:
    """A live module in memory and in sysfs, shown with two references."""
    kernel.place(at, 896)
    kernel.put(at, state)
    kernel.put(at + 24, name)
    kernel.put(at + 312, MODULES)
    kernel.put(at + 848, MODULES + 64)
    kernel.put(at + 856, refcnt.to_bytes(4, "little", signed=True))
    tree.module(name, refcnt=2)
    return loaded(name, address=at)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path), RELEASE)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(types())


def test_all_witnesses_agree(tree: Tree, kernel: FakeKernel) -> None:
    put_file(tree, "good")
    module = put_module(kernel, tree, "good", MODULES)
    layout, sibling, error = read_layout(tree.root, kernel.memory(), [module])
    assert error == ""
    assert layout is not None
    assert sibling is not None
    assert (layout.size, layout.init, layout.exit, layout.refcnt, layout.source_list) == (
        896,
        312,
        848,
        856,
        816,
    )
    assert (layout.num_syms, layout.num_gpl_syms, layout.disagreement) == (224, 276, "")
    assert layout.origin == "sibling and btf"
    assert [(proof.module, proof.holds) for proof in layout.proofs] == [("good", True)]
    assert (sibling.build_matches, sibling.crc, sibling.retpoline, sibling.intree) == (
        True,
        0x1234,
        True,
        True,
    )
    assert sibling.vermagic == VERMAGIC


def test_every_difference_is_named(tree: Tree) -> None:
    put_file(tree, "good")
    kernel = FakeKernel(types(size=960, refcnt=904, source_list=800))
    layout = read_layout(tree.root, kernel.memory(), [loaded("good")]).layout
    assert layout is not None
    assert layout.disagreement == (
        "size: 896 in the sibling, 960 in BTF; refcnt: 856 in the sibling, 904 in BTF;"
        " source_list: 800 in BTF, 816 expected (exit - 32)"
    )


def test_without_btf_the_sibling_is_enough(tree: Tree) -> None:
    put_file(tree, "good")
    kernel = FakeKernel(None)
    module = put_module(kernel, tree, "good", MODULES)
    memory = kernel.memory()
    layout, _, error = read_layout(tree.root, memory, [module])
    assert layout is not None
    assert (layout.origin, layout.num_syms, layout.refcnt, error) == ("sibling", None, 856, "")
    assert [proof.holds for proof in layout.proofs] == [True]
    assert memory.notes == []


def test_without_kernel_memory_there_are_no_proofs(tree: Tree) -> None:
    put_file(tree, "good")
    layout, sibling, error = read_layout(tree.root, None, [loaded("good")])
    assert layout is not None
    assert layout.proofs == ()
    assert sibling is not None
    assert error == ""


def test_without_a_module_tree_btf_is_left(tree: Tree, kernel: FakeKernel) -> None:
    layout, sibling, error = read_layout(tree.root, kernel.memory(), [loaded("good")])
    assert sibling is None
    assert layout is not None
    assert layout.origin == "btf"
    assert f"linux-image-{RELEASE}" in error


def test_without_anything_there_is_no_layout(tree: Tree) -> None:
    assert read_layout(tree.root, None, [])[:2] == (None, None)


def test_a_kernel_without_unloading_has_no_layout_in_btf(tree: Tree) -> None:
    offsets = {name: at for name, at in OFFSETS.items() if name not in {"refcnt", "exit"}}
    memory = FakeKernel(FakeTypes({"module": (896, offsets)})).memory()
    assert read_layout(tree.root, memory, []).layout is None
    assert "exit" in memory.notes[0]


def test_newest_kernels_have_no_num_gpl_syms(tree: Tree) -> None:
    offsets = {name: at for name, at in OFFSETS.items() if name != "num_gpl_syms"}
    layout = read_layout(tree.root, FakeKernel(FakeTypes({"module": (896, offsets)})).memory(), []).layout
    assert layout is not None
    assert (layout.num_syms, layout.num_gpl_syms) == (224, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refcnt": 7}, "refcnt 7, expected 3 (shown as 2)"),
        ({"refcnt": -1}, "refcnt -1, expected 3"),
        ({"state": 2}, "state 2, expected 0 (live)"),
    ],
)
def test_a_proof_that_fails_says_why(
    tree: Tree, kernel: FakeKernel, change: dict[str, int], words: str
) -> None:
    put_file(tree, "good")
    module = put_module(kernel, tree, "good", MODULES, **change)
    layout = read_layout(tree.root, kernel.memory(), [module]).layout
    assert layout is not None
    assert [proof.holds for proof in layout.proofs] == [False]
    assert words in layout.proofs[0].detail


def test_a_proof_at_a_wrong_address_fails(tree: Tree, kernel: FakeKernel) -> None:
    put_file(tree, "good")
    module = put_module(kernel, tree, "good", MODULES)
    other = module._replace(name=ModuleName("other"))
    unmapped = module._replace(name=ModuleName("gone"), address=MODULES + 0x10_0000)
    kernel.put(MODULES + 312, 0x1234)
    layout = read_layout(tree.root, kernel.memory(), [module, other, unmapped]).layout
    assert layout is not None
    details = [proof.detail for proof in layout.proofs]
    assert "init 0x1234 is no pointer" in details[0]
    assert "name 'good'" in details[1]
    assert "not mapped" in details[2]


SYSFS = {"mkobj.kobj": 80, "mkobj.kobj.name": 80, "mkobj.kobj.sd": 128, "holders_dir": 200}


@pytest.mark.parametrize(("kobject", "holds"), [("good", True), ("other", False), ("", False)])
def test_the_kobject_of_a_module_has_its_name(tree: Tree, kobject: str, holds: bool) -> None:
    kernel = FakeKernel(types(**SYSFS))
    put_file(tree, "good")
    module = put_module(kernel, tree, "good", MODULES)
    kernel.put(MODULES + 80, kernel.text(kobject) if kobject else 0)
    kernel.put(MODULES + 128, MODULES + 8)
    kernel.put(MODULES + 200, MODULES + 16)
    layout = read_layout(tree.root, kernel.memory(), [module]).layout
    assert layout is not None
    assert (layout.kobject, layout.kobject_name, layout.sysfs, layout.holders_dir) == (80, 80, 128, 200)
    raw = read_raw(kernel.memory(), layout, MODULES)
    assert (raw.kobject_name, raw.sysfs, raw.holders_dir) == (kobject, MODULES + 8, MODULES + 16)
    assert [proof.holds for proof in layout.proofs] == [holds]
    assert holds or f"kobject {kobject!r}" in layout.proofs[0].detail


def test_a_module_that_vanishes_proves_nothing(tree: Tree, kernel: FakeKernel) -> None:
    module = put_module(kernel, tree, "good", MODULES)
    kernel.place(MODULES + 0x1000, 896)
    kernel.put(MODULES + 0x1018, "gone")
    gone = loaded("gone", address=MODULES + 0x1000)
    layout = read_layout(tree.root, kernel.memory(), [gone, module]).layout
    assert layout is not None
    assert [(proof.holds, proof.detail) for proof in layout.proofs] == [
        (False, "it is gone from /sys/module"),
        (True, ""),
    ]


def test_at_most_eight_modules_are_read(tree: Tree, kernel: FakeKernel) -> None:
    modules = [put_module(kernel, tree, f"m{index}", MODULES + 0x1000 * index) for index in range(12)]
    layout = read_layout(tree.root, kernel.memory(), modules).layout
    assert layout is not None
    assert len(layout.proofs) == 8


def test_hidden_addresses_are_told_with_the_remedy(tree: Tree, kernel: FakeKernel) -> None:
    put_file(tree, "good")
    tree.write("/proc/sys/kernel/kptr_restrict", "2\n")
    reading = read_layout(tree.root, kernel.memory(), [loaded("good")])
    assert "sysctl kernel.kptr_restrict=1" in reading.error
    assert reading.sibling is not None


def test_nothing_loaded_proves_nothing(tree: Tree, kernel: FakeKernel) -> None:
    put_file(tree, "good")
    assert "load any in-tree module" in read_layout(tree.root, kernel.memory(), []).error


# The sibling


def test_files_of_another_build_are_refused(tree: Tree) -> None:
    put_file(tree, "good", build_id=OTHER_BUILD)
    put_file(tree, "spare", build_id=OTHER_BUILD)
    sibling, error = find_sibling(tree.root, [loaded("good")])
    assert sibling is None
    assert "another build" in error
    assert "reinstall" in error
    assert "good" in error


def test_one_file_of_the_running_build_is_enough(tree: Tree) -> None:
    put_file(tree, "bad", build_id=OTHER_BUILD)
    put_file(tree, "good")
    sibling = find_sibling(tree.root, [loaded("bad"), loaded("good")]).sibling
    assert sibling is not None
    assert (sibling.name, sibling.build_matches) == ("good", True)


def test_without_build_ids_there_is_nothing_to_compare(tree: Tree) -> None:
    put_file(tree, "good", build_id=None)
    sibling = find_sibling(tree.root, [loaded("good", build_id=b"")]).sibling
    assert sibling is not None
    assert sibling.build_matches is None


def test_a_module_that_is_not_loaded_may_serve(tree: Tree) -> None:
    put_file(tree, "spare")
    sibling = find_sibling(tree.root, []).sibling
    assert sibling is not None
    assert (sibling.name, sibling.build_matches) == ("spare", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foreign", "out-of-tree"),
        ("older", "5.10.0-other"),
        ("stays", "no exit function"),
        ("broken", "ELF"),
        ("unnamed", "an unknown kernel"),
    ],
)
def test_what_cannot_serve_is_told(tree: Tree, name: str, words: str) -> None:
    if name == "broken":
        tree.write(f"/lib/modules/{RELEASE}/kernel/broken.ko", b"junk")
    else:
        put_file(
            tree,
            name,
            intree=name != "foreign",
            vermagic={"older": "5.10.0-other SMP ", "unnamed": ""}.get(name, VERMAGIC),
            exit_offset=None if name == "stays" else 848,
        )
    sibling, error = find_sibling(tree.root, [loaded(name)])
    assert sibling is None
    assert words in error


def test_a_loaded_out_of_tree_module_is_no_witness(tree: Tree) -> None:
    put_file(tree, "own", build_id=OTHER_BUILD, directory="updates")
    put_file(tree, "good")
    sibling = find_sibling(tree.root, [loaded("own", taints="OE"), loaded("good")]).sibling
    assert sibling is not None
    assert sibling.name == "good"


def test_the_index_tells_the_files(tree: Tree) -> None:
    put_file(tree, "listed")
    put_file(tree, "hidden")
    tree.write(f"/lib/modules/{RELEASE}/modules.dep", "kernel/lib/listed.ko: kernel/lib/other.ko\n")
    sibling = find_sibling(tree.root, []).sibling
    assert sibling is not None
    assert sibling.name == "listed"


def test_a_stale_index_is_not_believed(tree: Tree) -> None:
    put_file(tree, "there")
    tree.write(f"/lib/modules/{RELEASE}/modules.dep", "kernel/gone.ko:\n")
    sibling = find_sibling(tree.root, []).sibling
    assert sibling is not None
    assert sibling.name == "there"
