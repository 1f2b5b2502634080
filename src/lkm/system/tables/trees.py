# SPDX-License-Identifier: MIT
"""Look-ups by index in the kernel's trees: XArray (also under its old name radix tree) and maple tree.

Source: include/linux/xarray.h (`xa_is_node`, `xa_to_node`) and lib/maple_tree.c (`mtree_range_walk`,
`mte_to_node`), 5.10 to 7.x.
"""

from __future__ import annotations

from lkm.errors import LkmError
from lkm.system.kcore import KcoreError
from lkm.system.memory import KernelMemory

__all__ = ["maple_load", "xarray_load"]

_MAX_DEPTH = 16
_NODE_TAG, _SMALLEST_NODE = 2, 4096
"""An entry is a node if its low bits are 10 and it is above the small internal values (XA_ZERO_ENTRY …)."""


def _is_node(entry: int) -> bool:
    return entry & 3 == _NODE_TAG and entry > _SMALLEST_NODE


def _as_pointer(entry: int) -> int:
    """A leaf: a pointer, or 0 for a value or an internal entry."""
    return 0 if entry & 3 or entry < _SMALLEST_NODE else entry


def xarray_load(memory: KernelMemory, xarray: int, index: int) -> int:
    """The pointer at `index` of the struct xarray there, or 0. Raises `LkmError` for a broken tree."""
    entry = memory.u64(xarray + memory.offset("xarray", "xa_head"))
    shift_at, slots = memory.offset("xa_node", "shift"), memory.offset("xa_node", "slots")
    fan_out = memory.types.member_size("xa_node", "slots") // 8
    top = True
    for _ in range(_MAX_DEPTH):
        if not _is_node(entry):
            return _as_pointer(entry) if not top or index == 0 else 0
        node = entry - _NODE_TAG
        shift = memory.u8(node + shift_at)
        if top and index >> shift >= fan_out:
            return 0
        top = False
        entry = memory.u64(node + slots + 8 * ((index >> shift) % fan_out))
        if shift == 0:
            return _as_pointer(entry)
    raise KcoreError(f"the tree at {xarray:#x} is deeper than {_MAX_DEPTH}")


# enum maple_type (include/linux/maple_tree.h): the struct of a node, and whether its slots are entries
_MAPLE = {1: ("maple_range_64", True), 2: ("maple_range_64", False), 3: ("maple_arange_64", False)}


def maple_load(memory: KernelMemory, tree: int, index: int) -> int:
    """The pointer at `index` of the struct maple_tree there, or 0. Raises `LkmError` for a broken tree."""
    entry = memory.u64(tree + memory.offset("maple_tree", "ma_root"))
    if not _is_node(entry):
        return _as_pointer(entry) if index == 0 else 0
    for _ in range(_MAX_DEPTH):
        kind = _MAPLE.get(entry >> 3 & 0xF)
        if kind is None:
            raise LkmError(f"the tree at {tree:#x} has a node of an unknown kind")
        name, leaf = kind
        node = entry & ~0xFF  # below: the kind and, except in the root, MAPLE_ENODE_NULL; nodes are aligned
        slots = memory.types.member_size(name, "slot") // 8
        pivots = memory.words(node + memory.offset(name, "pivot"), slots - 1)
        slot = slots - 1
        for at, pivot in enumerate(pivots):
            if index <= pivot or (pivot == 0 and at):  # 0 after the first: the end of a node that is not full
                slot = at
                break
        entry = memory.u64(node + memory.offset(name, "slot") + 8 * slot)
        if leaf:
            return _as_pointer(entry)
    raise KcoreError(f"the tree at {tree:#x} is deeper than {_MAX_DEPTH}")
