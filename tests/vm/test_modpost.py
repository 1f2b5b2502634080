# SPDX-License-Identifier: MIT
"""`lkm modpost` against kbuild: of the same objects the same modules, and they load and unload."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.lab.build import build_modules
from lkm.lab.kernels import get_kernel
from lkm.lab.process import find_tool
from lkm.lab.vm import Guest
from lkm.root import Root
from tests.same_module import differences

SOURCES = Path(__file__).parents[1] / "objects"
STANDS_ON = ("obj_export", "obj_library")
"""What obj_import needs, beside a module of the kernel's own."""

ORDER = (
    *STANDS_ON, "obj_import", "obj_params", "obj_percpu", "obj_weak", "obj_parts", "obj-dash", "obj_devices",
    "obj_initonly",
)  # fmt: skip
INDEXES = (
    "modules.dep",
    "modules.dep.bin",
    "modules.symbols.bin",
    "modules.alias.bin",
    "modules.builtin.bin",
)

LOAD = """
modprobe cordic || exit 1
for name; do insmod /share/$name.ko || exit 2; done
cat /proc/modules
"""
UNLOAD = "for name; do rmmod $name || exit 3; done"


def small_tree(kernel: str, top: Path) -> Root:
    """What `lkm modpost` goes by: the kernel's image, configuration, the indexes of its tree, and a few modules."""
    image = get_kernel(kernel, progress=print)
    inside = f"/lib/modules/{image.release}"
    modules = top / inside[1:]
    (modules / "kernel").mkdir(parents=True)
    (top / "boot").mkdir()
    commands = [f"rdump {inside}/kernel/lib {modules}/kernel"]
    commands += [f"dump {inside}/{name} {modules}/{name}" for name in INDEXES]
    subprocess.run(
        [find_tool("debugfs"), "-f", "-", image.file("modules.img")],
        input="\n".join(commands), text=True, check=True, capture_output=True,
    )  # fmt: skip
    for name in ("vmlinuz", "config"):
        (top / "boot" / f"{name}-{image.release}").symlink_to(image.file(name))
    return Root(str(top), image.release)


@pytest.fixture
def built(kernel: str, tmp_path: Path) -> Path:
    """kbuild's modules, and the objects that they were made of."""
    build_modules(str(SOURCES), kernel, str(tmp_path / "kbuild"), objects=True)
    return tmp_path / "kbuild"


def made(name: str, built: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> bytes:
    """The module that the command line makes."""
    target = tree.parent / "made" / f"{name}.ko"
    target.parent.mkdir(exist_ok=True)
    others = [f"--with={target.parent / other}.ko" for other in STANDS_ON if name == "obj_import"]
    capsys.readouterr()
    code = run(
        ["modpost", str(built / f"{name}.o"), "-o", str(target), "--tree", str(tree), "--json", *others]
    )
    answer = json.loads(capsys.readouterr().out)
    wanted = [*STANDS_ON, "cordic"] if name == "obj_import" else []
    assert (code, sorted(answer["depends"])) == (0, sorted(wanted))
    assert {problem["kind"] for problem in answer["problems"]} <= {"no-srcversion"}
    return target.read_bytes()


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "7.3", "6.1-arm64", "7.3-arm64"], indirect=True)
def test_modules_are_as_kbuild_makes_them_and_load(
    kernel: str,
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(tmp_path / "cache"))
    small_tree(kernel, tmp_path / "tree")
    assert {path.stem for path in built.glob("*.ko")} == set(ORDER)
    wrong = {}
    for name in ORDER:
        image = made(name, built, tmp_path / "tree", capsys)
        wrong[name] = differences(image, (built / f"{name}.ko").read_bytes())
    assert not any(wrong.values()), wrong
    with Guest.clone(kernel, share=str(tmp_path / "made")) as guest:
        done = guest.run(["sh", "-c", LOAD, "sh", *ORDER], timeout=120)
        assert done.returncode == 0, done.stderr.decode() + guest.console()[-3000:]
        loaded = {line.split()[0]: line.split() for line in done.stdout.decode().splitlines()}
        assert {name.replace("-", "_") for name in ORDER} <= set(loaded)
        assert set(loaded["obj_import"][3].strip(",").split(",")) == {"-"}
        assert loaded["obj_export"][3] == "obj_import,"
        done = guest.run(["sh", "-c", UNLOAD, "sh", *reversed(ORDER[:-1])], timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        assert guest.run(["rmmod", "-f", ORDER[-1]], timeout=60).returncode == 0
        messages = guest.run(["dmesg"], timeout=60).stdout.decode()
    assert "obj_import: 8 2 14 14" in messages
    assert "obj_weak: 0 0 1" in messages
    assert not any(word in messages for word in ("WARNING:", "BUG:", "Oops", "disagrees", "Unknown symbol"))
