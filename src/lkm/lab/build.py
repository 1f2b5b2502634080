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
from lkm.lab.architecture import find_architecture, host_architecture
from lkm.lab.cache import (
    Progress,
    cache_dir,
    content_key,
    intact,
    locked,
    publish,
    sha256_file,
    silent,
    write_manifest,
)
from lkm.lab.headers import header_tree
from lkm.lab.image import check_readable
from lkm.lab.kernels import Kernel, get_kernel
from lkm.lab.process import find_tool

__all__ = ["BuildFailed", "build_modules"]

MAKE_FLAGS = ("CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=")
"""Making BTF takes pahole, and up to 6.1 a vmlinux that is not there; compilers differ in how they align."""

ALIGNED = "KCFLAGS=-D__cold__="
"""gcc up to 13 aligns no function that is cold, as each init is, and arm64's ftrace keeps eight bytes in front of
each (since 6.3, CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS): ftrace_init_nop oopses where they are misaligned."""

KEPT = (".ko", ".o", ".mod", ".o.cmd")
"""What is kept of a build by the ends of names; modules alone, unless objects are asked for."""

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
    objects: bool = False,
    progress: Progress = silent,
) -> list[str]:
    """Build every module of `source_dir` for `kernel`; the paths of the `.ko` files, in `out_dir` or in the cache.

    Without a Kbuild file or Makefile, each `*.c` is a module of its own. With `objects` also what each was linked of
    is there: NAME.o, and of those `.NAME.o.cmd`, in which kbuild keeps CRCs. Raises BuildFailed with the compiler's
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
    kept = KEPT if objects else KEPT[:1]
    key = content_key(
        image.release, image.version, image.series.compiler, _make_flags(image), states, *kept[1:]
    )
    home = os.path.join(cache_dir("modules"), key)
    with locked(f"modules-{key[:2]}"):
        if not intact(home):
            headers = header_tree(image, progress=progress)
            progress(f"building {os.path.basename(os.path.abspath(source_dir))} for {image.release}")
            with publish(home) as scratch:
                _build(source_dir, sources, kbuild, kept, headers=headers, kernel=image, destination=scratch)
                write_manifest(scratch, {"release": image.release})
    built = [name for name in sorted(os.listdir(home)) if name.endswith(".ko")]
    if out_dir is None:
        return [os.path.join(home, name) for name in built]
    os.makedirs(out_dir, exist_ok=True)
    for name in os.listdir(home) if objects else ():
        if name.endswith(KEPT[1:]):
            shutil.copy(os.path.join(home, name), os.path.join(out_dir, name))
    return [shutil.copy(os.path.join(home, name), os.path.join(out_dir, name)) for name in built]


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


def _make_flags(kernel: Kernel) -> tuple[str, ...]:
    return (
        (*MAKE_FLAGS, ALIGNED)
        if find_architecture(kernel.series.architecture).kbuild == "arm64"
        else MAKE_FLAGS
    )


def _toolchain(kernel: Kernel) -> list[str]:
    """Which compiler, and of which make: a cross compiler where the kernel is not of this machine's architecture."""
    architecture = find_architecture(kernel.series.architecture)
    if architecture == host_architecture():
        return [f"CC={find_tool(kernel.series.compiler)}"]
    compiler = find_tool(f"{architecture.cross}{kernel.series.compiler}")
    find_tool(f"{architecture.cross}ld")
    return [f"ARCH={architecture.kbuild}", f"CROSS_COMPILE={architecture.cross}", f"CC={compiler}"]


def _build(
    source_dir: str,
    sources: list[str],
    kbuild: str,
    kept: tuple[str, ...],
    *,
    headers: str,
    kernel: Kernel,
    destination: str,
) -> None:
    with tempfile.TemporaryDirectory(prefix="lkm-build-") as copy:
        for name in sources:
            os.makedirs(os.path.dirname(os.path.join(copy, name)), exist_ok=True)
            shutil.copy(os.path.join(source_dir, name), os.path.join(copy, name))
        if kbuild:
            with open(os.path.join(copy, "Kbuild"), "w", encoding="utf-8") as stream:
                stream.write(kbuild)
        argv = [
            find_tool("make"),
            "-C",
            headers,
            f"M={copy}",
            *_toolchain(kernel),
            *_make_flags(kernel),
            "modules",
        ]
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
        results = [
            os.path.join(directory, name)
            for directory, _, names in os.walk(copy)
            for name in names
            if name.endswith(kept)
        ]
        if done.returncode or not any(path.endswith(".ko") for path in results):
            reason = "kbuild made no module" if not done.returncode else "the build failed"
            raise BuildFailed(f"{source_dir} for {kernel.release}: {reason}", output)
        for path in results:
            shutil.copy(path, destination)
