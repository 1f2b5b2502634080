# SPDX-License-Identifier: MIT
"""Which kernel `--kernel` means, of those that are installed: the same for every command that has it."""

from __future__ import annotations

import os

from lkm.errors import UsageError
from lkm.root import Root
from lkm.system.files import list_directory, read_text
from lkm.system.image_paths import image_releases

__all__ = ["choose_kernel", "choose_release", "is_of", "running_release"]


def choose_kernel(kernel: str, tree: str) -> tuple[Root, bool]:
    """The root and release that are meant, and whether that is the running kernel.

    kernel  as for `choose_release`
    tree    a directory that holds lib/modules; "": this machine
    """
    if tree:
        return Root(tree, choose_release(kernel, tree)), False
    running = os.uname().release
    release = choose_release(kernel, "/", running=running)
    return Root("/", release), release == running


def choose_release(kernel: str, base: str, *, running: str = "") -> str:
    """The release that `kernel` means below `base`. UsageError where that is none, or one of several.

    kernel   a release, or how one begins (6.12, 6.12.117, 6.12.117+deb13); "": the running one, or the only one
    running  the kernel that runs there, installed or not; "": none does
    """
    from lkm.preflight.read import find_releases  # late: most calls need none of it

    if running and kernel in ("", running):
        return running
    root = Root(base)
    trees, images = {*find_releases(root), *filter(None, [running])}, image_releases(root)
    if kernel in images or kernel in list_directory(root.join("/lib/modules")):
        return kernel
    matching = sorted(each for each in trees if is_of(each, kernel))
    if kernel and not matching:  # an image may be all that is left of one
        matching = [each for each in images if is_of(each, kernel)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        problem = (
            f"several kernels below {base} begin with {kernel}" if kernel else f"several kernels below {base}"
        )
    else:
        problem = f"no kernel {kernel} below {base}" if kernel else f"no kernel's modules below {base}"
    known = ", ".join(matching or sorted({*trees, *images}))
    raise UsageError(
        problem, remedy=f"--kernel names one of: {known}" if known else "none is installed there"
    )


def is_of(release: str, kernel: str) -> bool:
    """Whether `kernel` is `release`, or how it begins: 6.1 begins 6.1.0-1-amd64 and 6.1-rc2, and not 6.12.1."""
    rest = release[len(kernel) :]
    cut = not (rest[:1].isalnum() and kernel[-1:].isalnum())
    return release.startswith(kernel) and cut


def running_release(base: str) -> str:
    """The release of the kernel that runs, or that was recorded below `base`; "" where none was."""
    recorded = read_text(Root(base).join("/proc/sys/kernel/osrelease"))
    return recorded or (os.uname().release if os.path.realpath(base) == "/" else "")
