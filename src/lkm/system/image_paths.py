# SPDX-License-Identifier: MIT
"""Where a kernel's image lies."""

from __future__ import annotations

import os

from lkm.root import Root

__all__ = ["image_paths"]


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
