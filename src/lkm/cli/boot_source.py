# SPDX-License-Identifier: MIT
"""Which kernel's initcalls a command speaks of: the options for it, and what they lead to."""

from __future__ import annotations

import argparse

from lkm.boot.source import InitcallTable, read_image_initcalls, read_initcalls
from lkm.cli.chosen_kernel import choose_release, is_of, running_release
from lkm.cli.files import check_named_file
from lkm.errors import UsageError
from lkm.root import Root

__all__ = ["KERNEL_HELP", "add_source_options", "place_of", "root_of", "source_of"]

KERNEL_HELP = "another kernel than the running one: its release, or how that begins (6.12)"


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """`--image`, `--kernel`, `--root`."""
    parser.add_argument(
        "--image",
        metavar="FILE",
        default="",
        help="initcalls are those of this kernel image: vmlinuz, Image[.gz], vmlinux",
    )
    parser.add_argument("--kernel", metavar="RELEASE", default="", help=KERNEL_HELP)
    parser.add_argument(
        "--root", metavar="DIR", default="/", help="read proc/, sys/, boot/ and lib/modules/ below DIR"
    )


def root_of(arguments: argparse.Namespace) -> Root:
    """Where files are read, and for which kernel, by `--kernel` and `--root`."""
    base: str = arguments.root
    try:
        release = choose_release(arguments.kernel, base, running=running_release(base))
    except UsageError as error:
        raise UsageError(error.message, remedy=f"{error.remedy}; or --image FILE names an image") from error
    return Root(base, release)


def place_of(arguments: argparse.Namespace) -> tuple[Root, InitcallTable | None]:
    """Where files are read, and for which kernel; with `--image` its kernel, and that one's initcalls.

    UsageError where `--kernel` says another one than the image does.
    """
    if not arguments.image:
        return root_of(arguments), None
    base, kernel = arguments.root, arguments.kernel
    check_named_file(arguments.image, remedy="--image names a kernel's image")
    table = read_image_initcalls(Root(base, kernel or running_release(base)), arguments.image)
    if not is_of(table.release, kernel):
        raise UsageError(
            f"{arguments.image} is of {table.release}, not of {kernel}", remedy="leave --kernel away"
        )
    return Root(base, table.release), table


def source_of(arguments: argparse.Namespace) -> InitcallTable:
    """The initcalls that the options mean. LkmError where they are nowhere."""
    root, table = place_of(arguments)
    return table or read_initcalls(root, running=root.release == running_release(root.path))
