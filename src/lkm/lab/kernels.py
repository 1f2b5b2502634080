# SPDX-License-Identifier: MIT
"""Kernels of the lab: the table of series, and images fetched from the archive into the cache.

A series is pinned to the version that was fetched first; `fetch` moves the pin to the newest.
An image is a directory: `vmlinuz`, `config`, `System.map`, `modules.img` (ext4, read-only), `drivers.cpio`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from lkm.errors import LabError, UsageError
from lkm.lab.archive import Archive, Package, newest, open_archive
from lkm.lab.cache import Progress, cache_dir, check, locked, publish, read_manifest, sha256_file
from lkm.lab.image import unpack_image

__all__ = [
    "SERIES",
    "Kernel",
    "Series",
    "cached_kernels",
    "fetch_kernel",
    "find_series",
    "get_kernel",
    "remove_kernel",
]


@dataclass(frozen=True)
class Series:
    """A row of the table: where the kernels of a series are and what their packages are called."""

    name: str
    suite: str
    architecture: str
    flavour: str
    package: str
    """Regular expression (POSIX extended, anchored) of the image packages, linux-image-RELEASE."""
    compiler: str
    """The compiler that built it: modules must be built with the same major version."""

    def is_release(self, release: str) -> bool:
        """Whether `uname -r` says `release` on a kernel of this series."""
        return re.search(self.package, f"linux-image-{release}") is not None


SERIES = (
    Series("5.10", "bullseye", "amd64", "cloud", r"^linux-image-5\.10\.0-[0-9]+-cloud-amd64$", "gcc-12"),
    Series("6.1", "bookworm", "amd64", "cloud", r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64$", "gcc-12"),
)


@dataclass(frozen=True)
class Kernel:
    """A kernel image in the cache, whole and verified."""

    series: Series
    release: str
    version: str
    path: str

    def file(self, name: str) -> str:
        """The path of one file of the image."""
        return os.path.join(self.path, name)


def find_series(name: str) -> Series:
    """The series called `name`, or the one that the release `name` belongs to; else UsageError."""
    for series in SERIES:
        if name == series.name or series.is_release(name):
            return series
    known = ", ".join(series.name for series in SERIES)
    raise UsageError(
        f"the lab has no kernel {name!r}", remedy=f"series are {known}; or give an exact uname -r of one"
    )


def cached_kernels() -> list[Kernel]:
    """The kernels in the cache, damaged ones left out."""
    top = cache_dir("kernels")
    found = (_cached(name) for name in sorted(os.listdir(top)) if not name.startswith("."))
    return [kernel for kernel, _ in found if kernel is not None]


def get_kernel(name: str, *, progress: Progress) -> Kernel:
    """The kernel that `name` (series or exact release) stands for, from the cache if it is there and whole.

    Raises UsageError for an unknown name, LabError when neither the cache nor the archive has it.
    """
    series = find_series(name)
    release = pinned_release(series) if name == series.name else name
    if release:
        kernel, damage = _cached(release)
        if kernel is not None:
            return kernel
        if damage:
            progress(f"the cached kernel {release} is damaged ({damage}): making it anew")
    return _obtain(series, release, exact=name != series.name, progress=progress)


def fetch_kernel(name: str, *, progress: Progress) -> Kernel:
    """As `get_kernel`, but a series is moved to the newest version that the archive has."""
    series = find_series(name)
    if name != series.name:
        return get_kernel(name, progress=progress)
    return _obtain(series, "", exact=False, progress=progress)


def remove_kernel(name: str) -> list[str]:
    """Delete the cached images (and packages) of a series or of one release; returns the releases removed."""
    series = find_series(name)
    removed = []
    with locked("kernels"):
        for release in sorted(os.listdir(cache_dir("kernels"))):
            if (
                release.startswith(".")
                or not series.is_release(release)
                or name not in (series.name, release)
            ):
                continue
            shutil.rmtree(os.path.join(cache_dir("kernels"), release), ignore_errors=True)
            shutil.rmtree(os.path.join(cache_dir("headers"), release), ignore_errors=True)
            removed.append(release)
        for deb in os.listdir(cache_dir("debs")):
            if any(f"-{release}_" in deb for release in removed):
                os.unlink(os.path.join(cache_dir("debs"), deb))
        if pinned_release(series) in removed:
            os.unlink(_pin_path(series))
    return removed


def pinned_release(series: Series) -> str:
    """The release that stands for the series in this cache; empty if none has been fetched."""
    try:
        with open(_pin_path(series), encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _pin_path(series: Series) -> str:
    return os.path.join(cache_dir("pins"), f"{series.name}-{series.flavour}-{series.architecture}")


def _cached(release: str) -> tuple[Kernel | None, str]:
    """The image of `release` if it is whole; else what is wrong with it (empty: there is none)."""
    path = os.path.join(cache_dir("kernels"), release)
    manifest, damage = check(path)
    if manifest is None:
        return None, damage
    return Kernel(find_series(release), release, manifest.facts["version"], path), ""


def _obtain(series: Series, release: str, *, exact: bool, progress: Progress) -> Kernel:
    """Make the image of `release` (empty: the newest), under a lock so that one process does it for all."""
    with locked("kernels"):
        wanted = release or pinned_release(series)
        if wanted and (exact or release):
            kernel, _ = _cached(wanted)
            if kernel is not None:
                return kernel
        deb, package = _local_deb(release) if release else ("", None)
        if package is None:
            archive = open_archive([series.suite], series.architecture, progress=progress)
            package = _choose(archive, series, release, exact=exact, progress=progress)
            kernel, _ = _cached(package.name[len("linux-image-") :])
            if kernel is not None:
                _pin(kernel)
                return kernel
            try:
                deb = archive.fetch(package)
            except LabError:  # the archive may have moved on since its lists were read
                archive.refresh()
                package = _choose(archive, series, release, exact=exact, progress=progress)
                deb = archive.fetch(package)
        chosen = package.name[len("linux-image-") :]
        destination = os.path.join(cache_dir("kernels"), chosen)
        progress(f"unpacking {package.name}")
        with publish(destination) as scratch:
            facts = {"package": package.name, "version": package.version, "sha256": package.sha256}
            unpack_image(deb, chosen, scratch, facts)
        kernel = Kernel(series, chosen, package.version, destination)
        if not exact or not pinned_release(series):
            _pin(kernel)
        return kernel


def _pin(kernel: Kernel) -> None:
    path = _pin_path(kernel.series)
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(kernel.release)
    os.replace(f"{path}.new", path)


def _local_deb(release: str) -> tuple[str, Package | None]:
    """The package that a damaged image was made from, if it is still in the cache and whole."""
    manifest = read_manifest(os.path.join(cache_dir("kernels"), release))
    if manifest is None:
        return "", None
    facts = manifest.facts
    deb = Archive.deb_path(facts["package"], facts["version"])
    if not os.path.exists(deb) or sha256_file(deb) != facts["sha256"]:
        return "", None
    return deb, Package(facts["package"], facts["version"], facts["sha256"], os.stat(deb).st_size)


def _choose(archive: Archive, series: Series, release: str, *, exact: bool, progress: Progress) -> Package:
    packages = archive.packages(series.package)
    if release:
        match = newest(package for package in packages if package.name == f"linux-image-{release}")
        if match is not None:
            return match
        if exact:
            raise LabError(
                f"the archive no longer has {release}",
                remedy=f"take the newest of the series: --kernel {series.name}",
            )
        progress(f"the archive no longer has {release}: taking the newest of {series.name}")
    best = newest(packages)
    if best is None:
        raise LabError(
            f"the archive has no kernel of the series {series.name}", remedy="try another --mirror"
        )
    return best
