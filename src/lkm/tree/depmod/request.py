# SPDX-License-Identifier: MIT
"""What depmod is asked to do."""

from __future__ import annotations

from collections.abc import Sequence

from lkm.tree.depmod.config import DIRECTORIES

__all__ = ["DepmodRequest"]


class DepmodRequest:
    """A kernel's module directory, and what to make of it.

    release     the kernel's, as `uname -r` has it
    root        what is before `module_directory` and is not part of any path that is written: an image
    output      instead of `root`, for what is written
    files       only these modules, by absolute path; none: all that are there
    quick       only if something has changed
    show        give the text files to `write` instead of making files
    verbose     tell each need and who meets it
    warn        tell of duplicates
    errors      tell of symbols that nobody exports, or in another version
    prefix      a byte that symbols of this architecture begin with
    system_map, symvers   the kernel's own exports: System.map or Module.symvers
    processes   how many may read; 0: as many as there are processors
    cache       the directory for what was read, for the next run; empty: none
    json        whoever asks will tell what was done as JSON: nothing else goes to `write`
    """

    def __init__(
        self,
        release: str,
        *,
        root: str = "",
        output: str = "",
        module_directory: str = "lib/modules",
        configs: Sequence[str] = (),
        files: Sequence[str] = (),
        quick: bool = False,
        show: bool = False,
        verbose: bool = False,
        warn: bool = False,
        errors: bool = False,
        prefix: str = "",
        system_map: str = "",
        symvers: str = "",
        processes: int = 0,
        cache: str = "",
        json: bool = False,
    ) -> None:
        below = f"{module_directory.lstrip('/')}/{release}"
        self.release = release
        self.top = f"{root}/{below}".encode(errors="surrogateescape")
        self.output = f"{output or root}/{below}".encode(errors="surrogateescape")
        self.configs = tuple(path.encode(errors="surrogateescape") for path in configs) or DIRECTORIES
        self.files = tuple(path.encode(errors="surrogateescape") for path in files)
        self.quick, self.warn, self.errors = quick, warn, errors
        self.show, self.verbose = show, verbose and not json
        self.prefix = prefix.encode(errors="surrogateescape")
        self.system_map, self.symvers = system_map, symvers
        self.processes, self.cache, self.json = processes, cache, json
