# SPDX-License-Identifier: MIT
"""What a tree and its configuration know of a name."""

from __future__ import annotations

from pathlib import Path

import pytest

import lkm
from lkm.formats.modprobe_conf import BadName
from lkm.root import Root
from lkm.tree.match import (
    FROM_ALIAS,
    FROM_BUILTIN,
    FROM_BUILTIN_ALIAS,
    FROM_COMMAND,
    FROM_CONFIG,
    FROM_NAME,
    FROM_SYMBOL,
    Match,
)
from lkm.tree.tree import Tree
from tests.indexes import make_tree

MODULES = {
    "kernel/a-dev.ko": ["kernel/b.ko.xz", "kernel/c.ko"],
    "kernel/b.ko.xz": ["kernel/c.ko"],
    "kernel/c.ko": [],
    "/abs/d.ko": [],
}
CONF = """\
alias from-conf c
alias from-* b
blacklist c
forbid no_*
options a_dev x=1
options from_conf y=2
options a-dev z=3
install cmd-only /bin/true
remove gone-only /bin/false
install a* /bin/echo first
install a_dev /bin/echo second
softdep a_dev pre: b post: c
softdep a_dev pre: b c
weakdep a_* c
weakdep a_dev d
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    modules = {path: needed for path, needed in MODULES.items() if path[0] != "/"}
    make_tree(
        tmp_path,
        modules=modules,
        aliases=[("pci:v1*", "a_dev"), ("pci:v12*", "b"), ("cmd_only", "b"), ("c", "b")],
        symbols=[("sym", "c"), ("sym", "b")],
        builtin=["unix"],
        builtin_aliases=[("net_pf_1", "unix")],
        files={"etc/modprobe.d/a.conf": CONF, "proc/cmdline": "modprobe.blacklist=b a_dev.w=4\n"},
    )
    return Tree(str(tmp_path), "6.1.0-test")


def seen(rows: tuple[Match, ...]) -> list[tuple[str, str, str]]:
    return [(row.name, row.alias, row.source) for row in rows]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("from-conf", [("c", "from_conf", FROM_CONFIG), ("b", "from_*", FROM_CONFIG)]),
        ("a-dev", [("a_dev", "", FROM_NAME)]),
        ("c", [("c", "", FROM_NAME)]),
        ("symbol:sym", [("b", "symbol:sym", FROM_SYMBOL), ("c", "symbol:sym", FROM_SYMBOL)]),
        ("cmd-only", [("cmd_only", "", FROM_COMMAND)]),
        ("gone_only", [("gone_only", "", FROM_COMMAND)]),
        ("pci:v123", [("a_dev", "pci:v123", FROM_ALIAS), ("b", "pci:v123", FROM_ALIAS)]),
        ("unix", [("unix", "", FROM_BUILTIN)]),
        ("net-pf-1", [("unix", "net_pf_1", FROM_BUILTIN_ALIAS)]),
        ("nothing", []),
    ],
)
def test_the_first_source_that_knows_a_name_decides(
    tree: Tree, name: str, expected: list[tuple[str, str, str]]
) -> None:
    assert seen(tree.lookup(name)) == expected


def test_a_bracket_without_its_partner_is_no_name(tree: Tree) -> None:
    with pytest.raises(BadName):
        tree.lookup("pci:v[1")
    assert not tree.is_name("a]")


def test_a_module_has_a_path_and_dependencies(tree: Tree) -> None:
    assert tree.path("a-dev") == f"{tree.directory}/kernel/a-dev.ko"
    assert tree.path("nothing") is None
    assert tree.dependencies("a_dev") == ("c", "b")
    assert tree.dependency_paths("b") == (f"{tree.directory}/kernel/c.ko",)
    assert tree.dependencies("nothing") == ()
    assert tree.has("a-dev")
    assert tree.names() == ["a_dev", "b", "c"]
    assert tree.builtin_names() == ["unix"]
    assert tree.aliases("b") == [("c", "b"), ("cmd_only", "b"), ("pci:v12*", "b")]
    assert tree.symbols("c") == [("symbol:sym", "c")]


def test_an_absolute_path_of_modules_dep_is_kept(tmp_path: Path) -> None:
    folder = make_tree(tmp_path)
    (folder / "modules.dep.bin").unlink()
    (folder / "modules.dep").write_text("/abs/d.ko: kernel/c.ko\n", encoding="utf-8")
    tree = Tree(Root(str(tmp_path), "6.1.0-test"))
    assert tree.path("d") == "/abs/d.ko"
    assert tree.dependency_paths("d") == (f"{folder}/kernel/c.ko",)


def test_the_configuration_says_more(tree: Tree) -> None:
    assert tree.options("a-dev") == "x=1 z=3 w=4"
    assert tree.options("c", "from_conf") == "y=2"
    assert tree.softdeps("a_dev") == (("b",), ("c",))
    assert tree.softdeps("a_dev", every=True) == (("b", "c"), ("c",))
    assert tree.weakdeps("a_dev") == ("c",)
    assert tree.weakdeps("a_dev", every=True) == ("c", "d")
    install, remove = tree.install_command("a-dev"), tree.remove_command("gone_only")
    assert install is not None
    assert install.value == "/bin/echo first"
    assert remove is not None
    assert remove.value == "/bin/false"
    assert tree.install_command("b") is None
    blacklisted, forbidden = tree.blacklisted("c"), tree.forbidden("no-way")
    assert blacklisted is not None
    assert blacklisted.where.endswith("/etc/modprobe.d/a.conf line 3")
    assert forbidden is not None
    assert forbidden.where.endswith("/etc/modprobe.d/a.conf line 4")
    by_command_line = tree.blacklisted("b")
    assert by_command_line is not None
    assert by_command_line.where == f"{tree.root}/proc/cmdline"
    assert tree.forbidden("a_dev") is None
    assert tree.problems == ()


def test_the_first_file_of_a_name_hides_the_others(tmp_path: Path) -> None:
    make_tree(
        tmp_path,
        files={
            "etc/modprobe.d/b.conf": "options x etc=1\n",
            "run/modprobe.d/b.conf": "options x run=1\n",
            "lib/modprobe.d/a.conf": "options x lib=1\n",
            "usr/lib/modprobe.d/a.conf": "options x usr=1\n",
            "usr/local/lib/modprobe.d/c.conf": "options x local=1\nnonsense\n",
            "etc/modprobe.d/d.conf.bak": "options x bak=1\n",
            "etc/modprobe.d/.hidden.conf": "options x hidden=1\n",
            "etc/modprobe.d/dir.conf/x.conf": "options x inside=1\n",
            "lib/modules/6.1.0-test/modules.softdep": "softdep x pre: y\n",
        },
    )
    tree = Tree(str(tmp_path), "6.1.0-test")
    assert tree.options("x") == "usr=1 etc=1 local=1"
    assert tree.softdeps("x") == (("y",), ())
    assert tree.problems == (
        f"Directories inside directories are not supported: {tmp_path}/etc/modprobe.d/dir.conf",
        f"{tmp_path}/usr/local/lib/modprobe.d/c.conf line 2: ignoring bad line starting with 'nonsense'",
    )


def test_other_paths_stand_in_for_the_directories(tmp_path: Path) -> None:
    make_tree(
        tmp_path,
        files={
            "one.cfg": "options x one=1\n",
            "d/two.conf": "options x two=1\n",
            "etc/modprobe.d/a.conf": "nonsense",
        },
    )
    paths = [f"{tmp_path}/one.cfg", f"{tmp_path}/d", f"{tmp_path}/absent"]
    assert Tree(str(tmp_path), "6.1.0-test", config_paths=paths).options("x") == "one=1 two=1"


@pytest.mark.parametrize("damage", ["gone", "torn", "empty"])
def test_the_text_files_answer_where_an_index_does_not(tmp_path: Path, damage: str) -> None:
    folder = make_tree(tmp_path, modules={"kernel/old.ko": []})
    for name in ("dep", "alias", "symbols", "builtin", "builtin.alias"):
        path = folder / f"modules.{name}.bin"
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(b"" if damage == "empty" else b"\xb0\x07\xf4\x57\0\2\0\1\xf0\0\xff\xff")
    (folder / "modules.dep").write_text("kernel/a-b.ko.zst: kernel/c.ko\nkernel/c.ko:\n", encoding="utf-8")
    text = "# Aliases\nalias pci:v1* a_b\nalias odd key c\nalias pci:v* c\n"
    (folder / "modules.alias").write_text(text, encoding="utf-8")
    (folder / "modules.symbols").write_text("alias symbol:s c\n", encoding="utf-8")
    (folder / "modules.builtin").write_text("kernel/net/unix.ko\n", encoding="utf-8")
    (folder / "modules.builtin.modinfo").write_bytes(b"unix.alias=net-pf-1\0unix.license=GPL\0")
    tree = Tree(str(tmp_path), "6.1.0-test")
    assert tree.path("a_b") == f"{folder}/kernel/a-b.ko.zst"
    assert tree.dependencies("a_b") == ("c",)
    assert [row.name for row in tree.lookup("pci:v12")] == ["a_b", "c"]
    assert [row.name for row in tree.lookup("symbol:s")] == ["c"]
    assert [row.name for row in tree.lookup("unix")] == ["unix"]
    assert [row.name for row in tree.lookup("net-pf-1")] == ["unix"]
    assert tree.names() == ["a_b", "c"]
    assert len(tree.problems) == (5 if damage == "torn" else 0)
    assert all("its text form is read instead; run depmod" in problem for problem in tree.problems)


def test_an_index_without_its_text_finds_nothing(tmp_path: Path) -> None:
    folder = make_tree(tmp_path)
    (folder / "modules.dep.bin").write_bytes(b"hello, index")
    tree = Tree(str(tmp_path), "6.1.0-test")
    assert tree.lookup("a") == ()
    (problem,) = tree.problems
    assert "modules.dep.bin: at 0: expected the magic" in problem
    assert "nothing is found there" in problem


def test_no_tree_knows_no_module(tmp_path: Path) -> None:
    tree = lkm.Tree(str(tmp_path / "nowhere"), "6.1.0-test")
    assert tree.lookup("ext4") == ()
    assert tree.names() == []
    assert tree.problems == ()


def test_the_running_kernel_is_the_default(tmp_path: Path) -> None:
    import os

    assert Tree(str(tmp_path)).directory == f"{tmp_path}/lib/modules/{os.uname().release}"


def test_what_the_document_shows_works(tmp_path: Path) -> None:
    make_tree(tmp_path, modules={"kernel/ext4.ko": ["kernel/crc16.ko"], "kernel/crc16.ko": []})
    text = (Path(__file__).parents[3] / "docs/classic.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    assert code.count("tree.") >= 12
    shown: dict[str, Tree] = {}
    exec(code.replace('"/", "6.1.0-56-amd64"', f'"{tmp_path}", "6.1.0-test"'), shown)
    assert shown["tree"].dependencies("ext4") == ("crc16",)
