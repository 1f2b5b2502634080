# SPDX-License-Identifier: MIT
"""A compiler for a guest: gcc, binutils, make and a kernel's headers, as one directory to share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from lkm.lab.build import MAKE_FLAGS
from lkm.lab.cache import Progress, silent
from lkm.lab.headers import header_tree
from lkm.lab.kernels import get_kernel
from lkm.lab.process import find_tool

__all__ = ["make_arguments", "prepare_script", "stage_toolchain"]

TOOLS = ("make", "as", "ld", "ld.bfd", "objdump", "objcopy", "nm", "ar", "strip", "readelf")
"""With busybox for the rest, all that kbuild wants for one module."""

COMPILER_PARTS = ("cc1", "collect2", "liblto_plugin.so", "lto-wrapper", "include")


def stage_toolchain(kernel: str, directory: str, progress: Progress) -> None:
    """Copy the toolchain and the headers for `kernel` to `tools` and `headers` in `directory`. Raises LabError."""
    image = get_kernel(kernel, progress=progress)
    headers = _home(header_tree(image, progress=progress))
    compiler = find_tool(image.series.compiler)
    tools = os.path.join(directory, "tools")
    os.makedirs(f"{tools}/bin")
    for tool in (*map(find_tool, TOOLS), compiler):
        shutil.copy(os.path.realpath(tool), f"{tools}/bin/{os.path.basename(tool)}")
    internal = os.path.dirname(_ask(compiler, "-print-prog-name=cc1"))
    # gcc finds its parts relative to itself.
    inside = f"{tools}/lib/{os.path.relpath(internal, '/usr/lib')}"
    os.makedirs(inside)
    for name in COMPILER_PARTS:
        path = os.path.join(internal, name)
        (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, f"{inside}/{name}")
    shutil.copytree(headers, os.path.join(directory, "headers"), symlinks=True)
    _copy_libraries(directory)


def prepare_script(kernel: str) -> str:
    """Shell lines that make the staged toolchain usable in a guest that has it as /share."""
    home = _home(header_tree(get_kernel(kernel, progress=silent)))
    return f"mkdir -p {os.path.dirname(home)} && ln -s /share/headers {home}"


def make_arguments(kernel: str, directory: str) -> list[str]:
    """The command that builds the modules of `directory` in the guest."""
    image = get_kernel(kernel, progress=silent)
    environment = ["PATH=/share/tools/bin:/usr/sbin:/usr/bin", "LD_LIBRARY_PATH=/share/tools/lib"]
    tree = ["-C", header_tree(image), f"M={directory}", f"CC={image.series.compiler}"]
    return ["env", *environment, "make", "-s", *tree, *MAKE_FLAGS, "modules"]


def _home(tree: str) -> str:
    """Where the packages of the headers were extracted: `tree` is `usr/src/linux-headers-…` below it."""
    return os.path.abspath(os.path.join(tree, "../../.."))


def _ask(compiler: str, question: str) -> str:
    return subprocess.run([compiler, question], capture_output=True, check=True, text=True).stdout.strip()


def _copy_libraries(directory: str) -> None:
    """The shared libraries of everything staged, to `tools/lib`."""
    files = [os.path.join(top, name) for top, _, names in os.walk(directory) for name in names]
    programs = [path for path in files if os.access(path, os.X_OK) and not os.path.islink(path)]
    listing = subprocess.run(["ldd", *programs], capture_output=True, check=False, text=True).stdout
    for path in set(re.findall(r"=> (/\S+) \(0x", listing)):
        shutil.copy(os.path.realpath(path), f"{directory}/tools/lib/{os.path.basename(path)}")
