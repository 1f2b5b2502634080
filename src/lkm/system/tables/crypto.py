# SPDX-License-Identifier: MIT
"""Crypto algorithms: `crypto_alg_list` (crypto/algapi.c), and the same as /proc/crypto (crypto/proc.c).

Memory is asked first: the file takes crypto_alg_sem and walks through entries that a freed module left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, owned_pointer, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_crypto"]

_MAX_ALGORITHMS = 8192


def read_crypto(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Algorithms of modules, each with its users: references beyond the first."""
    if memory is not None and memory.has_types:
        try:
            yield from list(_walk(memory, owners))
            return
        except LkmError as error:
            memory.note(f"crypto_alg_list: {error}: /proc/crypto was read")
    yield from _parse(read_guarded(root, "/proc/crypto"), owners)


def _walk(memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    link, size = memory.offset("crypto_alg", "cra_list"), memory.sizeof("crypto_alg")
    name, driver = memory.offset("crypto_alg", "cra_name"), memory.offset("crypto_alg", "cra_driver_name")
    count = memory.offset("crypto_alg", "cra_refcnt")
    head = memory.symbol("crypto_alg_list")
    for node in memory.list_nodes(head, what="crypto_alg_list", limit=_MAX_ALGORITHMS):
        data = memory.read(node - link, size)
        pointer = owned_pointer(memory, owners, "crypto_alg", data, ("cra_module", "cra_init"))
        module = pointer.module if pointer else owners.of(node)
        if module:
            yield _registration(
                _text(data, name),
                _text(data, driver),
                module,
                users=int.from_bytes(data[count : count + 4], "little", signed=True) - 1,
                source="crypto_alg_list in kernel memory",
            )._replace(address=node - link, size=size)


def _text(data: bytes, at: int) -> str:
    """A char array: CRYPTO_MAX_ALG_NAME, 128 bytes."""
    return data[at : at + 128].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _parse(text: str, owners: Owners) -> Iterator[Registration]:
    """Stanzas of `key : value` lines, with an empty line after each."""
    for stanza in text.split("\n\n"):
        fields = {}
        for line in stanza.splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
        module = owners.named(fields.get("module", ""))
        if module:
            count = fields.get("refcnt", "")
            yield _registration(
                fields.get("name", ""),
                fields.get("driver", ""),
                module,
                users=int(count) - 1 if count.isdigit() else None,
                source="/proc/crypto",
            )


def _registration(
    name: str, driver: str, module: ModuleName, *, users: Optional[int], source: str
) -> Registration:
    return Registration(
        RegistrationKind.CRYPTO, name, module, certain=True, source=source, detail=driver, users=users
    )
