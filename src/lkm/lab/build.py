# SPDX-License-Identifier: MIT
"""Build modules against any kernel of the lab, with its headers extracted into the cache: nothing is installed.

Done out of tree on a copy of the sources; results are kept by content, so that the same sources build once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from lkm.errors import LabError, UsageError
from lkm.lab.archive import newest, open_archive
from lkm.lab.cache import (
    Progress,
    cache_dir,
    check,
    content_key,
    intact,
    locked,
    publish,
    sha256_file,
    silent,
    write_manifest,
)
from lkm.lab.image import check_readable
from lkm.lab.kernels import Kernel, get_kernel
from lkm.lab.process import find_tool, run_tool

__all__ = ["BuildFailed", "build_modules", "header_tree"]

MAKE_FLAGS = ("CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=")
"""There is no vmlinux to make BTF from; and compilers differ in what alignment they can do."""

PRODUCTS = re.compile(r"\.(o|ko|mod|mod\.c|cmd|symvers|order)$|^\.tmp_versions$|^\.git$|^__pycache__$")


class BuildFailed(LabError):
    """The compiler or kbuild says no. `output` is what they wrote."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def build_modules(
    source_dir: str,
    kernel: str,
    out_dir: str | None = None,
    *,
    progress: Progress = silent,
) -> list[str]:
    """Build every module of `source_dir` for `kernel`; the paths of the `.ko` files, in `out_dir` or in the cache.

    Without a Kbuild file or Makefile, each `*.c` is a module of its own. Raises BuildFailed with the compiler's
    words, UsageError for a directory that cannot be read, and LabError when the headers cannot be had.
    """
    if not os.path.isdir(source_dir):
        raise UsageError(f"{source_dir} is not a directory")
    check_readable([source_dir])
    sources = _source_files(source_dir)
    check_readable(os.path.join(source_dir, name) for name in sources)
    kbuild = _kbuild(source_dir, sources)
    image = get_kernel(kernel, progress=progress)
    states = [(name, sha256_file(os.path.join(source_dir, name))) for name in sources]
    key = content_key(image.release, image.version, image.series.compiler, MAKE_FLAGS, states)
    home = os.path.join(cache_dir("modules"), key)
    with locked(f"modules-{key[:2]}"):
        if not intact(home):
            headers = header_tree(image, progress=progress)
            progress(f"building {os.path.basename(os.path.abspath(source_dir))} for {image.release}")
            with publish(home) as scratch:
                _build(source_dir, sources, kbuild, headers=headers, kernel=image, destination=scratch)
                write_manifest(scratch, {"release": image.release})
    built = [name for name in sorted(os.listdir(home)) if name.endswith(".ko")]
    if out_dir is None:
        return [os.path.join(home, name) for name in built]
    os.makedirs(out_dir, exist_ok=True)
    return [shutil.copy(os.path.join(home, name), os.path.join(out_dir, name)) for name in built]


def header_tree(kernel: Kernel, *, progress: Progress = silent) -> str:
    """The directory to build against (`make -C`), extracted from the archive when it is first wanted."""
    home = os.path.join(cache_dir("headers"), kernel.release)
    tree = os.path.join(home, "usr/src", f"linux-headers-{kernel.release}")
    with locked(f"headers-{kernel.release}"):
        manifest, damage = check(home)
        if manifest is None or manifest.facts.get("version") != kernel.version:
            if damage:
                progress(f"the cached headers of {kernel.release} are damaged ({damage}): making them anew")
            debs = _header_packages(kernel, progress)
            with publish(home) as scratch:
                for deb in debs:
                    run_tool(["dpkg-deb", "-x", deb, scratch])
                inside = os.path.relpath(tree, home)
                _relocate(os.path.join(scratch, inside, "Makefile"), home)
                names = tuple(
                    os.path.join(inside, name) for name in ("Makefile", "Module.symvers", ".config")
                )
                write_manifest(scratch, {"version": kernel.version}, names=names)
    return tree


def _header_packages(kernel: Kernel, progress: Progress) -> list[str]:
    """The `.deb` files of the headers, of what they share with other flavours, and of kbuild."""
    series = kernel.series
    archive = open_archive([series.suite], series.architecture, progress=progress)
    name = f"linux-headers-{kernel.release}"
    headers = [p for p in archive.packages(f"^{re.escape(name)}$") if p.version == kernel.version]
    if not headers:
        raise LabError(
            f"the archive has no headers for {kernel.release} {kernel.version}",
            remedy=f"lkm lab kernels fetch {series.name} takes the newest kernel, whose headers are there",
        )
    wanted = [headers[0]]
    for dependency in headers[0].depends:
        if re.match(r"linux-(headers-.*-common(-rt)?|kbuild-.*)$", dependency):
            found = archive.packages(f"^{re.escape(dependency)}$")
            exact = [package for package in found if package.version == kernel.version]
            chosen = newest(exact or found)
            if chosen is None:
                raise LabError(f"the archive has no {dependency}")
            wanted.append(chosen)
    return [archive.fetch(package) for package in wanted]


def _relocate(makefile: str, home: str) -> None:
    """The one absolute path of a header tree is the `include` in its Makefile."""
    with open(makefile, encoding="utf-8") as stream:
        text = stream.read()
    with open(makefile, "w", encoding="utf-8") as stream:
        stream.write(re.sub(r"^include /usr/src/", f"include {home}/usr/src/", text, flags=re.MULTILINE))


def _source_files(source_dir: str) -> list[str]:
    names = []
    for directory, subdirectories, files in os.walk(source_dir):
        subdirectories[:] = sorted(name for name in subdirectories if not PRODUCTS.search(name))
        relative = os.path.relpath(directory, source_dir)
        names += [
            os.path.normpath(os.path.join(relative, name)) for name in files if not PRODUCTS.search(name)
        ]
    return sorted(names)


def _kbuild(source_dir: str, sources: list[str]) -> str:
    """The Kbuild file to write for a directory that has none; empty if it has one."""
    if "Kbuild" in sources or "Makefile" in sources:
        return ""
    objects = [f"{name[:-2]}.o" for name in sources if name.endswith(".c") and os.sep not in name]
    if not objects:
        raise UsageError(f"{source_dir} has neither a Kbuild file nor C files")
    return "".join(f"obj-m += {name}\n" for name in objects)


def _build(
    source_dir: str, sources: list[str], kbuild: str, *, headers: str, kernel: Kernel, destination: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="lkm-build-") as copy:
        for name in sources:
            os.makedirs(os.path.dirname(os.path.join(copy, name)), exist_ok=True)
            shutil.copy(os.path.join(source_dir, name), os.path.join(copy, name))
        if kbuild:
            with open(os.path.join(copy, "Kbuild"), "w", encoding="utf-8") as stream:
                stream.write(kbuild)
        compiler = find_tool(kernel.series.compiler)
        argv = [find_tool("make"), "-C", headers, f"M={copy}", f"CC={compiler}", *MAKE_FLAGS, "modules"]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))
        }
        done = subprocess.run(
            argv,
            env={**environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace").replace(f"{copy}/", "")
        modules = [
            os.path.join(directory, name)
            for directory, _, names in os.walk(copy)
            for name in names
            if name.endswith(".ko")
        ]
        if done.returncode or not modules:
            reason = "kbuild made no module" if not done.returncode else "the build failed"
            raise BuildFailed(f"{source_dir} for {kernel.release}: {reason}", output)
        for path in modules:
            shutil.copy(path, destination)
