# SPDX-License-Identifier: MIT
"""depmod.d against kmod's own depmod: which of several files stands for a module."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lkm.cli.kmod.main import run
from lkm.formats.elfwriter import NewSection
from lkm.tree.depmod.config import read_conf
from tests.builders import make_module
from tests.depmod import RELEASE, make_tree, module_bytes, read_files, run_kmod

PLACES = ["kernel/fs", "updates", "extra/a", "extra", "build/x", "weak-updates", "up"]
FILES = {f"{place}/m-{number}.ko": module_bytes("m") for place in PLACES for number in range(2)}


def assert_same(top: Path, conf: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One file of configuration: the same files are made, and the same is said."""
    path = top.parent / "x.conf"
    path.write_text(conf, encoding="utf-8")
    code, messages, expected = run_kmod(top, "-C", str(path))
    assert run("depmod", ["-b", str(top), "-C", str(path), RELEASE]) == code
    assert sorted(capfd.readouterr().err.splitlines()) == sorted(messages.splitlines()), conf
    assert read_files(top / "lib/modules" / RELEASE) == expected, conf


@pytest.mark.parametrize("conf", [
    "", "search updates built-in", "search built-in updates", "search extra built-in updates", "search extra up",
    "search external extra", "search kernel/fs", "search updates\nsearch extra", "search built-in", "search",
    "override m-0 * extra", "override m_0 * extra", f"override m-0 {RELEASE} kernel/fs\noverride m-1 * updates",
    "override m-0 5.10 extra", "override m-0 ^6\\\\.1 extra", "override m-0 6.[0-9].* extra/a",
    "override m-0 ( extra",
    "override m-0 * extra\noverride m-0 * up", "exclude updates", "exclude updates kernel", "exclude a",
    "exclude m-0.ko", "bogus line", "override m-0 *", "override", "external *", "include x", "make_map_files x",
    "# search extra", "  search extra", "\tsearch\textra \t built-in", "search \\\nextra", "search ex\\\ntra",
    "\n\n#x\\\nsearch extra\nbogus", "search extra\nexclude extra", "sea\\rch extra",
])  # fmt: skip
def test_directives(tmp_path: Path, capfd: pytest.CaptureFixture[str], conf: str) -> None:
    make_tree(tmp_path / "tree", FILES)
    assert_same(tmp_path / "tree", conf, capfd)
    assert_same(tmp_path / "tree", conf + "\n", capfd)


@pytest.mark.parametrize("search", [
    "external built-in", "built-in external", "updates external built-in", "external", "updates", "external updates",
])  # fmt: skip
@pytest.mark.parametrize("directories", ["one", "one two", "two absent one"])
def test_external_directories(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], search: str, directories: str
) -> None:
    make_tree(tmp_path / "tree", FILES)
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep/m-0.ko").write_bytes(module_bytes("m"))
        (tmp_path / name / f"only-{name}.ko").write_bytes(module_bytes("m"))
    lines = [f"external * {tmp_path}/{name}" for name in directories.split()]
    assert_same(tmp_path / "tree", "\n".join([f"search {search}", *lines, "external 4.19 /nowhere"]), capfd)


def test_random_configurations(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(11)
    for turn in range(40):
        top = tmp_path / str(turn) / "tree"
        make_tree(top, dict(chance.sample(sorted(FILES.items()), chance.randrange(2, 9))), order=None)
        (top.parent / "ext").mkdir()
        for name in ("m-0", "m-1"):
            (top.parent / f"ext/{name}.ko").write_bytes(module_bytes("m"))
        lines = []
        for _ in range(chance.randrange(6)):
            words = chance.sample([*PLACES, "built-in", "external"], chance.randrange(4))
            lines.append(chance.choice([
                "search " + " ".join(words),
                f"override m-{chance.randrange(2)} * {chance.choice(PLACES)}",
                f"external * {top.parent}/ext",
                f"exclude {chance.choice(['updates', 'a', 'fs', 'x'])}",
            ]))  # fmt: skip
        assert_same(top, "\n".join(lines) + "\n", capfd)


def test_a_file_hides_those_of_its_name_and_all_are_sorted_by_name(tmp_path: Path) -> None:
    told: list[str] = []
    for directory, name, text in (
        ("one", "b.conf", "search b1"),
        ("two", "b.conf", "search b2"),
        ("two", "a.conf", "search a2"),
        ("one", "c.conf", "search c1"),
        ("two", "d.txt", "search d2"),
        ("two", ".e.conf", "search e2"),
        ("two", ".conf", "search f2"),
    ):
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / name).write_text(text, encoding="utf-8")
    (tmp_path / "two/g.conf").mkdir()
    paths = tuple(os.fsencode(tmp_path / name) for name in ("one", "absent", "two", "one/c.conf"))
    conf = read_conf(paths, b"6.1", lambda level, text: told.append(f"{level} {text}"))
    assert conf.searches == (b"c1", b"b1", b"a2")
    assert sorted(told) == [
        f"ERROR Directories inside directories are not supported: {tmp_path}/two/g.conf",
        f"INFO All cfg files need .conf: {tmp_path}/two/d.txt",
    ]


def test_without_search_updates_come_first() -> None:
    assert read_conf((), b"6.1", lambda _level, _text: None).searches == (b"updates",)


@pytest.mark.parametrize("way", ["-F", "-E"])
def test_symbols_that_nobody_exports(tmp_path: Path, capfd: pytest.CaptureFixture[str], way: str) -> None:
    """And versions that differ: what the modules say of them is 1 for the first export and so on, or nothing."""
    top = tmp_path / "tree"
    files = {
        "kernel/a.ko": module_bytes("a", exports=["a_one", "a_two"]),
        "kernel/b.ko": module_bytes("b", imports=["a_one", "known", "unknown", ".known"], weak=["weak"]),
        "kernel/c.ko": module_bytes("c", imports=["a_two", "_known", "__this_module", "TOC.", ".TOC."]),
    }
    # Without CRCs: what a module exports is not known by the kernel's.
    strings = NewSection("__ksymtab_strings", b"s\0ns\0")
    files["kernel/s.ko"] = make_module("s", extra=[strings])
    files["kernel/t.ko"] = module_bytes("t", imports=["s", "ns"])
    make_tree(top, files, order=files)
    known = tmp_path / "known"
    if way == "-F":
        known.write_text(
            "ffff r __ksymtab_known\nbad\nffff t other\n\nf r ___ksymtab_under\n", encoding="utf-8"
        )
    else:
        lines = (
            "0x5\tknown\tvmlinux\tEXPORT\n0x9 s vmlinux\n0xg\tbad\tvmlinux\tE\n"
            "0x1\ta\tmod\tE\n0x1\tno\n0x7 a_one vmlinux\n"
        )
        known.write_text(lines, encoding="utf-8")
    for options in ([], ["-e"], ["-e", "-P_"], ["-e", "-v"]):
        arguments = [way, str(known), *options]
        code, messages, expected = run_kmod(top, *arguments)
        assert run("depmod", ["-b", str(top), *arguments, RELEASE]) == code
        out, err = capfd.readouterr()
        # The reason of an invalid version is that of whatever failed before, in kmod.
        said = [line.partition("Invalid symbol version")[0] for line in (out + err).splitlines() if line]
        theirs = [line.partition("Invalid symbol version")[0] for line in messages.splitlines() if line]
        assert sorted(said) == sorted(theirs)
        assert read_files(top / "lib/modules" / RELEASE) == expected


def test_a_list_of_symbols_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_tree(tmp_path, FILES)
    code, messages, _ = run_kmod(tmp_path, "-e", "-F", "/nowhere")
    assert run("depmod", ["-b", str(tmp_path), "-e", "-F", "/nowhere", RELEASE]) == code == 1
    assert capfd.readouterr().err == messages


@pytest.mark.parametrize(
    "arguments", [["-P", "ab"], ["-P", ""], ["6"], ["x.y"], ["6.1-none"], ["-Z"], ["-b"], ["--ba"]]
)
def test_wrong_command_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run("depmod", ["-b", str(tmp_path), *arguments]) == 1
    assert capfd.readouterr().err.startswith("depmod: ")


def test_the_alias_of_a_mebibyte(tmp_path: Path) -> None:
    """All of it in the text; the index has as much as kmod's buffers hold."""
    long = "x" * (1 << 20)
    directory = make_tree(
        tmp_path, {"kernel/a.ko": module_bytes("a", info=[("alias", long), ("alias", "y")])}
    )
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == 0
    assert f"alias {long} a\n" in (directory / "modules.alias").read_text()
    assert read_files(directory)["alias.bin"] == [("x" * 4095, 0, "a"), ("y", 0, "a")]


def test_an_alias_that_no_index_can_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """kmod 34 ends there too, with half of its files written."""
    directory = make_tree(tmp_path, {"kernel/a.ko": module_bytes("a", info=[("alias", "é")])})
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == 1
    assert "FATAL: Module index: only 7-bit ASCII is supported" in capfd.readouterr().err
    assert not list(directory.glob("modules.dep*"))


def test_a_directory_that_leads_back_to_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """kmod follows it until it has no more file descriptors."""
    directory = make_tree(tmp_path, FILES)
    (directory / "kernel/fs/again").symlink_to(directory / "kernel")
    (directory / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/n.ko").write_bytes(module_bytes("n"))
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == 0
    assert "fs/again: leads to a directory that it is in; skipped\n" in capfd.readouterr().err
    assert "linked/n.ko:\n" in (directory / "modules.dep").read_text()


def test_a_module_directory_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, messages, _ = run_kmod(tmp_path)
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == code == 1
    assert capfd.readouterr().err == messages


def test_another_module_directory_and_output(tmp_path: Path) -> None:
    directory = make_tree(tmp_path, FILES)
    (tmp_path / "usr").mkdir()
    directory.rename(tmp_path / "usr" / RELEASE)
    output = tmp_path / "out"
    assert run("depmod", ["-b", str(tmp_path), "-m", "/usr", "-o", str(output), RELEASE]) == 0
    assert (output / "usr" / RELEASE / "modules.dep").read_text().startswith("updates/")
    assert not (tmp_path / "usr" / RELEASE / "modules.dep").exists()


def test_an_unreadable_directory_and_module(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the calls are told to refuse."""
    directory = make_tree(
        tmp_path, {"a/x.ko": module_bytes("x"), "b/y.ko": module_bytes("y")}, order=["b/y.ko"]
    )

    def refusing(call: Callable[..., object], what: str) -> Callable[..., object]:
        def refuse(path: bytes, *rest: object, **named: object) -> object:
            if isinstance(path, bytes) and path.endswith(what.encode()):
                raise PermissionError(13, "Permission denied")
            return call(path, *rest, **named)

        return refuse

    monkeypatch.setattr(os, "scandir", refusing(os.scandir, "/a"))
    monkeypatch.setattr(os, "open", refusing(os.open, "y.ko"))
    assert run("depmod", ["-b", str(tmp_path), RELEASE]) == 0
    assert capfd.readouterr().err.splitlines() == [
        f"depmod: ERROR: could not read {directory}/a: Permission denied",
        f"depmod: ERROR: failed to load symbols from {directory}/b/y.ko: Permission denied",
    ]
    assert (directory / "modules.dep").read_text() == "b/y.ko:\n"
