# SPDX-License-Identifier: MIT
"""Kernels of the lab: images fetched from the archive into the cache.

A series is pinned to the version that was fetched first; `fetch` moves the pin to the newest.
An image is a directory: `vmlinuz`, `config`, `System.map`, `modules.img` (ext4, read-only), `drivers.cpio`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass

from lkm.errors import LabError
from lkm.lab.archive import Archive, Package, newest, open_archive
from lkm.lab.cache import Progress, cache_dir, check, locked, publish, read_manifest, sha256_file
from lkm.lab.image import unpack_image
from lkm.lab.series import SERIES, Series, find_series

__all__ = ["Kernel", "cached_kernels", "fetch_kernel", "get_kernel", "pinned_release", "remove_kernel"]


IMAGE = "linux-image-"


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


def cached_kernels() -> list[Kernel]:
    """The kernels in the cache, damaged ones left out."""
    top = cache_dir("kernels")
    known = (name for name in sorted(os.listdir(top)) if any(series.is_release(name) for series in SERIES))
    return [kernel for kernel, _ in map(_cached, known) if kernel is not None]


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
    if "packages" not in manifest.facts:
        return None, "made by an older version"
    return Kernel(find_series(release), release, manifest.facts["version"], path), ""


def _obtain(series: Series, release: str, *, exact: bool, progress: Progress) -> Kernel:
    """Make the image of `release` (empty: the newest), under a lock so that one process does it for all."""
    with locked("kernels"):
        wanted = release or pinned_release(series)
        if wanted and (exact or release):
            kernel, _ = _cached(wanted)
            if kernel is not None:
                return kernel
        debs = _local_debs(series, release) if release else {}
        if not debs:
            image, archive = _choose(series, release, exact=exact, progress=progress)
            kernel, _ = _cached(image.name[len(IMAGE) :])
            if kernel is not None:
                _pin(kernel)
                return kernel
            try:
                debs = _fetch_image(archive, image)
            except LabError:  # the archive may have moved on since its lists were read
                archive.refresh()
                image, archive = _choose(series, release, exact=exact, progress=progress)
                debs = _fetch_image(archive, image)
        image = next(iter(debs))
        chosen = image.name[len(IMAGE) :]
        destination = os.path.join(cache_dir("kernels"), chosen)
        progress(f"unpacking {image.name}")
        with publish(destination) as scratch:
            facts = {
                "version": image.version,
                "packages": " ".join(f"{deb.name}={deb.version}={deb.sha256}" for deb in debs),
            }
            unpack_image(list(debs.values()), chosen, scratch, facts)
        kernel = Kernel(series, chosen, image.version, destination)
        if not exact or not pinned_release(series):
            _pin(kernel)
        return kernel


def _pin(kernel: Kernel) -> None:
    path = _pin_path(kernel.series)
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(kernel.release)
    os.replace(f"{path}.new", path)


def _local_debs(series: Series, release: str) -> dict[Package, str]:
    """The packages that a damaged image was made from, if all are still in the cache and whole."""
    manifest = read_manifest(os.path.join(cache_dir("kernels"), release))
    debs = {}
    for words in manifest.facts.get("packages", "").split() if manifest is not None else ():
        name, version, digest = words.split("=")
        deb = Archive.deb_path(name, version, series.architecture)
        if not os.path.exists(deb) or sha256_file(deb) != digest:
            return {}
        debs[Package(name, version, digest, os.stat(deb).st_size)] = deb
    return debs


def _fetch_image(archive: Archive, image: Package) -> dict[Package, str]:
    """The image package, and those that it is split into from 6.19 on: binary, modules and base of its release.

    What the archive has dropped is left out (of 6.18 the base): whether the rest is a kernel shows in unpacking.
    """
    release = image.name[len(IMAGE) :]
    parts = [image]
    for name in image.depends:
        if name in (f"linux-{part}-{release}" for part in ("base", "binary", "modules")):
            found = archive.packages(f"^{re.escape(name)}$")
            parts += [package for package in found if package.version == image.version][:1]
    return {part: archive.fetch(part) for part in parts}


def _choose(series: Series, release: str, *, exact: bool, progress: Progress) -> tuple[Package, Archive]:
    """The image package of `release`, or the newest of the series, and the archive of the suite that has it."""
    archives = [open_archive([suite], series.architecture, progress=progress) for suite in series.suites]
    if release:
        for archive in archives:
            match = newest(archive.packages(f"^{IMAGE}{re.escape(release)}$"))
            if match is not None:
                return match, archive
        if exact:
            raise LabError(
                f"the archive no longer has {release}",
                remedy=f"take the newest of the series: --kernel {series.name}",
            )
        progress(f"the archive no longer has {release}: taking the newest of {series.name}")
    for archive in archives:
        best = newest(archive.packages(f"^{IMAGE}{series.pattern}$"))
        if best is not None:
            return best, archive
    raise LabError(f"the archive has no kernel of the series {series.name}", remedy="try another --mirror")
