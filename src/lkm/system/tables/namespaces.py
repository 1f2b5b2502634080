# SPDX-License-Identifier: MIT
"""Network namespaces: the list `net_namespace_list` of struct net (net/core/net_namespace.c)."""

from __future__ import annotations

from collections.abc import Iterator

from lkm.system.memory import KernelMemory

__all__ = ["network_namespaces"]

_MAX_NAMESPACES = 4096


def network_namespaces(memory: KernelMemory) -> Iterator[int]:
    """The address of each struct net; `init_net` is among them."""
    link = memory.offset("net", "list")
    head = memory.symbol("net_namespace_list")
    for node in memory.list_nodes(head, what="net_namespace_list", limit=_MAX_NAMESPACES):
        yield node - link
