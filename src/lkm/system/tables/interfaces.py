# SPDX-License-Identifier: MIT
"""Network interfaces: `dev_base_head` of each struct net, and the driver that /sys/class/net tells.

Source: include/linux/netdevice.h, 5.10 to 7.x. /sys/class/net has only the reader's namespace, memory has all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables import driver_core
from lkm.system.tables.namespaces import network_namespaces

__all__ = ["INTERFACE_FIELDS", "read_interfaces"]

_MAX_INTERFACES = 1 << 16
_IFF_UP = 1
INTERFACE_FIELDS = ("netdev_ops", "rtnl_link_ops", "ethtool_ops", "header_ops", "priv_destructor")


def read_interfaces(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Interfaces whose operations, or whose device's driver, belong to a module."""
    return driver_core.read_class(
        root, memory, owners, kind=RegistrationKind.INTERFACE, directory="/sys/class/net", walk=_walk
    )


def _walk(memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    link, name = memory.offset("net_device", "dev_list"), memory.offset("net_device", "name")
    flags = memory.offset("net_device", "flags")
    wanted = (*INTERFACE_FIELDS, "dev_list", "name", "flags")
    size = max(memory.offset("net_device", field) for field in wanted) + 16
    initial = memory.symbols.address("init_net")
    for namespace in network_namespaces(memory):
        head = namespace + memory.offset("net", "dev_base_head")
        for node in memory.list_nodes(head, what="dev_base_head", limit=_MAX_INTERFACES):
            data = memory.read(node - link, size)
            pointer = owned_pointer(memory, owners, "net_device", data, INTERFACE_FIELDS)
            if pointer:
                raw = data[name : name + 16].split(b"\0", 1)[0]
                yield Registration(
                    RegistrationKind.INTERFACE,
                    raw.decode("utf-8", "backslashreplace"),
                    pointer.module,
                    certain=True,
                    source="net_device in kernel memory",
                    detail="" if namespace == initial else "in another network namespace",
                    users=data[flags] & _IFF_UP,
                )
