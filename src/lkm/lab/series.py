# SPDX-License-Identifier: MIT
"""The table of the kernels that the lab knows, a row for each series."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lkm.errors import UsageError

__all__ = ["SERIES", "Series", "find_series"]


@dataclass(frozen=True)
class Series:
    """A row of the table: where the kernels of a series are, and what they are called."""

    name: str
    suites: tuple[str, ...]
    """Of Debian: the first has the newest of the series, the others have builds that can be named exactly."""
    pattern: str
    """Regular expression (POSIX extended, not anchored) of what `uname -r` says."""
    architecture: str = "amd64"
    flavour: str = "cloud"
    compiler: str = "gcc-12"
    """What modules are built with."""
    headers: bool = True
    """Whether the archive has the headers that modules are built against."""

    def is_release(self, release: str) -> bool:
        """Whether `uname -r` says `release` on a kernel of this series."""
        return re.fullmatch(self.pattern, release) is not None


def _stable(version: str, flavour: str) -> str:
    """Releases up to Debian 12: the ABI has a number, the version stays at its .0."""
    return rf"{re.escape(version)}\.0-[0-9]+-{flavour}"


def _rolling(version: str, flavour: str) -> str:
    """Releases from Debian 13 on, and its predecessors' backports: the upstream version and a distribution."""
    return rf"{re.escape(version)}\.[0-9]+\+deb[0-9]+(\.[0-9]+)?-{flavour}"


CLOUD, CLOUD_ARM = "cloud-amd64", "cloud-arm64"
STABLE = ("trixie", "bookworm", "bookworm-backports")
NEXT = ("trixie-backports",)

# Of 6.19 to 7.1 the archive has kept the signed kernel alone, without its modules.
SERIES = (
    Series("5.10", ("bullseye",), _stable("5.10", CLOUD)),
    Series("6.1", ("bookworm",), _stable("6.1", CLOUD)),
    Series("6.1-generic", ("bookworm",), _stable("6.1", "amd64"), flavour="generic"),
    Series("6.1-rt", ("bookworm",), _stable("6.1", "rt-amd64"), flavour="rt"),
    Series("6.12", STABLE, _rolling("6.12", CLOUD)),
    Series("6.16", NEXT, _rolling("6.16", CLOUD), headers=False),
    Series("6.17", NEXT, _rolling("6.17", CLOUD), headers=False),
    Series("6.18", NEXT, _rolling("6.18", CLOUD), headers=False),
    Series("7.2", NEXT, _rolling("7.2", CLOUD)),
    Series("7.3", NEXT, _rolling("7.3", CLOUD)),
    Series("6.1-arm64", ("bookworm",), _stable("6.1", CLOUD_ARM), "arm64"),
    Series("6.12-arm64", STABLE, _rolling("6.12", CLOUD_ARM), "arm64"),
    Series("7.3-arm64", NEXT, _rolling("7.3", CLOUD_ARM), "arm64"),
)


def find_series(name: str) -> Series:
    """The series called `name`, or the one that the release `name` belongs to; else UsageError."""
    for series in SERIES:
        if name == series.name or series.is_release(name):
            return series
    known = ", ".join(series.name for series in SERIES)
    raise UsageError(
        f"the lab has no kernel {name!r}", remedy=f"series are {known}; or give an exact uname -r of one"
    )
