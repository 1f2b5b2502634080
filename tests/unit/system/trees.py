# SPDX-License-Identifier: MIT
"""A small /proc and /sys below a directory, to be read through `Root`."""

from __future__ import annotations

import os
from typing import Union

from lkm.root import Root

__all__ = ["Tree"]


class Tree:
    """Each method adds something; a file may be written twice."""

    def __init__(self, directory: str, release: str = "6.1.0-test") -> None:
        self.root = Root(str(directory), release)

    def write(self, path: str, content: Union[str, bytes]) -> str:
        """A file with its directories; returns where it is."""
        place = self.root.join(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return place

    def link(self, path: str, target: str) -> None:
        """A symbolic link, which may dangle."""
        place = self.root.join(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(target, place)

    def directory(self, path: str) -> None:
        """An empty directory."""
        os.makedirs(self.root.join(path), exist_ok=True)

    def module(self, name: str, state: str = "live", refcnt: int = 0, *, sections: bool = True) -> str:
        """A /sys/module/NAME as a loaded module has it; returns that path below the root."""
        base = f"/sys/module/{name}"
        self.write(f"{base}/initstate", f"{state}\n")
        self.write(f"{base}/refcnt", f"{refcnt}\n")
        self.write(f"{base}/coresize", "16384\n")
        self.write(f"{base}/taint", "OE\n")
        self.directory(f"{base}/holders")
        if sections:
            self.write(f"{base}/sections/.gnu.linkonce.this_module", "0xffffffffc0123000\n")
        return base

    def thread(
        self,
        pid: int,
        *,
        tid: int = 0,
        command: str = "sleep",
        state: str = "S",
        parent: int = 1,
        kernel: bool = False,
        start: int = 100,
        system_time: int = 0,
        stack: str = "",
        syscall: str = "",
        command_line: str = "",
    ) -> str:
        """A thread of process `pid` (its first one, unless `tid` is given); returns its directory."""
        base = f"/proc/{pid}/task/{tid or pid}"
        fields = ["0"] * 50
        fields[0], fields[1], fields[6], fields[12], fields[19] = (
            state,
            str(parent),
            str(0x200040 if kernel else 0x400000),
            str(system_time),
            str(start),
        )
        self.write(f"{base}/stat", f"{tid or pid} ({command}) {' '.join(fields)}\n")
        self.write(f"{base}/stack", stack)
        self.write(f"{base}/syscall", syscall)
        self.write(f"{base}/cmdline", command_line.replace(" ", "\0"))
        self.write(f"/proc/{pid}/comm", f"{command}\n")
        return base
