# SPDX-License-Identifier: MIT
"""Each kernel of the lab's table boots, is cloned, has its module tree, and loads what was built for it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lkm.errors import UsageError
from lkm.lab.build import build_modules
from lkm.lab.cache import silent
from lkm.lab.kernels import get_kernel
from lkm.lab.series import SERIES, find_series
from lkm.lab.vm import Guest

FAULTS = Path(__file__).parents[2] / "src" / "lkm" / "lab" / "faults"

every_kernel = pytest.mark.parametrize("kernel", [series.name for series in SERIES])


def _run(guest: Guest, *argv: str) -> str:
    done = guest.run(argv, timeout=120)
    assert done.returncode == 0, done
    return done.stdout.decode()


@every_kernel
def test_a_clone_has_the_modules_of_its_kernel_and_lkm_sees_them(kernel: str) -> None:
    with Guest.clone(kernel) as guest:
        release = _run(guest, "uname", "-r").strip()
        assert release == guest.kernel.release
        assert find_series(release).name == kernel
        assert os.path.basename(guest.kernel.path) == release
        assert sorted(_run(guest, "ls", "/boot").split()) == [f"System.map-{release}", f"config-{release}"]
        _run(guest, "modprobe", "dummy")
        rows = json.loads(_run(guest, "lkm", "list", "--json"))["modules"]
        assert [row["state"] for row in rows if row["name"] == "dummy"] == ["live"]
        assert json.loads(_run(guest, "lkm", "why", "dummy", "--json"))["verdict"] == "removable"
        _run(guest, "rmmod", "dummy")


@every_kernel
def test_a_module_is_built_for_it_and_loads(kernel: str, tmp_path: Path) -> None:
    for name in ("decmod.c", "faults.h"):
        shutil.copy(FAULTS / name, tmp_path)
    if not find_series(kernel).headers:
        with pytest.raises(UsageError, match="headers"):
            build_modules(str(tmp_path), kernel)
        return
    (module,) = build_modules(str(tmp_path), kernel)
    with Guest.clone(kernel, share=os.path.dirname(module)) as guest:
        _run(guest, "insmod", "decmod.ko")
        assert "decmod: loaded" in _run(guest, "dmesg")
        _run(guest, "rmmod", "decmod")


@every_kernel
def test_it_boots_from_cold(kernel: str) -> None:
    with Guest.boot(kernel) as guest:
        assert _run(guest, "uname", "-r").strip() == get_kernel(kernel, progress=silent).release
