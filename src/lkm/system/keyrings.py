# SPDX-License-Identifier: MIT
"""Whether the kernel has a key among those that it verifies modules with.

/proc/keys lists keys and keyrings, and does not say which key is in which: keyctl(2) reads the rings that
matter. Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import os
from typing import Optional

from lkm.formats.keys import parse_proc_keys
from lkm.root import Root
from lkm.system.files import read_text

__all__ = ["KEYRINGS", "keyrings_with"]

KEYRINGS = (".builtin_trusted_keys", ".secondary_trusted_keys", ".machine", ".platform")
"""Where mod_verify_sig looks: the second, which links to the first and the third (5.18), and in kernels of
Debian, Fedora, SUSE and Ubuntu, by a patch of theirs, the fourth."""

_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_READ = 11  # include/uapi/linux/keyctl.h
_MAX_KEYS = 4096


def keyrings_with(root: Root, key_id: str) -> Optional[tuple[str, ...]]:
    """The rings of `KEYRINGS` with the key `key_id` (see `KernelKey.id`); None where they cannot be read."""
    keys = parse_proc_keys(read_text(root.join("/proc/keys")) or "")
    rings = [(key.name, key.serial) for key in keys if key.type == "keyring" and key.name in KEYRINGS]
    wanted = {key.serial for key in keys if key.id and key.id == key_id}
    if not rings:
        return None
    if not wanted:
        return ()
    members = {name: _read_keyring(serial) for name, serial in rings}
    if any(found is None for found in members.values()):
        return None
    return tuple(name for name in KEYRINGS if wanted & (members.get(name) or set()))


def _read_keyring(serial: int) -> Optional[set[int]]:
    """The serial numbers of its keys; None if it may not be read."""
    import ctypes

    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = (ctypes.c_int32 * _MAX_KEYS)()
    size = libc.syscall(
        ctypes.c_long(number),
        ctypes.c_ulong(_KEYCTL_READ),
        ctypes.c_ulong(serial),
        buffer,
        ctypes.c_size_t(ctypes.sizeof(buffer)),
    )
    return None if size < 0 else set(buffer[: min(size // 4, _MAX_KEYS)])
