# SPDX-License-Identifier: MIT
"""The headers and the kbuild tools of a kernel, extracted into the cache: nothing is installed.

The tools run on this machine, so they are of its architecture, whatever the kernel's is. Where its C library is
older than what they were linked with, they start through the one of the release that they are from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from lkm.errors import LabError, UsageError
from lkm.lab.archive import Archive, Package, newest, open_archive
from lkm.lab.cache import Progress, cache_dir, check, locked, publish, silent, write_manifest
from lkm.lab.kernels import Kernel
from lkm.lab.process import find_tool, run_tool
from lkm.lab.series import SERIES

__all__ = ["header_tree"]

LIBRARIES = ("libc6", "libelf1t64", "zlib1g", "libzstd1")
"""What modpost, genksyms, fixdep and objtool are linked with, by their package names from Debian 13 on."""

STARTER = """\
#!/bin/sh
exec {loader} --library-path {libraries} --argv0 "$0" "$0.elf" "$@"
"""


def header_tree(kernel: Kernel, *, progress: Progress = silent) -> str:
    """The directory to build against (`make -C`), extracted from the archive when it is first wanted.

    Raises UsageError for a series of which the archive has no headers, LabError when they cannot be had.
    """
    if not kernel.series.headers:
        known = ", ".join(series.name for series in SERIES if series.headers)
        raise UsageError(
            f"no modules can be built for {kernel.release}: Debian has no headers of {kernel.series.name} any more",
            remedy=f"take a series that has them: {known}",
        )
    home = os.path.join(cache_dir("headers"), kernel.release)
    tree = os.path.join(home, "usr/src", f"linux-headers-{kernel.release}")
    with locked(f"headers-{kernel.release}"):
        manifest, damage = check(home)
        if manifest is None or manifest.facts.get("version") != kernel.version:
            if damage:
                progress(f"the cached headers of {kernel.release} are damaged ({damage}): making them anew")
            _make(kernel, home, progress)
    return tree


def _make(kernel: Kernel, home: str, progress: Progress) -> None:
    debs, suite = _packages(kernel, progress)
    with publish(home) as scratch:
        for deb in debs:
            run_tool(["dpkg-deb", "-x", deb, scratch])
        inside = os.path.join("usr/src", f"linux-headers-{kernel.release}")
        _relocate(os.path.join(scratch, inside, "Makefile"), home)
        _make_tools_run(scratch, home, suite, progress)
        names = tuple(os.path.join(inside, name) for name in ("Makefile", "Module.symvers", ".config"))
        write_manifest(scratch, {"version": kernel.version}, names=names)


def _packages(kernel: Kernel, progress: Progress) -> tuple[list[str], str]:
    """The `.deb` files of the headers, of what they share with other flavours, and of kbuild; and their suite."""
    series = kernel.series
    for suite in series.suites:
        archive = open_archive([suite], series.architecture, progress=progress)
        headers = _exact(archive, f"linux-headers-{kernel.release}", kernel.version)
        if headers is None:
            continue
        tools = _host_archive(suite, progress)
        debs = [archive.fetch(headers)]
        for name in headers.depends:
            if re.match(r"linux-(headers-.*-common(-rt)?|kbuild-.*)$", name):
                source = tools if name.startswith("linux-kbuild-") else archive
                package = _exact(source, name, kernel.version) or newest(
                    source.packages(f"^{re.escape(name)}$")
                )
                if package is None:
                    raise LabError(f"the archive has no {name}")
                debs.append(source.fetch(package))
        return debs, suite
    raise LabError(
        f"the archive has no headers for {kernel.release} {kernel.version}",
        remedy=f"lkm lab kernels fetch {series.name} takes the newest kernel, whose headers are there",
    )


def _exact(archive: Archive, name: str, version: str) -> Package | None:
    found = archive.packages(f"^{re.escape(name)}$")
    return next((package for package in found if package.version == version), None)


def _host_archive(suite: str, progress: Progress) -> Archive:
    architecture = run_tool(["dpkg", "--print-architecture"]).decode().strip()
    return open_archive([suite], architecture, progress=progress)


def _relocate(makefile: str, home: str) -> None:
    """The absolute paths of a header tree are in its Makefile: of what it includes, and from 6.12 of itself."""
    with open(makefile, encoding="utf-8") as stream:
        text = stream.read()
    with open(makefile, "w", encoding="utf-8") as stream:
        stream.write(
            re.sub(r"^(include |\w+ *:?= *)/usr/src/", rf"\g<1>{home}/usr/src/", text, flags=re.MULTILINE)
        )


def _make_tools_run(scratch: str, home: str, suite: str, progress: Progress) -> None:
    """Start the tools that miss a library, or a newer version of one, through the libraries of their release."""
    broken = [path for path in _executables(os.path.join(scratch, "usr/lib")) if _misses_libraries(path)]
    if not broken:
        return
    loader = _add_libraries(os.path.join(scratch, "libraries"), suite.removesuffix("-backports"), progress)
    libraries = os.path.join(home, "libraries")
    for path in broken:
        os.rename(path, f"{path}.elf")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(STARTER.format(loader=os.path.join(libraries, loader), libraries=libraries))
        os.chmod(path, 0o755)


def _executables(directory: str) -> Iterator[str]:
    for top, _, names in os.walk(directory):
        for path in (os.path.join(top, name) for name in names):
            if os.access(path, os.X_OK) and not os.path.islink(path):
                with open(path, "rb") as stream:
                    if stream.read(4) == b"\x7fELF":
                        yield path


def _misses_libraries(path: str) -> bool:
    done = subprocess.run(
        [find_tool("ldd"), path],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return b"not found" in done.stdout


def _add_libraries(destination: str, suite: str, progress: Progress) -> str:
    """Copy the shared libraries of `LIBRARIES` into `destination`; returns the dynamic loader's file name."""
    archive = _host_archive(suite, progress)
    os.mkdir(destination)
    with tempfile.TemporaryDirectory(prefix="libraries-") as tree:
        for name in LIBRARIES:
            package = newest(archive.packages(f"^{name}$"))
            if package is None:
                raise LabError(f"{suite} has no package {name}, which the kernel's build tools need")
            run_tool(["dpkg-deb", "-x", archive.fetch(package), tree])
        for top in os.listdir(os.path.join(tree, "usr/lib")):
            for entry in os.scandir(os.path.join(tree, "usr/lib", top)):
                if ".so" in entry.name and entry.is_file():
                    shutil.copy(entry.path, os.path.join(destination, entry.name))
    return next(name for name in sorted(os.listdir(destination)) if name.startswith("ld-linux"))
