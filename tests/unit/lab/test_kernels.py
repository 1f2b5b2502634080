# SPDX-License-Identifier: MIT
"""Series, and the archive seen through apt: a mirror in a directory, without a network."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from lkm.errors import LabError, UsageError
from lkm.lab import kernels
from lkm.lab.archive import Archive, Package, newest
from lkm.lab.cache import silent
from lkm.lab.series import find_series
from lkm.lab.sources import Mirror


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with two versions of one package, of which nothing is signed."""
    top = tmp_path / "mirror"
    index = top / "dists/bookworm/main/binary-amd64"
    index.mkdir(parents=True)
    stanzas = []
    for version in ("6.1.9-1", "6.1.10-1"):
        tree = tmp_path / version
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: linux-image-x\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\n"
        control += "Depends: kmod, linux-base (>= 4.3~)\nDescription: x\n"
        (tree / "DEBIAN/control").write_text(control)
        deb = top / f"x_{version}.deb"
        subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        stanzas.append(f"{control}Filename: {deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    packages = "\n".join(stanzas).encode()
    (index / "Packages").write_bytes(packages)
    digest = hashlib.sha256(packages).hexdigest()
    (top / "dists/bookworm/Release").write_text(
        "Suite: bookworm\nCodename: bookworm\nComponents: main\nArchitectures: amd64\n"
        f"SHA256:\n {digest} {len(packages)} main/binary-amd64/Packages\n"
    )
    return top


def _archive(mirror: Path, said: list[str]) -> Archive:
    where = Mirror(f"file://{mirror}", f"file://{mirror}-security", trusted=True)
    return Archive(where, ["bookworm"], "amd64", said.append)


def test_the_newest_package_is_fetched_once_and_verified(mirror: Path) -> None:
    said: list[str] = []
    archive = _archive(mirror, said)
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    assert (best.version, best.depends) == ("6.1.10-1", ("kmod", "linux-base"))
    path = archive.fetch(best)
    assert Path(path).read_bytes() == (mirror / "x_6.1.10-1.deb").read_bytes()
    before = list(said)
    assert archive.fetch(best) == path
    assert said == before


def test_a_cached_package_that_was_cut_short_is_fetched_again(mirror: Path) -> None:
    archive = _archive(mirror, [])
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    path = archive.fetch(best)
    os.truncate(path, 10)
    archive.fetch(best)
    assert Path(path).stat().st_size == best.size


def test_a_package_that_is_not_what_the_index_says_is_refused(mirror: Path) -> None:
    archive = _archive(mirror, [])
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    deb = mirror / "x_6.1.10-1.deb"
    deb.write_bytes(b"evil" + deb.read_bytes()[4:])
    with pytest.raises(LabError):
        archive.fetch(best)


def test_a_mirror_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_MIRROR", f"file://{tmp_path}/none")
    with pytest.raises(LabError, match="mirror") as caught:
        kernels.get_kernel("6.1", progress=silent)
    assert "\n" not in str(caught.value)


def test_versions_are_in_the_order_of_dpkg() -> None:
    packages = [Package("p", version, "", 0) for version in ("6.1.9-1", "6.1.10-1~bpo", "6.1.10-1")]
    best = newest(packages)
    assert best is not None
    assert best.version == "6.1.10-1"
    assert newest([]) is None


@pytest.mark.parametrize(
    ("name", "series"), [("6.1", "6.1"), ("6.1.0-56-cloud-amd64", "6.1"), ("5.10.0-46-cloud-amd64", "5.10")]
)
def test_a_kernel_is_named_by_series_or_release(name: str, series: str) -> None:
    assert find_series(name).name == series


@pytest.mark.parametrize("name", ["6.2", "6.1.0-56-amd64", "6.1.0-0.deb11.5-cloud-amd64", "", "6.1 "])
def test_other_names_are_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=r"6\.1"):
        find_series(name)


def test_nothing_is_cached_at_first_and_removing_nothing_is_no_error() -> None:
    assert kernels.cached_kernels() == []
    assert kernels.remove_kernel("6.1") == []
