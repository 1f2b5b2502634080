# SPDX-License-Identifier: MIT
"""`lkm check` and `lkm info` on a tree that is made up: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.formats.elf import SHF_ALLOC
from lkm.formats.elfwriter import NewSection, NewSymbol
from tests.unit.preflight.world import CRCS, module

RELEASE = "6.1.0-1-amd64"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one sound module to go by, a configuration and the kernel's exports."""
    base = tmp_path / "lib/modules" / RELEASE
    (base / "kernel").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"config-{RELEASE}").write_text("CONFIG_MODVERSIONS=y\nCONFIG_MODULE_SIG=y\n")
    (base / "kernel/sound.ko").write_bytes(module(info={"intree": "Y"}, exit_function=True))
    (base / "modules.dep").write_text("kernel/sound.ko:\n")
    (base / "build").mkdir()
    rows = [f"{crc:#010x}\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n" for name, crc in CRCS.items()]
    (base / "build/Module.symvers").write_text("".join(rows))
    return tmp_path


def check(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = run(["check", *argv])
    return code, capsys.readouterr().out


def test_a_tree_against_itself(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = check(capsys, "--tree", str(tree), "--all")
    assert (code, text) == (0, f"1 modules, 0 would not load into {RELEASE}\n")


def test_a_file_that_would_not_load(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.ko"
    path.write_bytes(module("other", crcs={**CRCS, "module_layout": 5}, imports=("printk", "nobody")))
    code, text = check(capsys, "--tree", str(tree), str(path))
    assert code == 1
    assert text.splitlines()[:2] == [
        f"other: would not load into {RELEASE}: ENOEXEC (Exec format error)",
        "  the kernel would say: other: disagrees about version of symbol module_layout",
    ]
    assert "nobody exports nobody" in text


def test_json_has_every_cause(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.ko"
    path.write_bytes(module("other", imports=("printk", "nobody"), info={"license": "Proprietary"}))
    code, text = check(capsys, "--tree", str(tree), "--kernel", "6.1", "--json", str(path), "sound")
    answer = json.loads(text)
    assert code == 1
    assert next(iter(answer)) == "schema"
    other, sound = answer["modules"]
    assert [other["loads"], other["errno"], sound["loads"]] == [False, 2, True]
    assert [p["cause"] for p in other["problems"] if p["errno"]] == ["gpl-only", "symbol-missing"]


@pytest.mark.parametrize("argv", [[], ["--all", "x"], ["--kernel", "9.9", "--all"], ["no_such_module"]])
def test_wrong_usage(tree: Path, argv: list[str]) -> None:
    assert run(["check", "--tree", str(tree), *argv]) == 2


def test_info_has_versions_and_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sound.ko"
    path.write_bytes(module())
    assert run(["info", str(path)]) == 0
    assert "vermagic:      6.1.0-1-amd64 SMP preempt mod_unload modversions" in capsys.readouterr().out
    assert run(["info", "--versions", str(path)]) == 0
    assert capsys.readouterr().out == "0x11111111 module_layout\n0x22222222 printk\n"
    assert run(["info", "--section", ".text", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(" 0000 f30f1efa c3000000 ")
    assert run(["info", "--section", ".nothing", str(path)]) == 2
    capsys.readouterr()
    assert run(["info", "--json", str(path)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["modules"]
    assert found["versions"] == {"module_layout": 0x11111111, "printk": 0x22222222}
    assert found["signature"] is None


def test_what_a_module_needs_is_listed_in_the_order_to_load(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`user` takes a symbol from `provider`, which needs `base`."""
    base = tree / "lib/modules" / RELEASE
    table = NewSection("__ksymtab", bytes(12), flags=SHF_ALLOC)
    crcs = NewSection("__kcrctab", bytes(4), flags=SHF_ALLOC)
    exports = (NewSymbol("__ksymtab_of_module", "__ksymtab"), NewSymbol("__crc_of_module", "__kcrctab"))
    for name in ("base", "provider"):
        (base / f"kernel/{name}.ko").write_bytes(module(name, extra=(table, crcs), symbols=exports))
    (base / "modules.dep").write_text(
        "kernel/sound.ko:\nkernel/base.ko:\nkernel/provider.ko: kernel/base.ko\n", encoding="utf-8"
    )
    (base / "modules.symbols").write_text("alias symbol:of_module provider\n", encoding="utf-8")
    path = tmp_path / "user.ko"
    path.write_bytes(module("user", imports=("of_module",), crcs={**CRCS, "of_module": 0}))
    code, text = check(capsys, "--tree", str(tree), str(path))
    assert code == 0
    assert text.splitlines()[-2:] == ["  needs base", "  needs provider, which has of_module"]
