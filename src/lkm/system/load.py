# SPDX-License-Identifier: MIT
"""Loads a module file, and tells what came of it: errno, death, deadline, whether its init was reached."""

from __future__ import annotations

import os
from typing import BinaryIO, NamedTuple

from lkm.errors import LkmError, NeedsRoot, Refused
from lkm.formats.compression import Compression, compression_of
from lkm.formats.elf import Machine
from lkm.formats.module import parse_module
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.calls import CallResult, finit_module, init_module
from lkm.system.kmsg import KmsgLine, KmsgTail
from lkm.system.load_hazard import read_load_hazard
from lkm.system.load_trace import LoadTrace

__all__ = ["LoadResult", "load_file"]

_MACHINES = {"x86_64": (Machine.X86_64,), "aarch64": (Machine.AARCH64,)}


class LoadResult(NamedTuple):
    """`init_ran`: whether init was called, None if that could not be seen. `note`: why messages are missing.
    `warning`: what a crash before has left in the way of loads."""

    module: ModuleName
    call: CallResult
    init_ran: bool | None
    messages: tuple[KmsgLine, ...]
    note: str = ""
    warning: str = ""


def load_file(root: Root, path: str, params: str, *, seconds: float, force: bool = False) -> LoadResult:
    """Load the file `path`. A load that outlives `seconds` goes on in its own process.

    Plain files go through finit_module(2), so that whoever judges files (IMA, LoadPin, SELinux) can; compressed
    ones are decompressed here and go through init_module(2). LkmError for a file that is no module of this
    machine. Refused, unless it is forced, where the kernel would crash (`lkm.system.load_hazard`).
    """
    with _open(path) as stream:
        data = stream.read()
        module = parse_module(data, name=path, machines=_MACHINES.get(os.uname().machine))
        if os.geteuid() != 0:
            raise NeedsRoot(f"{path}: loading needs CAP_SYS_MODULE", remedy="run it as root")
        plain = compression_of(data) is Compression.NONE
        hazard = read_load_hazard(root, stream.fileno()) if plain else None
        if hazard and hazard.certain and not force:
            raise Refused(f"{path}: {hazard.text}", remedy=f"{hazard.remedy}; or accept that with --force")
        with KmsgTail(root) as tail, LoadTrace(root, module.name) as trace:
            if plain:
                call = finit_module(stream.fileno(), params, seconds=seconds, kill=False)
            else:
                call = init_module(bytes(module.elf.data), params, seconds=seconds, kill=False)
            warning = f"{hazard.text}; {hazard.remedy}" if hazard else ""
            return LoadResult(
                module.name, call, trace.init_reached(), tail.read_new(), tail.note, warning=warning
            )


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise LkmError(
            f"{path} cannot be read: {error.strerror}", remedy="name a module file (.ko)"
        ) from error
