# SPDX-License-Identifier: MIT
"""depmod writes what kmod's depmod writes, and complains of the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake import Answer, Machine
from tests.machine.trie import read_trie
from tests.property.tree.compare import a_machine, as_34, examples, without_notes
from tests.property.tree.configurations import depmod_d
from tests.property.tree.modules import Tree, trees

INPUTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")


def written(machine: Machine) -> dict[str, object]:
    """What depmod has written, and is taken away: text, or the decoded content."""
    found: dict[str, object] = {}
    for path in sorted(machine.tree.glob("modules.*")):
        if path.name in INPUTS:
            continue
        data = path.read_bytes()
        path.unlink()
        if path.name.endswith(".bin"):
            found[path.name] = read_trie(data) if data else []
        elif path.name == "modules.symbols":
            found[path.name] = sorted(data.splitlines())
        else:
            found[path.name] = data
    return found


def check_alike(machine: Machine, *options: str) -> None:
    """Both write the same and complain of the same, in whatever order."""
    expected, written_by_kmod = machine.kmod("depmod", *options), written(machine)
    found, written_by_lkm = without_notes(machine.lkm("depmod", *options)), written(machine)
    if "modules.weakdep" not in written_by_kmod:  # kmod 30 knows of none
        written_by_lkm.pop("modules.weakdep", None)
    assert in_order(found) == in_order(as_34(expected))
    assert written_by_lkm == written_by_kmod


def in_order(answer: Answer) -> Answer:
    """An answer with its complaints sorted."""
    return answer._replace(err="".join(sorted(answer.err.splitlines(keepends=True))))


@examples(40)
@given(tree=trees(), configuration=depmod_d, option=st.sampled_from(["-a", "-w", "-e"]))
def test_a_tree_is_indexed_alike(tree: Tree, configuration: dict[str, str], option: str) -> None:
    with a_machine() as machine:
        tree.write(machine)
        for name, text in configuration.items():
            machine.write(name, text)
        check_alike(machine, option)


@examples(25)
@given(tree=trees(duplicates=True), configuration=depmod_d)
def test_of_modules_of_one_name_the_same_wins(tree: Tree, configuration: dict[str, str]) -> None:
    with a_machine() as machine:
        tree.write(machine)
        machine.write("/lib/modules/external/alpha.ko", b"")
        for name, text in configuration.items():
            machine.write(name, text)
        check_alike(machine)
