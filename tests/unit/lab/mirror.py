# SPDX-License-Identifier: MIT
"""A Debian mirror in a directory: packages made on the spot, an index, nothing signed."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lkm.lab.archive import Archive
from lkm.lab.cache import Progress
from lkm.lab.sources import Mirror

__all__ = ["LocalMirror", "make_deb"]


def make_deb(
    top: Path, name: str, files: Mapping[str, bytes], *, version: str = "1", depends: str = ""
) -> tuple[Path, str]:
    """A package with `files`, each named from the root without a slash; its path, and its control fields."""
    tree = top / f"{name}_{version}.tree"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\n"
    control += (f"Depends: {depends}\n" if depends else "") + "Description: x\n"
    for path, data in {"DEBIAN/control": control.encode(), **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
        if data.startswith(b"\x7fELF"):
            (tree / path).chmod(0o755)
    deb = top / f"{name}_{version}.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
    return deb, control


class LocalMirror:
    """Suites of amd64 packages below a directory."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._stanzas: dict[str, list[str]] = {}

    def add(
        self, suite: str, name: str, files: Mapping[str, bytes], *, version: str = "1", depends: str = ""
    ) -> None:
        """Add a package to a suite."""
        self.top.mkdir(exist_ok=True)
        deb, control = make_deb(self.top, name, files, version=version, depends=depends)
        data = deb.read_bytes()
        self._stanzas.setdefault(suite, []).append(
            f"{control}Filename: {deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        packages = "\n".join(self._stanzas[suite]).encode()
        index = self.top / "dists" / suite / "main/binary-amd64"
        index.mkdir(parents=True, exist_ok=True)
        (index / "Packages").write_bytes(packages)
        (self.top / "dists" / suite / "Release").write_text(
            f"Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: amd64\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
        )

    def add_source(self, suite: str, name: str, upstream: bytes) -> None:
        """Make a source package, with nothing but its upstream tarball, the only one of a suite."""
        index = self.top / "dists" / suite / "main/source"
        index.mkdir(parents=True, exist_ok=True)
        files = {f"{name}_1.orig.tar.xz": upstream, f"{name}_1.dsc": b"x"}
        rows = []
        for path, data in files.items():
            (self.top / path).write_bytes(data)
            rows.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}\n")
        sources = (
            f"Package: {name}\nBinary: {name}\nVersion: 1\nDirectory: .\nChecksums-Sha256:\n{''.join(rows)}"
        )
        (index / "Sources").write_text(sources)
        (self.top / "dists" / suite / "Release").write_text(
            f"Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: amd64\n"
            f"SHA256:\n {hashlib.sha256(sources.encode()).hexdigest()} {len(sources)} main/source/Sources\n"
        )

    def open(
        self, suites: list[str], architecture: str, *, progress: Progress, sources: bool = False
    ) -> Archive:
        """As `lkm.lab.archive.open_archive`."""
        where = Mirror(f"file://{self.top}", f"file://{self.top}-security", trusted=True)
        return Archive(where, suites, architecture, progress, sources=sources)
