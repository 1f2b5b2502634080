# SPDX-License-Identifier: MIT
"""Whether finit_module(2) of a file is safe on this machine: what dangles in `idem_hash` may be in its way.

Nothing dangles before a first oops, and that taints the kernel (TAINT_DIE, include/linux/panic.h), so a look at
the taint is all that it costs on a machine without one.
"""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Optional

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.file_operations import descriptors
from lkm.system.files import read_number
from lkm.system.idempotent import read_load_table
from lkm.system.kernel_tasks import process_addresses, read_task
from lkm.system.load_table import LoadTable, hash_of
from lkm.system.memory import KernelMemory, read_memory

__all__ = ["LoadHazard", "hazard_of", "inode_of", "read_load_hazard"]

_TAINT_DIE = 1 << 7
_FIRST_RELEASE = (6, 5)
"""The first with idempotent_init_module (kernel/module/main.c)."""


class LoadHazard(NamedTuple):
    """`certain`: this very load would crash, or never end. Otherwise it is other files, or it is not known."""

    text: str
    remedy: str
    certain: bool


def read_load_hazard(root: Root, handle: int) -> Optional[LoadHazard]:
    """What would be in the way of finit_module(2) of the file that is open as `handle`; None: nothing is known to be.

    The file must stay open: its inode, whose address names the bucket, then stays where it is.
    """
    taint = read_number(root.join("/proc/sys/kernel/tainted"))
    if taint is not None and not taint & _TAINT_DIE:
        return None
    memory, error = read_memory(root)
    if memory is None:
        return _unknown(error) if _may_have_table(root.release) else None
    return hazard_of(read_load_table(root, memory), lambda: inode_of(memory, handle))


def hazard_of(table: LoadTable, inode: Callable[[], int]) -> Optional[LoadHazard]:
    """The hazard that lies in this table for the file whose inode is at that address."""
    if not table.present:
        return None
    if table.error:
        return _unknown(table.error)
    if table.lock_held:
        text = "idem_lock is held at every look: finit_module(2) would spin for ever"
        return LoadHazard(text, "lkm heal releases it, where its holder is dead", certain=True)
    if not table.dangling:
        return _hazard_of_orphans(table, inode)
    where = ", ".join(str(bucket.number) for bucket in table.dangling)
    what = f"the entry of a dead load dangles in idem_hash (bucket {where})"
    try:
        number = hash_of(inode())
    except LkmError as error:
        text = f"{what}; where this file falls is not known ({error.message})"
        return LoadHazard(text, "lkm heal takes it out", certain=False)
    if table.bucket(number) in table.dangling:
        text = f"{what}, and this file falls into it: the kernel would crash"
        return LoadHazard(text, "lkm heal takes it out", certain=True)
    return LoadHazard(
        f"{what}; this file does not fall into it, others do", "lkm heal takes it out", certain=False
    )


def _hazard_of_orphans(table: LoadTable, inode: Callable[[], int]) -> Optional[LoadHazard]:
    """Whoever finds an entry of the same file waits for it (idempotent, 6.5 to 7.x), also for one that only waits."""
    reached = {address for bucket in table.buckets for address in bucket.chain}
    orphans = [node for node in table.orphans if node.address in reached]
    if not orphans:
        return None
    what = f"pid {orphans[0].pid} ({orphans[0].command}) waits for a load that died"
    try:
        cookie = inode()
    except LkmError as error:
        text = f"{what}; whether it is of this file is not known ({error.message})"
        return LoadHazard(text, "lkm heal ends that", certain=False)
    if any(node.cookie == cookie for node in orphans):
        return LoadHazard(f"{what}, of this file: it would wait for ever", "lkm heal ends that", certain=True)
    return None


def inode_of(memory: KernelMemory, handle: int) -> int:
    """The address of the inode behind a descriptor of this process. LkmError where it cannot be told."""
    own = os.getpid()
    for leader in process_addresses(memory):
        if read_task(memory, leader).pid != own:
            continue
        files = memory.pointer(leader + memory.offset("task_struct", "files"))
        file = dict(descriptors(memory, files)).get(handle)
        if file:
            inode = memory.pointer(file + memory.offset("file", "f_inode"))
            if inode:
                return inode
    raise LkmError(f"descriptor {handle} of process {own} is not in the kernel's tables")


def _may_have_table(release: str) -> bool:
    numbers = [int(part) if part.isdigit() else 0 for part in release.replace("-", ".").split(".")[:2]]
    return tuple(numbers) >= _FIRST_RELEASE


def _unknown(why: str) -> LoadHazard:
    text = f"the kernel has had an oops, and whether a dead load dangles in idem_hash cannot be told ({why})"
    return LoadHazard(text, "see dmesg: if an init died, do not load its file again", certain=False)
