# SPDX-License-Identifier: MIT
"""`lkm check` on whole trees: no false alarm on its own modules, and those of a neighbour as the kernel has it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.formats.compression import decompress
from lkm.lab.kernels import get_kernel
from lkm.lab.process import find_tool
from lkm.lab.vm import Guest
from lkm.names import module_name_from_path
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Providers
from lkm.preflight.read import read_target
from lkm.root import Root
from tests.mutants.draw import Mutant
from tests.mutants.lab import as_root, difference, load_all, look, write_share

SEED = 20260101
SAMPLE = 200

NEIGHBOURS = {"5.10": "6.1", "6.1": "6.12", "6.12": "6.16", "7.3": "7.2"}
amd64 = pytest.mark.parametrize("kernel", list(NEIGHBOURS), indirect=True)


def unpack_tree(kernel: str, top: Path) -> Root:
    """The kernel's modules, image and configuration below `top`, as they lie on an installed machine."""
    image = get_kernel(kernel, progress=print)
    (top / "boot").mkdir(parents=True)
    subprocess.run(
        [find_tool("debugfs"), "-R", f"rdump /lib {top}", image.file("modules.img")],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in ("vmlinuz", "config"):
        (top / "boot" / f"{name}-{image.release}").symlink_to(image.file(name))
    return Root(str(top), image.release)


def module_files(root: Root) -> list[str]:
    return sorted(
        os.path.join(directory, name)
        for directory, _, names in os.walk(root.modules_dir)
        for name in names
        if ".ko" in name
    )


@amd64
def test_no_false_alarm_on_a_kernels_own_modules(
    kernel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unpack_tree(kernel, tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    capsys.readouterr()
    code = run(["check", "--tree", str(tmp_path), "--all", "--json"])
    answer = json.loads(capsys.readouterr().out)
    wrong = [found for found in answer["modules"] if found["loads"] is not True]
    assert (code, wrong) == (0, [])
    assert len(answer["modules"]) == len(module_files(root)) > 500


@amd64
def test_modules_of_a_neighbour_fare_as_foretold(kernel: str, tmp_path: Path) -> None:
    """200 modules of another kernel, drawn by a seed, each loaded into this one."""
    own = unpack_tree(kernel, tmp_path / "own")
    files = module_files(unpack_tree(NEIGHBOURS[kernel], tmp_path / "neighbour"))
    share = tmp_path / "share"
    share.mkdir()
    mutants = []
    for path in random.Random(SEED).sample(files, SAMPLE):
        data = decompress(Path(path).read_bytes(), name=path)
        mutants.append(Mutant(str(module_name_from_path(path)), data))
    write_share(str(share), mutants, {})
    target = read_target(own, live=False, providers=Providers.LOADED)
    with Guest.clone(kernel, share=str(share)) as guest:
        loaded, names = look(guest)
        target = target._replace(policy=as_root(), loaded=loaded, sysfs_names=names)
        told = load_all(guest, mutants)
    wrong = {
        mutant.id: found for mutant in mutants
        if (found := difference(check_module(mutant.data, target), told[mutant.id]))
    }  # fmt: skip
    assert not wrong
