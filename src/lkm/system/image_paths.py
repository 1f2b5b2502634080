# SPDX-License-Identifier: MIT
"""Where a kernel's image lies."""

from __future__ import annotations

import os

from lkm.root import Root
from lkm.system.files import list_directory

__all__ = ["image_paths", "image_releases"]

_STEMS = ("vmlinuz", "vmlinux", "Image")


def image_paths(root: Root) -> tuple[str, ...]:
    """Where distributions put the image of `root.release`, the most usual first."""
    release = root.release
    return (
        root.join(f"/boot/vmlinuz-{release}"),
        os.path.join(root.modules_dir, "vmlinuz"),
        root.join(f"/usr/lib/modules/{release}/vmlinuz"),
        root.join(f"/boot/vmlinux-{release}"),
        root.join(f"/boot/Image-{release}"),
    )


def image_releases(root: Root) -> list[str]:
    """The kernels whose images are in /boot below `root`; a file that is called so need not be one."""
    names = (name.partition("-") for name in list_directory(root.join("/boot")))
    return sorted({release for stem, _, release in names if release and stem in _STEMS})
