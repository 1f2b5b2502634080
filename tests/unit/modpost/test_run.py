# SPDX-License-Identifier: MIT
"""From files to a file: the kernel's tree, kbuild's leavings, other modules, and the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.formats.module import parse_module
from lkm.modpost.crcs import parse_symvers_comments, read_crcs
from tests.builders import make_module
from tests.unit.modpost.world import make_object

RELEASE = "6.1.0-test"
SYMVERS = (
    "0x00001111\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n0x00002222\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine with one kernel, one module of it, and the Module.symvers of its headers."""
    modules = tmp_path / "root/lib/modules" / RELEASE
    (modules / "kernel").mkdir(parents=True)
    (modules / "build").mkdir()
    (modules / "build/Module.symvers").write_text(SYMVERS)
    info = (
        ("license", "GPL"),
        ("intree", "Y"),
        ("name", "sibling"),
        ("vermagic", f"{RELEASE} SMP mod_unload "),
    )
    sibling = make_module("sibling", modinfo=info, versions={"module_layout": 0x1111})
    (modules / "kernel/sibling.ko").write_bytes(sibling)
    return tmp_path / "root"


def lkm(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output, errors of `lkm modpost`."""
    capsys.readouterr()
    code = run(["modpost", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_module_lies_beside_its_object(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "de-mo.o").write_bytes(make_object())
    code, out, _ = lkm(capsys, tree / "de-mo.o", "--tree", tree)
    assert (code, out) == (0, f"{tree}/de-mo.ko: de_mo for {RELEASE}\n")
    module = parse_module((tree / "de-mo.ko").read_bytes())
    assert (module.name, module.vermagic) == ("de_mo", f"{RELEASE} SMP mod_unload ")
    assert dict(module.versions or ()) == {"module_layout": 0x1111, "_printk": 0x2222}


def test_it_is_called_as_its_file(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "x.o").write_bytes(make_object())
    code, out, _ = lkm(capsys, tree / "x.o", "--root", tree, "--kernel", "6.1", "-o", tree / "y.ko", "--json")
    answer = json.loads(out)
    assert (code, answer["schema"], answer["module"], answer["file"]) == (
        0,
        "lkm.modpost/1",
        "y",
        f"{tree}/y.ko",
    )
    assert answer["sources"][0] == f"{tree}/lib/modules/{RELEASE}/build/Module.symvers"


def test_with_an_error_the_old_file_stays(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "x.o").write_bytes(make_object(modinfo=(), imports=("nobody", "nor_this")))
    (tree / "x.ko").write_bytes(b"old")
    code, out, _ = lkm(capsys, tree / "x.o", "--tree", tree)
    assert code == 1
    assert (tree / "x.ko").read_bytes() == b"old"
    assert sorted(path.name for path in tree.iterdir()) == ["lib", "x.ko", "x.o"]
    for word in ("MODULE_LICENSE", "nobody", "nor_this", "3 errors"):
        assert word in out
    code, out, _ = lkm(capsys, tree / "x.o", "--tree", tree, "--json")
    answer = json.loads(out)
    assert (code, answer["file"], len(answer["problems"])) == (1, None, 3)
    assert set(answer["problems"][0]) == {"kind", "error", "summary", "remedy", "symbol"}


def test_another_module_or_its_symvers_has_symbols(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_module("other_mod", exports={"other_add": 0x77})
    (tree / "other-mod.ko").write_bytes(other)
    (tree / "Module.symvers").write_text(
        "0x00000088\tother_sub\t/src/drivers/other-mod\tEXPORT_SYMBOL_GPL\t\n"
    )
    (tree / "x.o").write_bytes(make_object(imports=("other_add", "other_sub")))
    words = ["--with", tree / "other-mod.ko", "--with", tree / "Module.symvers"]
    code, out, _ = lkm(capsys, tree / "x.o", "--tree", tree, *words)
    assert (code, out) == (0, f"{tree}/x.ko: x for {RELEASE}, needs other-mod\n")
    module = parse_module((tree / "x.ko").read_bytes())
    assert dict(module.versions or ()) == {"module_layout": 0x1111, "other_add": 0x77, "other_sub": 0x88}


@pytest.mark.parametrize(("words", "said"), [
    (["missing.o"], "missing.o cannot be read"),
    (["x.o", "-o", "x.o"], "would replace"),
    (["x.o", "-o", "./x.o"], "would replace x.o"),
    (["x.o", "--with", "other.ko", "-o", "./other.ko"], "would replace other.ko"),
    (["x.o", "-o", "a,b.ko"], "of letters, digits"),
    (["x.o", "-o", "ä.ko"], "of letters, digits"),
    (["x.o", "-o", "x"], "a module's file is called NAME.ko"),
    (["x.o", "--kernel", "9.9"], "no kernel 9.9 below"),
    (["x.o", "--with", "x.txt"], "neither a module nor a Module.symvers"),
    (["x.o", "--with", "nowhere.ko"], "nowhere.ko cannot be read"),
    (["x.o", "--symvers", "x.txt"], "no Module.symvers that can be read"),
])  # fmt: skip
def test_wrong_usage_is_2(
    words: list[str],
    said: str,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tree)
    (tree / "x.o").write_bytes(make_object())
    (tree / "x.txt").write_text("no such thing\n")
    (tree / "other.ko").write_bytes(make_module("other"))
    code, _, err = lkm(capsys, *words, "--tree", tree)
    assert (code, said in err) == (2, True), err


def test_what_cannot_be_written_is_told(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "x.o").write_bytes(make_object())
    code, _, err = lkm(capsys, tree / "x.o", "--tree", tree, "-o", tree / "nowhere/x.ko")
    assert code == 1
    assert "cannot be written: No such file or directory" in err


def test_somebody_elses_file_in_the_way_stays(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "x.o").write_bytes(make_object())
    other = tree / f"x.ko.{os.getpid()}.new"
    other.write_text("not ours")
    code, _, err = lkm(capsys, tree / "x.o", "--tree", tree)
    assert (code, f"remove {other}" in err, other.read_text()) == (1, True, "not ours")


def test_a_kernel_without_modules_or_exports_is_told(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "x.o").write_bytes(make_object())
    (tree / "lib/modules" / RELEASE / "build/Module.symvers").unlink()
    code, _, err = lkm(capsys, tree / "x.o", "--tree", tree)
    assert (code, f"what {RELEASE} exports is not known" in err) == (1, True), err
    (tree / "lib/modules" / RELEASE / "kernel/sibling.ko").unlink()
    code, _, err = lkm(capsys, tree / "x.o", "--tree", tree)
    assert (code, f"no module of {RELEASE} to go by" in err) == (1, True), err


def test_crcs_are_where_kbuild_leaves_them(tmp_path: Path) -> None:
    """Of the object, and of those that it was linked of, also where the build was moved away."""
    (tmp_path / ".a.o.cmd").write_bytes(
        b"cmd := x\n\n#SYMVER one 0x00000011\n#SYMVER two 34\n#SYMVER bad 0xzz\n"
    )
    (tmp_path / ".b.o.cmd").write_bytes(b"x\n#SYMVER three 0x33\n")
    (tmp_path / "all.mod").write_text("/moved/away/a.o\nb.o\n")
    assert read_crcs(str(tmp_path / "all.o")) == {"one": 0x11, "two": 34, "three": 0x33}
    assert read_crcs(str(tmp_path / "b.o")) == {"three": 0x33}
    assert read_crcs(str(tmp_path / "none")) == {}
    assert parse_symvers_comments(b"\xff\0#SYMVER x 1\n") == {}
