# SPDX-License-Identifier: MIT
"""What a live place is in words, and what happens when the pointer in it is followed.

A cache of its own has one type of object: the member that points is named by BTF. Objects of the general
caches (kmalloc-*) can be anything: `general` knows some.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.system.kernel_tasks import read_task
from lkm.system.memory import KernelMemory
from lkm.system.scan.general import identify_general, is_general
from lkm.system.scanned import Place, PlaceKind

__all__ = ["identify", "is_abandoned", "is_known"]


class _Type(NamedTuple):
    """The objects of a cache: their struct, and what happens with them."""

    struct: str
    event: str


_CACHES = {
    "filp": _Type("file", "the next use of that open file, its close too, calls freed code"),
    "dentry": _Type("dentry", "the next look-up or open of {name!r} calls freed code"),
    "proc_dir_entry": _Type("proc_dir_entry", "the first look at it in /proc oopses"),
    "kernfs_node_cache": _Type("kernfs_node", "the next read of the file {name!r} in sysfs calls freed code"),
    "debugfs_inode_cache": _Type(
        "debugfs_inode_info", "the next open of {name!r} in debugfs calls freed code"
    ),
    "inode_cache": _Type("inode", "the next use of that inode calls freed code"),
    "sock_inode_cache": _Type("socket_alloc", "the next use of that socket calls freed code"),
    "proc_inode_cache": _Type("proc_inode", "the next use of that file in /proc calls freed code"),
    "shmem_inode_cache": _Type("shmem_inode_info", "the next use of that device node calls freed code"),
    "task_struct": _Type("task_struct", "that task calls freed code"),
    "vm_area_struct": _Type("vm_area_struct", "the next fault in, or end of, that mapping calls freed code"),
    "mnt_cache": _Type("mount", "the next use of that mount calls freed code"),
    "net_namespace": _Type("net", "the next use of that network namespace calls freed code"),
    "perf_event": _Type("perf_event", "the end of that perf event calls freed code"),
    "key_jar": _Type("key", "the next use of that key calls freed code"),
    "skbuff_head_cache": _Type("sk_buff", "the end of that packet calls freed code"),
    "bdev_cache": _Type("bdev_inode", "the next use of that block device calls freed code"),
}


_KERNFS_TYPE, _KERNFS_DIR = 0xF, 1
"""Of `flags` (include/linux/kernfs.h)."""
_TREE_NODES = "radix_tree_node"
"""The cache of struct xa_node."""


def identify(memory: KernelMemory, place: Place, value: int) -> Optional[tuple[str, str]]:
    """What it is and the event, or None where nobody can tell. `value` is the pointer there. Raises `LkmError` for
    memory that is gone."""
    if place.kind is PlaceKind.STACK:
        return _waiter(memory, place, value)
    if place.kind is PlaceKind.SLAB and place.name == _TREE_NODES:
        return _tree_entry(memory, place)
    if place.kind is PlaceKind.SLAB:
        return identify_general(memory, place) if is_general(place.name) else _slab(memory, place)
    if place.kind is PlaceKind.KERNEL:
        named = place.name or f"variable at {place.address:#x}"
        return (
            f"the kernel's variable {place}",
            f"whatever next follows the kernel's {named} meets freed memory",
        )
    if place.kind is PlaceKind.PER_CPU and not place.module:
        named = place.name or f"per-CPU variable at {place.address:#x}"
        return f"the kernel's {place}", f"whatever next follows {named} meets freed memory"
    if place.kind is PlaceKind.PER_CPU:
        return f"{place}", f"the next use of its per-CPU data by the module {place.module} meets freed memory"
    if place.kind is PlaceKind.MODULE and place.name:
        return (
            f"data of the module {place.module}: {place}",
            f"the next use of {place.name} by the module {place.module} meets freed memory",
        )
    return None


def _tree_entry(memory: KernelMemory, place: Place) -> Optional[tuple[str, str]]:
    """An entry of a tree (IDR, XArray) that is a variable of the kernel: each node points to its tree."""
    if place.offset < memory.offset("xa_node", "slots"):
        return None
    tree = memory.u64(place.start + memory.offset("xa_node", "array"))
    if not memory.symbols.address("_sdata") <= tree < memory.symbols.address("_end"):
        return None
    symbol = memory.symbolize(tree)
    name = symbol.name if symbol else f"tree at {tree:#x}"
    return f"an entry of {name}", f"the next look-up in the kernel's {name} meets freed memory"


def _waiter(memory: KernelMemory, place: Place, value: int) -> Optional[tuple[str, str]]:
    """A task that waits in a list whose head is in the module: the words of its stack and of the head point to each
    other (struct list_head, of a wait queue, a completion, a mutex). Other words of a stack may be left over."""
    if place.pid is None or value & 7:
        return None
    following, before = memory.words(value, 2)
    if following != place.address - 8 and before != place.address:
        return None
    return (
        f"{place}, which waits there",
        f"{place.name} (pid {place.pid}) follows its wait queue into freed memory as soon as it wakes",
    )


def is_abandoned(memory: KernelMemory, place: Place) -> bool:
    """Whether an allocated object is out of use and waits only for its last reference: a kernfs_node that was removed
    (kernfs_drain: `active` is negative, KN_DEACTIVATED_BIAS), a task that has ended. Raises `LkmError`."""
    if place.kind is PlaceKind.SLAB and place.name == "task_struct":
        return not read_task(memory, place.start).alive
    if place.kind is not PlaceKind.SLAB or place.name != "kernfs_node_cache":
        return False
    return memory.i32(place.start + memory.offset("kernfs_node", "active")) < 0


def is_known(place: Place) -> bool:
    """Whether the place is in a cache of objects of the kernel's own, known here."""
    return place.name in _CACHES


def _slab(memory: KernelMemory, place: Place) -> Optional[tuple[str, str]]:
    kind = _CACHES.get(place.name)
    if kind is None or (
        place.shared and not _is_really(memory, kind.struct, place.start)
    ):  # which member it is, and whether that is ever followed, nobody can tell
        return None
    member = _member(memory, kind.struct, place.offset)
    name = _name(memory, kind.struct, place.start)
    what = f"{kind.struct}{f'.{member}' if member else ''}{f' of {name}' if name else ''}"
    return what, kind.event.format(name=name or "?")


def _is_really(memory: KernelMemory, struct: str, start: int) -> bool:
    """Whether the object is of that type, in a cache that has others too. Raises `LkmError`."""
    if struct == "file":
        inode = memory.u64(start + memory.offset("file", "f_inode"))
        dentry = memory.u64(start + memory.offset("file", "f_path.dentry"))
        return bool(inode) and memory.u64(dentry + memory.offset("dentry", "d_inode")) == inode
    if struct == "vm_area_struct":
        first, end = (memory.u64(start + memory.offset(struct, name)) for name in ("vm_start", "vm_end"))
        return first < end and not (first | end) & 0xFFF
    if struct == "kernfs_node":
        parent = memory.u64(start + memory.offset("kernfs_node", "parent", "__parent"))
        flags = memory.offset("kernfs_node", "flags")
        return memory.u8(parent + flags) & _KERNFS_TYPE == _KERNFS_DIR and bool(_name(memory, struct, start))
    return False


def _member(memory: KernelMemory, struct: str, offset: int) -> str:
    """The direct member that lies at `offset`, "" where there is none."""
    try:
        members = memory.types.struct(struct).members
    except LkmError:
        return ""
    before = [each for each in members if each.bit_offset <= 8 * offset]
    return max(before, key=lambda each: each.bit_offset).name if before else ""


def _name(memory: KernelMemory, struct: str, start: int) -> str:
    """The name that the object itself has."""
    if struct == "dentry":
        return memory.text(memory.u64(start + memory.offset("dentry", "d_name.name")), "")
    if struct in ("kernfs_node", "proc_dir_entry"):
        return memory.text(memory.u64(start + memory.offset(struct, "name")), "")
    if struct == "file":
        return memory.text(_dentry_name(memory, start), "")
    if struct == "debugfs_inode_info":
        return memory.text(_inode_name(memory, start + memory.offset(struct, "vfs_inode")), "")
    if struct == "task_struct":
        return memory.text(start + memory.offset("task_struct", "comm"), "")
    return ""


def _inode_name(memory: KernelMemory, inode: int) -> int:
    """The name of an inode's first dentry."""
    node = memory.u64(inode + memory.offset("inode", "i_dentry"))
    dentry = node - memory.offset("dentry", "d_u.d_alias", "d_alias")
    return memory.u64(dentry + memory.offset("dentry", "d_name.name")) if node else 0


def _dentry_name(memory: KernelMemory, file: int) -> int:
    dentry = memory.u64(file + memory.offset("file", "f_path.dentry"))
    return memory.u64(dentry + memory.offset("dentry", "d_name.name")) if dentry else 0
