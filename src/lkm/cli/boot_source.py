# SPDX-License-Identifier: MIT
"""Which kernel's initcalls a command speaks of: the options for it, and what they lead to."""

from __future__ import annotations

import argparse

from lkm.boot.source import InitcallTable, read_image_initcalls, read_initcalls
from lkm.root import Root

__all__ = ["add_source_options", "release_of", "root_of", "source_of"]


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """`--image`, `--kernel`, `--root`."""
    parser.add_argument(
        "--image", metavar="FILE", default="", help="a kernel's image: vmlinuz, Image[.gz], vmlinux"
    )
    parser.add_argument(
        "--kernel",
        metavar="RELEASE",
        default="",
        help="another kernel than the running one: its image in /boot",
    )
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="read proc/, boot/ and lib/modules/ below DIR"
    )


def root_of(arguments: argparse.Namespace) -> Root:
    """Where files are read, and for which kernel."""
    return Root(arguments.root, arguments.kernel or release_of(arguments.root))


def source_of(arguments: argparse.Namespace) -> InitcallTable:
    """The initcalls that the options mean. LkmError where they are nowhere."""
    root = root_of(arguments)
    if arguments.image:
        return read_image_initcalls(root, arguments.image)
    return read_initcalls(root, running=root.release == release_of(arguments.root))


def release_of(path: str) -> str:
    """The release of the kernel that runs, or that was recorded below `path`."""
    from lkm.system.files import read_text

    recorded = read_text(Root(path).join("/proc/sys/kernel/osrelease"))
    return recorded or Root.live().release
