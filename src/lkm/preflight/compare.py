# SPDX-License-Identifier: MIT
"""What two kernels export, compared; and which modules the difference hits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple, Optional

from lkm.preflight.kernel import KernelExport

__all__ = ["Change", "ChangeKind", "Hit", "compare_exports", "hits"]


class ChangeKind(Enum):
    """In what a symbol differs. A module breaks by REMOVED, CRC, and where it concerns it by the last two."""

    ADDED = "added"
    REMOVED = "removed"
    CRC = "crc"
    LICENCE = "licence"
    NAMESPACE = "namespace"


class Change(NamedTuple):
    """One symbol that differs: how it was (None: it was not there) and how it is."""

    name: str
    kinds: tuple[ChangeKind, ...]
    before: Optional[KernelExport]
    after: Optional[KernelExport]


class Hit(NamedTuple):
    """A module, and those changes that it runs into."""

    module: str
    changes: tuple[Change, ...]


def compare_exports(
    before: Mapping[str, KernelExport], after: Mapping[str, KernelExport]
) -> tuple[Change, ...]:
    """Every symbol that is not the same in both, by name. CRCs count where both have them."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        kinds = _kinds(old, new)
        if kinds:
            found.append(Change(name, kinds, old, new))
    return tuple(found)


def _kinds(old: Optional[KernelExport], new: Optional[KernelExport]) -> tuple[ChangeKind, ...]:
    if old is None or new is None:
        return (ChangeKind.ADDED,) if old is None else (ChangeKind.REMOVED,)
    differs = {
        ChangeKind.CRC: None not in (old.crc, new.crc) and old.crc != new.crc,
        ChangeKind.LICENCE: old.gpl != new.gpl,
        ChangeKind.NAMESPACE: old.namespace != new.namespace,
    }
    return tuple(kind for kind, is_so in differs.items() if is_so)


def hits(
    module: str,
    imports: Iterable[str],
    namespaces: Iterable[str],
    changes: Mapping[str, Change],
    *,
    proprietary: bool,
) -> Hit:
    """What of the changes breaks a module that has these imports and namespaces."""
    known = set(namespaces)
    found = []
    for name in imports:
        change = changes.get(name)
        if change is not None and _breaks(change, known, proprietary=proprietary):
            found.append(change)
    return Hit(module, tuple(found))


def _breaks(change: Change, namespaces: set[str], *, proprietary: bool) -> bool:
    if change.after is None or ChangeKind.CRC in change.kinds:
        return True
    if ChangeKind.LICENCE in change.kinds and proprietary and change.after.gpl:
        return True
    return (
        ChangeKind.NAMESPACE in change.kinds
        and bool(change.after.namespace)
        and (change.after.namespace not in namespaces)
    )
