# SPDX-License-Identifier: MIT
"""Series, and the archive seen through apt: a mirror in a directory, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lkm.errors import LabError, UsageError
from lkm.lab import kernels
from lkm.lab.archive import Archive, Package, newest
from lkm.lab.cache import silent
from lkm.lab.series import SERIES, Series, find_series
from tests.builders import make_module
from tests.unit.lab.mirror import LocalMirror


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mirror(tmp_path: Path) -> LocalMirror:
    """A mirror with two versions of one package."""
    mirror = LocalMirror(tmp_path / "mirror")
    for version in ("6.1.9-1", "6.1.10-1"):
        mirror.add("bookworm", "linux-image-x", {}, version=version, depends="kmod, linux-base (>= 4.3~)")
    return mirror


def _archive(mirror: LocalMirror, said: list[str]) -> Archive:
    return mirror.open(["bookworm"], "amd64", progress=said.append)


def test_the_newest_package_is_fetched_once_and_verified(mirror: LocalMirror) -> None:
    said: list[str] = []
    archive = _archive(mirror, said)
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    assert (best.version, best.depends) == ("6.1.10-1", ("kmod", "linux-base"))
    path = archive.fetch(best)
    assert Path(path).read_bytes() == (mirror.top / "linux-image-x_6.1.10-1.deb").read_bytes()
    before = list(said)
    assert archive.fetch(best) == path
    assert said == before


def test_a_cached_package_that_was_cut_short_is_fetched_again(mirror: LocalMirror) -> None:
    archive = _archive(mirror, [])
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    path = archive.fetch(best)
    os.truncate(path, 10)
    archive.fetch(best)
    assert Path(path).stat().st_size == best.size


def test_a_package_that_is_not_what_the_index_says_is_refused(mirror: LocalMirror) -> None:
    archive = _archive(mirror, [])
    best = newest(archive.packages("^linux-image-x$"))
    assert best is not None
    deb = mirror.top / "linux-image-x_6.1.10-1.deb"
    deb.write_bytes(b"evil" + deb.read_bytes()[4:])
    with pytest.raises(LabError):
        archive.fetch(best)


def test_the_upstream_tarball_of_a_source_package_is_fetched_once_and_verified(mirror: LocalMirror) -> None:
    mirror.add_source("trixie", "tool", b"upstream")
    said: list[str] = []
    archive = mirror.open(["trixie"], "amd64", progress=said.append, sources=True)
    path = archive.fetch_upstream("tool")
    assert path.endswith("/tool_1.orig.tar.xz")
    assert Path(path).read_bytes() == b"upstream"
    said.clear()
    assert archive.fetch_upstream("tool") == path
    assert said == []
    Path(path).write_bytes(b"upstreax")  # what is damaged in the cache is fetched again, and verified again
    (mirror.top / "tool_1.orig.tar.xz").write_bytes(b"upstreaM")
    with pytest.raises(LabError, match="apt-get failed"):
        archive.fetch_upstream("tool")


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


RELEASES = {
    "5.10": "5.10.0-46-cloud-amd64",
    "6.1": "6.1.0-56-cloud-amd64",
    "6.1-generic": "6.1.0-56-amd64",
    "6.1-rt": "6.1.0-56-rt-amd64",
    "6.12": "6.12.115+deb13.1-cloud-amd64",
    "6.16": "6.16.12+deb13-cloud-amd64",
    "6.17": "6.17.13+deb13-cloud-amd64",
    "6.18": "6.18.15+deb13-cloud-amd64",
    "7.2": "7.2.12+deb13-cloud-amd64",
    "7.3": "7.3.4+deb13-cloud-amd64",
    "6.1-arm64": "6.1.0-56-cloud-arm64",
    "6.12-arm64": "6.12.117+deb13-cloud-arm64",
    "7.3-arm64": "7.3.4+deb13-cloud-arm64",
}


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_a_kernel_is_named_by_series_or_release(series: Series) -> None:
    release = RELEASES[series.name]
    assert find_series(series.name) == find_series(release) == series
    assert release.endswith(f"-{series.architecture}")
    assert [row.name for row in SERIES if row.is_release(release)] == [series.name]
    # apt knows POSIX expressions only
    subprocess.run(["grep", "-Exq", series.pattern], check=True, input=release, text=True)


def test_a_build_for_another_debian_belongs_to_its_series() -> None:
    assert find_series("6.12.95+deb12-cloud-amd64").name == "6.12"


@pytest.mark.parametrize(
    "name",
    ["6.2", "6.1.0-56-cloud-i386", "6.1.0-0.deb11.5-cloud-amd64", "7.3.4+deb13-amd64", "7.0", "", "6.1 "],
)
def test_other_names_are_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=r"6\.1"):
        find_series(name)


def test_nothing_is_cached_at_first_and_removing_nothing_is_no_error() -> None:
    assert kernels.cached_kernels() == []
    assert kernels.remove_kernel("6.1") == []


def _image_files(release: str) -> dict[str, bytes]:
    files = {
        f"usr/lib/modules/{release}/{name}": name.encode() for name in ("vmlinuz", "config", "System.map")
    }
    return {**files, f"usr/lib/modules/{release}/kernel/x.ko": make_module("x")}


def test_the_parts_of_a_split_image_are_fetched_and_it_is_made_anew_from_them(
    mirror: LocalMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "open_archive", mirror.open)
    release = "7.3.4+deb13-cloud-amd64"
    files = _image_files(release)
    parts = {"binary": "vmlinuz", "base": "config System.map", "modules": "x.ko"}
    for part, names in parts.items():
        held = {path: data for path, data in files.items() if path.rpartition("/")[2] in names.split()}
        mirror.add("trixie-backports", f"linux-{part}-{release}", held)
    depends = ", ".join(f"linux-{part}-{release} (= 1)" for part in parts)
    mirror.add("trixie-backports", f"linux-image-{release}", {}, depends=f"dracut, {depends}")
    kernel = kernels.get_kernel("7.3", progress=silent)
    assert (kernel.release, kernel.version) == (release, "1")
    assert Path(kernel.file("vmlinuz")).read_bytes() == b"vmlinuz"
    os.truncate(kernel.file("modules.img"), 10)
    shutil.rmtree(mirror.top)
    again = kernels.get_kernel("7.3", progress=silent)
    assert again == kernel
    assert Path(kernel.file("modules.img")).stat().st_size > 10
    assert kernels.cached_kernels() == [kernel]
    assert kernels.remove_kernel("7.3") == [release]


def test_the_newest_of_a_series_is_of_its_first_suite_and_any_build_can_be_named(
    mirror: LocalMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "open_archive", mirror.open)
    old, new = "6.12.117+deb13-cloud-amd64", "6.12.118+deb12-cloud-amd64"
    mirror.add("trixie", f"linux-image-{old}", _image_files(old))
    mirror.add("bookworm", f"linux-image-{new}", _image_files(new), version="2")
    assert kernels.get_kernel("6.12", progress=silent).release == old
    assert kernels.get_kernel(new, progress=silent).release == new


def test_a_kernel_of_which_the_archive_has_dropped_the_modules_is_refused(
    mirror: LocalMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "open_archive", mirror.open)
    release = "7.2.1+deb13-cloud-amd64"
    mirror.add("trixie-backports", f"linux-image-{release}", {}, depends=f"linux-modules-{release} (= 1)")
    with pytest.raises(LabError, match="lib/modules"):
        kernels.get_kernel("7.2", progress=silent)
