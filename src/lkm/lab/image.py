# SPDX-License-Identifier: MIT
"""A kernel package → what a guest boots from: vmlinuz, the module tree as ext4, drivers as a cpio."""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping

from lkm.errors import LabError, UsageError
from lkm.lab.cache import write_manifest
from lkm.lab.process import run_tool

__all__ = [
    "DRIVERS",
    "check_readable",
    "make_cpio",
    "make_ext4",
    "paths_below",
    "tree_size",
    "unpack_image",
]

DRIVERS = ("virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4")
"""What a guest needs before it sees its disks and its agent's port; a kernel may have some of them built in.

ext4 asks for crc32c by name, so that modules.dep does not know of it (ext4_fill_super, up to 6.13).
"""

FEATURES = "none,dir_index,extent,extra_isize,filetype,large_file,sparse_super"


def unpack_image(debs: Iterable[str], release: str, destination: str, facts: Mapping[str, str]) -> None:
    """Make an image directory in `destination` of the packages of one kernel; `facts` go into its manifest."""
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=os.path.dirname(destination)) as tree:
        for deb in debs:
            run_tool(["dpkg-deb", "-x", deb, tree])
        modules = os.path.join(tree, "lib/modules", release)
        merged = os.path.join(tree, "usr/lib/modules", release)  # from 6.12 on
        if os.path.isdir(merged):
            os.makedirs(os.path.dirname(modules), exist_ok=True)
            os.rename(merged, modules)
        if not os.path.isdir(modules):
            raise LabError(f"the packages of {release} have no lib/modules/{release}")
        run_tool(["depmod", "-b", tree, release])
        _install_boot_files(tree, release)
        boot = os.path.join(tree, "boot")
        os.rename(os.path.join(boot, f"vmlinuz-{release}"), os.path.join(destination, "vmlinuz"))
        for name in ("config", "System.map"):
            shutil.copyfile(os.path.join(boot, f"{name}-{release}"), os.path.join(destination, name))
        shutil.rmtree(os.path.join(tree, "usr"), ignore_errors=True)
        _pack_drivers(modules, os.path.join(destination, "drivers.cpio"))
        make_ext4(tree, os.path.join(destination, "modules.img"))
    write_manifest(destination, facts)


def _install_boot_files(tree: str, release: str) -> None:
    """Where they lie beside the modules (from 7.2 on), copy them to `boot`, as an installation does."""
    os.makedirs(os.path.join(tree, "boot"), exist_ok=True)
    beside = os.path.join(tree, "lib/modules", release)
    for name in ("vmlinuz", "config", "System.map"):
        path = os.path.join(tree, "boot", f"{name}-{release}")
        if not os.path.exists(path):
            if not os.path.exists(os.path.join(beside, name)):
                raise LabError(f"the packages of {release} have no {name}")
            shutil.copyfile(os.path.join(beside, name), path)
    if os.path.exists(os.path.join(beside, "vmlinuz")):
        os.unlink(os.path.join(beside, "vmlinuz"))


def make_ext4(tree: str, image: str, *, room: int = 8) -> None:
    """An ext4 image of a directory with `room` MB to spare; needs no root.

    It has no journal, and only features that every kernel of the lab knows, whatever mke2fs defaults to.
    """
    size = tree_size(tree)
    mebibytes = size * 115 // 100 // (1 << 20) + room
    options = "lazy_itable_init=1,root_owner=0:0"
    run_tool(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            FEATURES,
            "-m",
            "0",
            "-E",
            options,
            "-d",
            tree,
            image,
            f"{mebibytes}M",
        ]
    )


def tree_size(tree: str) -> int:
    """Bytes that the files below `tree` take, in whole blocks of 4 KiB."""
    total = 0
    for directory, _, names in os.walk(tree):
        total += 4096
        for name in names:
            total += (os.lstat(os.path.join(directory, name)).st_size + 4095) // 4096 * 4096 + 512
    return total


def check_readable(paths: Iterable[str]) -> None:
    """Raises UsageError that names the first of `paths` that cannot be read; a symbolic link is not followed."""
    for path in paths:
        wanted = os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK
        if not os.path.islink(path) and not os.access(path, wanted):
            raise UsageError(f"{path} cannot be read", remedy="leave it out, or change its permissions")


def paths_below(tree: str) -> Iterator[str]:
    """Everything below `tree`, each directory before what it holds."""
    for directory, subdirectories, names in os.walk(tree):
        for name in subdirectories + names:
            yield os.path.join(directory, name)


def make_cpio(tree: str, archive: str) -> None:
    """A cpio archive (newc, owned by root) of everything below `tree`, as the kernel's initramfs reads it."""
    names = sorted(os.path.relpath(path, tree) for path in paths_below(tree))
    listing = b"\0".join(name.encode() for name in names)
    data = run_tool(
        ["cpio", "-o", "-H", "newc", "-0", "--owner", "0:0", "--quiet", "--reproducible"],
        cwd=tree,
        stdin=listing,
    )
    with open(archive, "wb") as stream:
        stream.write(data)


def _pack_drivers(modules: str, archive: str) -> None:
    """The `DRIVERS` that this kernel has as modules and what they need, below `drivers/`, in the order to load."""
    with open(os.path.join(modules, "modules.dep"), encoding="utf-8") as stream:
        needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in stream)}
    paths = {os.path.basename(path).partition(".")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []

    def add(path: str) -> None:
        for need in needs[path]:
            add(need)
        if path not in order:
            order.append(path)

    for name in DRIVERS:
        if name in paths:
            add(paths[name])
    with tempfile.TemporaryDirectory(prefix="drivers-") as stage:
        os.mkdir(os.path.join(stage, "drivers"))
        for number, path in enumerate(order):
            name = os.path.basename(path).partition(".")[0]
            with open(os.path.join(stage, "drivers", f"{number:02}-{name}.ko"), "wb") as stream_out:
                stream_out.write(_module_bytes(os.path.join(modules, path)))
        make_cpio(stage, archive)


def _module_bytes(path: str) -> bytes:
    """The module in a `.ko` or `.ko.xz`, the two that Debian has."""
    with open(path, "rb") as stream:
        data = stream.read()
    return lzma.decompress(data) if path.endswith(".xz") else data
