# SPDX-License-Identifier: MIT
"""Fetch kmod's source, and build its tools, its tests and the modules that they use, all in the lab's cache.

The tests run a tool under preloaded libraries that send absolute paths to a made-up root, except those below the
build directory. So the interpreter, its library and lkm are put there too, by links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from lkm.lab.architecture import host_architecture
from lkm.lab.archive import open_archive
from lkm.lab.build import build_modules
from lkm.lab.cache import Progress, cache_dir, content_key, locked, publish, sha256_file
from lkm.lab.process import run_tool

SUITE = "trixie"
"""The release of Debian whose kmod (34) is asked."""

TOOLS = ("depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod")
PRELOADS = ("path", "uname", "init_module", "delete_module")
KERNELS = {"amd64": "6.1", "arm64": "6.1-arm64"}
"""What the suite's modules are built for: the tests only read them."""

SOURCES = Path(__file__).parents[2] / "src"

LAUNCHER = """\
#!{top}/python/bin/python3 -IS
import sys
sys.path[:0] = ["{top}/python/lkm", "{top}/python/site"]
from lkm.__main__ import main
sys.exit(main())
"""


def make_suite(progress: Progress) -> Path:
    """The build directory of the suite, with kmod's own tools in it. Raises LabError."""
    architecture = host_architecture().name
    tarball = open_archive([SUITE], architecture, progress=progress, sources=True).fetch_upstream("kmod")
    playground = f"built for {KERNELS[architecture]}"
    home = os.path.join(cache_dir("kmod-suite"), content_key(sha256_file(tarball), playground))
    with locked("kmod-suite"):
        if not os.path.isdir(home):
            with publish(home) as scratch:
                _unpack(tarball, scratch)
            try:
                _build(Path(home), KERNELS[architecture], progress)
            except BaseException:
                shutil.rmtree(home)  # a half-built one would be taken for whole
                raise
    return Path(home) / "build"


def make_root(top: Path) -> None:
    """Make the made-up roots anew: the tests write into them."""
    source, suite = top.parent / "kmod", top / "testsuite"
    directories = (source / "testsuite/rootfs-pristine", suite / "rootfs", suite / "module-playground")
    argv: list[Path | str] = [
        source / "scripts/setup-rootfs.sh",
        *directories,
        top / "config.h",
        "/etc",
        "/lib/modules",
    ]
    subprocess.run(argv, cwd=top, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def use_kmod(top: Path) -> None:
    """Have the tests run kmod's own tools."""
    for tool in TOOLS:
        (top / tool).unlink(missing_ok=True)
        (top / tool).symlink_to("kmod")


def use_lkm(top: Path) -> None:
    """Have the tests run lkm's tools, by this interpreter."""
    home = top / "python"
    shutil.rmtree(home, ignore_errors=True)
    (home / "bin").mkdir(parents=True)
    executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    shutil.copy(executable, home / "bin/python3")  # a link would be followed back out of the build directory
    (home / sys.platlibdir).symlink_to(os.path.join(sys.base_prefix, sys.platlibdir))
    (home / "lkm").symlink_to(SOURCES)
    (home / "site").symlink_to(_site_packages())
    for tool in TOOLS:
        (top / tool).unlink(missing_ok=True)
        (top / tool).write_text(LAUNCHER.format(top=top))
        (top / tool).chmod(0o755)


def _site_packages() -> str:
    """Where this interpreter has what is installed: the zstandard wheel may be all that can read zstd."""
    return next(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))


def _unpack(tarball: str, destination: str) -> None:
    with tarfile.open(tarball) as archive:
        archive.extractall(destination)
    (found,) = (entry.path for entry in os.scandir(destination))
    os.rename(found, os.path.join(destination, "kmod"))


def _build(home: Path, kernel: str, progress: Progress) -> None:
    source, top = home / "kmod", home / "build"
    progress("building kmod and its tests")
    options = ["-Dbuild-tests=true", "-Dmanpages=false", "-Ddocs=false"]
    run_tool(["meson", "setup", *options, str(top), str(source)])
    names = [path.stem for path in sorted((source / "testsuite").glob("test-*.c"))]
    targets = [f"testsuite/{name}" for name in (*names, *PRELOADS)]
    run_tool(["meson", "compile", "-C", str(top), "kmod:executable", *targets])
    playground = top / "testsuite/module-playground"
    shutil.copytree(source / "testsuite/module-playground", playground)
    build_modules(str(source / "testsuite/module-playground"), kernel, str(playground), progress=progress)
