# SPDX-License-Identifier: MIT
"""`Root`: where files are read, so that a recorded tree, a chroot or a guest's tree works as the live one."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Root"]


class Root(NamedTuple):
    """A file system root and the kernel release that is meant in it."""

    path: str = "/"
    release: str = ""

    def join(self, absolute: str) -> str:
        """`absolute` (such as `/proc/modules`) as a path below this root."""
        return os.path.join(self.path, absolute.lstrip("/"))

    @classmethod
    def live(cls) -> Root:
        """This machine and its running kernel."""
        return cls("/", os.uname().release)

    @property
    def modules_dir(self) -> str:
        """The module tree: `lib/modules/RELEASE` below the root."""
        return self.join(f"/lib/modules/{self.release}")
