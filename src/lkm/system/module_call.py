# SPDX-License-Identifier: MIT
"""What another thread's init_module, finit_module or delete_module is about, from its arguments.

All best effort: the process may end, hide its memory, or change what it passed. Then its command line has
the name, perhaps.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Optional

from lkm.errors import ParseError
from lkm.names import module_name, module_name_from_path
from lkm.root import Root
from lkm.system.files import read_bytes
from lkm.system.snapshot import Task

__all__ = ["ModuleCall", "read_module_call"]

_NAME_BYTES = 64
_IMAGE_BYTES = 1 << 28
"""Largest module image that is read from a process: 256 MiB."""


class ModuleCall(NamedTuple):
    """The module's name ("" if the arguments do not tell) and the symbols that its file imports.

    guess  what the command line names: modprobe loads other modules before that one
    """

    subject: str = ""
    imports: tuple[str, ...] = ()
    guess: str = ""


def read_module_call(root: Root, task: Task, arguments: tuple[int, ...]) -> ModuleCall:
    """What `task.call` with these arguments (numbers of /proc/PID/syscall; empty: unknown) is about."""
    base = root.join(f"/proc/{task.pid}/task/{task.tid}")
    found = ModuleCall()
    if not arguments:
        pass
    elif task.call == "delete_module":
        data = _read_memory(f"{base}/mem", arguments[0], _NAME_BYTES)
        found = ModuleCall(module_name(data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")))
    elif task.call == "finit_module":
        found = _of_image(_read_file(f"{base}/fd/{arguments[0] & 0xFFFFFFFF}"))
    elif task.call == "init_module" and arguments[1] <= _IMAGE_BYTES:
        found = _of_image(_read_memory(f"{base}/mem", arguments[0], arguments[1]))
    return found if found.subject else found._replace(guess=_of_command_line(task))


def _of_image(data: Optional[bytes]) -> ModuleCall:
    if not data:
        return ModuleCall()
    from lkm.formats.module import parse_module

    try:
        module = parse_module(data)
    except ParseError:
        return ModuleCall()
    return ModuleCall(module.name if module.name != "<bytes>" else "", module.imports)


def _of_command_line(task: Task) -> str:
    """The module file among the words, or the last word of rmmod or modprobe that is no option."""
    words = task.command_line.split()
    for word in words[1:]:
        if word.endswith((".ko", ".ko.gz", ".ko.xz", ".ko.zst")):
            return module_name_from_path(word)
    plain = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    tool = os.path.basename(words[0]) if words else ""
    if tool in {"rmmod", "modprobe"} and len(plain) == 1:
        return module_name_from_path(plain[0])
    return ""


def _read_file(path: str) -> Optional[bytes]:
    """The regular file behind a descriptor of another process."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size > _IMAGE_BYTES:
        return None
    return read_bytes(path, limit=_IMAGE_BYTES)


def _read_memory(path: str, address: int, size: int) -> bytes:
    """Up to `size` bytes at `address` of /proc/PID/mem; fewer where the mapping ends, none if hidden."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    pieces = []
    try:
        while size > 0:
            piece = os.pread(handle, min(size, 1 << 20), address)
            if not piece:
                break
            pieces.append(piece)
            address += len(piece)
            size -= len(piece)
    except (OSError, OverflowError):  # the mapping ends, or the process has
        pass
    finally:
        os.close(handle)
    return b"".join(pieces)
