# SPDX-License-Identifier: MIT
"""Image packages in the shapes that Debian has given them: one or three, modules compressed or not."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from lkm.errors import LabError
from lkm.lab.cache import read_manifest
from lkm.lab.image import unpack_image
from lkm.lab.process import find_tool
from tests.builders import make_module
from tests.unit.lab.mirror import make_deb

RELEASE = "7.3.4+deb13-cloud-amd64"
BOOT_FILES = ("vmlinuz", "config", "System.map")
BLK = make_module("virtio_blk", imports=["register_virtio_driver", "crc16"])
BUS = make_module("virtio", imports=["crc16"], exports={"register_virtio_driver": 1})
CRC = make_module("crc16", imports=[], exports={"crc16": 2})
NET = make_module("virtio_net", imports=["register_virtio_driver"])
DRIVERS = {"00-crc16.ko": CRC, "01-virtio.ko": BUS, "02-virtio-blk.ko": BLK}


def _deb(top: Path, name: str, files: dict[str, bytes]) -> str:
    return str(make_deb(top, name, files)[0])


def _unpack(top: Path, debs: list[str]) -> Path:
    image = top / "image"
    image.mkdir()
    unpack_image(debs, RELEASE, str(image), {"version": "1"})
    return image


def _listing(image: Path, directory: str) -> set[str]:
    """The names in a directory of an ext4 image."""
    argv = [find_tool("debugfs"), "-R", f"ls -p {directory}", str(image)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return {line.split("/")[5] for line in done.stdout.splitlines() if line.startswith("/")}


def _drivers(image: Path) -> dict[str, bytes]:
    archive = (image / "drivers.cpio").read_bytes()
    home = image / "drivers"
    home.mkdir()
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=home, check=True)
    return {path.name: path.read_bytes() for path in (home / "drivers").iterdir()}


def test_one_package_with_plain_modules(tmp_path: Path) -> None:
    files = {f"boot/{name}-{RELEASE}": name.encode() for name in BOOT_FILES}
    kernel = f"lib/modules/{RELEASE}/kernel"
    files[f"{kernel}/drivers/block/virtio-blk.ko"] = BLK
    files[f"{kernel}/drivers/virtio/virtio.ko"] = BUS
    files[f"{kernel}/lib/crc16.ko"] = CRC
    files["usr/share/doc/x/copyright"] = b"x"
    image = _unpack(tmp_path, [_deb(tmp_path, "linux-image", files)])
    assert all((image / name).read_bytes() == name.encode() for name in BOOT_FILES)
    assert _listing(image / "modules.img", "/boot") == {
        ".",
        "..",
        f"config-{RELEASE}",
        f"System.map-{RELEASE}",
    }
    assert "kernel" in _listing(image / "modules.img", f"/lib/modules/{RELEASE}")
    assert _drivers(image) == DRIVERS
    manifest = read_manifest(str(image))
    assert manifest is not None
    assert manifest.facts == {"version": "1"}


def test_three_packages_with_compressed_modules_and_the_kernel_beside_them(tmp_path: Path) -> None:
    modules = f"usr/lib/modules/{RELEASE}"
    debs = [
        _deb(tmp_path, "linux-image", {}),
        _deb(
            tmp_path, "linux-base", {f"{modules}/config": b"config", f"{modules}/System.map": b"System.map"}
        ),
        _deb(tmp_path, "linux-binary", {f"{modules}/vmlinuz": b"vmlinuz"}),
        _deb(
            tmp_path,
            "linux-modules",
            {
                f"{modules}/kernel/drivers/block/virtio-blk.ko.xz": lzma.compress(BLK),
                f"{modules}/kernel/drivers/virtio/virtio.ko.xz": lzma.compress(BUS),
                f"{modules}/kernel/lib/crc16.ko.xz": lzma.compress(CRC),
                f"{modules}/kernel/drivers/net/virtio_net.ko.xz": lzma.compress(NET),
            },
        ),
    ]
    image = _unpack(tmp_path, debs)
    assert all((image / name).read_bytes() == name.encode() for name in BOOT_FILES)
    assert _listing(image / "modules.img", "/boot") == {
        ".",
        "..",
        f"config-{RELEASE}",
        f"System.map-{RELEASE}",
    }
    inside = _listing(image / "modules.img", f"/lib/modules/{RELEASE}")
    assert {"kernel", "config", "System.map", "modules.dep"} <= inside
    assert "vmlinuz" not in inside
    assert _drivers(image) == DRIVERS


@pytest.mark.parametrize("missing", BOOT_FILES)
def test_packages_without_a_kernel_or_its_files_are_refused(tmp_path: Path, missing: str) -> None:
    files = {f"boot/{name}-{RELEASE}": b"x" for name in BOOT_FILES if name != missing}
    files[f"lib/modules/{RELEASE}/kernel/drivers/block/virtio_blk.ko"] = BLK
    with pytest.raises(LabError, match=missing):
        _unpack(tmp_path, [_deb(tmp_path, "linux-image", files)])


def test_packages_without_modules_are_refused(tmp_path: Path) -> None:
    files = {f"boot/{name}-{RELEASE}": b"x" for name in BOOT_FILES}
    with pytest.raises(LabError, match="lib/modules"):
        _unpack(tmp_path, [_deb(tmp_path, "linux-image", files)])
