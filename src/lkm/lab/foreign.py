# SPDX-License-Identifier: MIT
"""The programs of a guest of another architecture than this machine's: Debian's packages, unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile

from lkm.errors import LabError
from lkm.lab.archive import Package, newest, open_archive
from lkm.lab.cache import Progress
from lkm.lab.process import run_tool

__all__ = ["FOREIGN_PYTHON", "add_foreign_programs", "fetch_foreign_packages"]

SUITE = "bookworm"
FOREIGN_PYTHON = "3.11"
"""The Python of that suite. Of a machine with the same one, guests get the byte code too."""

PACKAGES = (
    "bash", "busybox-static", "dash", "kmod", "libc6", "libexpat1", "libffi8", "liblzma5",
    f"libpython{FOREIGN_PYTHON}-minimal", f"libpython{FOREIGN_PYTHON}-stdlib", "libssl3", "libtinfo6", "libzstd1",
    "ncurses-base", f"python{FOREIGN_PYTHON}-minimal", "zlib1g",
)  # fmt: skip
"""What lkm, its agent and the classic tools need, with their libraries; without what Python could need else."""

NOT_NEEDED = re.compile(
    r"/(share|gconv|engines-3|ossl-modules|audit|binfmt\.d|dist-packages|site-packages|"
    r"ensurepip|idlelib|lib2to3|pydoc_data|test|tests|tkinter|turtledemo|config-[^/]*)$"
)


def fetch_foreign_packages(architecture: str, *, progress: Progress) -> list[str]:
    """The paths of the packages in the cache; fetched if they are not there."""
    archive = open_archive([SUITE], architecture, progress=progress)
    names = "|".join(map(re.escape, PACKAGES))
    found = archive.packages(f"^({names})$")
    return [archive.fetch(_newest(found, name)) for name in PACKAGES]


def _newest(packages: list[Package], name: str) -> Package:
    package = newest(candidate for candidate in packages if candidate.name == name)
    if package is None:
        raise LabError(f"the archive has no {name} in {SUITE}", remedy="try another --mirror")
    return package


def add_foreign_programs(stage: str, debs: list[str]) -> None:
    """Unpack `debs` into `stage`, in which `bin`, `lib` and `sbin` are links into `usr`."""
    with tempfile.TemporaryDirectory(prefix="lkm-foreign-") as tree:
        for deb in debs:
            run_tool(["dpkg-deb", "-x", deb, tree])
        for name in ("bin", "lib", "sbin", "usr"):
            source = os.path.join(tree, name)
            if os.path.isdir(source):
                target = os.path.join(stage, "usr" if name == "usr" else f"usr/{name}")
                shutil.copytree(source, target, symlinks=True, ignore=_unwanted, dirs_exist_ok=True)
    for name, program in (
        ("sh", "dash"),
        ("python", f"python{FOREIGN_PYTHON}"),
        ("python3", f"python{FOREIGN_PYTHON}"),
    ):
        link = os.path.join(stage, "usr/bin", name)
        os.unlink(link) if os.path.lexists(link) else None
        os.symlink(program, link)
    library = os.path.join(stage, f"usr/lib/python{FOREIGN_PYTHON}")
    if f"{sys.version_info.major}.{sys.version_info.minor}" == FOREIGN_PYTHON:
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", library, "-s", stage], check=False, capture_output=True
        )


def _unwanted(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if NOT_NEEDED.search(f"{directory}/{name}") or name.startswith("_test")}
