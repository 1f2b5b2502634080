# SPDX-License-Identifier: MIT
"""modinfo prints what kmod's modinfo prints."""

from __future__ import annotations

import lzma

from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake import RELEASE
from tests.machine.modules import Exports, Layout, ModuleFile, make_module_file
from tests.property.tree.compare import a_machine, check_alike, examples
from tests.property.tree.modules import Tree, entries, trees
from tests.property.tree.test_modprobe import Situation, queries

LAYOUTS = (Layout(), Layout(64, ">", 22), Layout(32, "<", 3), Layout(32, ">", 20), Layout(64, "<", 183))
OPTIONS = (
    "-a",
    "-d",
    "-l",
    "-p",
    "-n",
    "-0",
    "-Fparm",
    "-Falias",
    "-Fparmtype",
    "--field=depends",
    "-Fnothing",
)


@examples(60)
@given(
    modinfo=st.lists(entries, max_size=8),
    layout=st.sampled_from(LAYOUTS),
    style=st.sampled_from(Exports),
    options=st.lists(st.sampled_from(OPTIONS), max_size=2),
    packed=st.booleans(),
)
def test_a_file_is_described_alike(
    modinfo: list[bytes], layout: Layout, style: Exports, options: list[str], packed: bool
) -> None:
    with a_machine() as machine:
        data = make_module_file(ModuleFile(tuple(modinfo), (("s", 1),), style=style, layout=layout))
        name = "/one-module.ko.xz" if packed else "/one-module.ko"
        path = machine.write(name, lzma.compress(data, check=lzma.CHECK_CRC32) if packed else data)
        check_alike(machine, "modinfo", *options, str(path))
        check_alike(machine, "modprobe", "--show-modversions", str(path))
        check_alike(machine, "modprobe", "--show-exports", str(path))


@examples(40)
@given(
    tree=trees(),
    options=st.lists(st.sampled_from(OPTIONS), max_size=1),
    names=st.lists(queries, min_size=1, max_size=3),
)
def test_a_name_is_described_alike(tree: Tree, options: list[str], names: list[str]) -> None:
    with a_machine() as machine:
        Situation(tree, {}, "quiet\n", [], "").furnish(machine)
        check_alike(machine, "modinfo", *options, *names)
        check_alike(machine, "modinfo", "-k", RELEASE, *names)
