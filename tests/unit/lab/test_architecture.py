# SPDX-License-Identifier: MIT
"""What differs between a guest of this architecture and one of another."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lkm.errors import LabError
from lkm.lab import boot
from lkm.lab.architecture import find_architecture
from lkm.lab.cache import silent
from lkm.lab.foreign import add_foreign_programs
from lkm.lab.kernels import Kernel
from lkm.lab.machine import Hardware
from lkm.lab.series import SERIES

AMD64, ARM64 = find_architecture("amd64"), find_architecture("arm64")


def _option(hardware: Hardware, name: str) -> str:
    arguments = hardware.arguments()
    return arguments[arguments.index(name) + 1]


def test_each_architecture_has_its_board_processor_and_console() -> None:
    one, other = (
        Hardware(AMD64, "vmlinuz", "initrd", "modules"),
        Hardware(ARM64, "vmlinuz", "initrd", "modules"),
    )
    assert _option(one, "-machine").startswith("q35,")
    assert _option(other, "-machine").startswith("virt,")
    assert (_option(one, "-cpu"), _option(other, "-cpu")) == ("max,-cx16", "cortex-a57")
    assert _option(one, "-append").startswith("console=ttyS0 ")
    assert _option(other, "-append").startswith("console=ttyAMA0 ")


def test_the_processor_can_be_chosen() -> None:
    hardware = Hardware(ARM64, "vmlinuz", "initrd", "modules", cpu="max,pauth-impdef=on")
    assert _option(hardware, "-cpu") == "max,pauth-impdef=on"
    assert _option(replace(hardware, accelerator="kvm", cpu=""), "-cpu") == "host"


def test_the_environment_names_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_initrd", lambda *_: "initrd")
    series = next(row for row in SERIES if row.architecture == "arm64")
    kernel = Kernel(series, "6.1.0-1-cloud-arm64", "6.1-1", str(tmp_path))
    assert boot.describe_hardware(kernel, memory=512, progress=silent).cpu == ""
    monkeypatch.setenv("LKM_LAB_CPU", "max")
    assert boot.describe_hardware(kernel, memory=512, progress=silent).cpu == "max"
    assert boot.describe_hardware(kernel, memory=512, cpu="cortex-a72", progress=silent).cpu == "cortex-a72"


def test_another_architecture_is_always_emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = AMD64 if os.uname().machine == ARM64.machine else ARM64
    monkeypatch.setenv("LKM_LAB_ACCELERATOR", "kvm")
    hardware = Hardware(foreign, "vmlinuz", "initrd", "modules")
    assert boot._accelerator(hardware, silent) == "tcg"


def test_an_architecture_that_the_lab_does_not_have() -> None:
    with pytest.raises(LabError, match="no guests of the architecture m68k"):
        find_architecture("m68k")


def _package(tree: Path, files: dict[str, str]) -> str:
    """A Debian package with `files`."""
    control = "Package: x\nVersion: 1\nArchitecture: arm64\nMaintainer: x\nDescription: x\n"
    for name, text in {**files, "DEBIAN/control": control}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    subprocess.run(["dpkg-deb", "-b", str(tree), f"{tree}.deb"], check=True, capture_output=True)
    return f"{tree}.deb"


def test_packages_are_unpacked_into_a_root_with_merged_usr(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    (stage / "usr/bin").mkdir(parents=True)
    (stage / "bin").symlink_to("usr/bin")
    files = {
        "bin/dash": "shell",
        "lib/ld.so": "loader",
        "usr/bin/python3.11": "interpreter",
        "usr/lib/python3.11/json.py": "x = 1\n",
        "usr/lib/python3.11/test/big.py": "",
        "usr/share/doc/x/copyright": "",
        "etc/config": "",
    }
    add_foreign_programs(str(stage), [_package(tmp_path / "x", files)])
    assert (stage / "bin/dash").read_text() == "shell"
    assert (stage / "usr/lib/ld.so").read_text() == "loader"
    assert os.readlink(stage / "usr/bin/sh") == "dash"
    assert (stage / "usr/bin/python3").read_text() == "interpreter"
    assert (stage / "usr/lib/python3.11/json.py").exists()
    left_out = ("usr/lib/python3.11/test", "usr/share", "etc")
    assert not any((stage / name).exists() for name in left_out)
