# SPDX-License-Identifier: MIT
"""Who depends on whom: names to modules, the order of users before what they use, loops.

Modules are numbers here: their place in kmod's order. Source: kmod 34, tools/depmod.c
(`depmod_load_module_dependencies`, `depmod_calculate_dependencies`, `depmod_report_cycles`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from operator import not_

__all__ = [
    "KERNEL",
    "find_cycles",
    "owners_of",
    "plain_name",
    "sort_users_first",
    "transitive",
    "used_by",
    "used_by_and_split",
]

KERNEL = 0
"""In place of a module, which counts from 1 here: the name is the kernel's own."""

_MAX_CYCLES = 1000  # that are told; a dense graph has exponentially many
_MAX_STEPS = 5_000_000  # of looking for them, each about 0.1 us: there may be many ways that are none


def owners_of(exports: Sequence[bytes], prefix: bytes, kernel: dict[bytes, int]) -> dict[bytes, int]:
    """Name → module, counted from 1. `exports` has each module's names, with NULs behind; the last exporter wins.

    prefix  a byte that is dropped where a name begins with it
    kernel  what the kernel exports, if that is known; kept where no module exports the same
    """
    owners = dict(kernel)
    for number, names in enumerate(exports, 1):
        if names:
            items = names[:-1].split(b"\0")
            if prefix:
                items = [item[1:] if item[:1] == prefix else item for item in items]
            owners.update(dict.fromkeys(items, number))
    owners.pop(b"", None)  # the end of every list of names would mean it
    return owners


def used_by(imports: bytes, owners: dict[bytes, int], prefix: bytes) -> list[int]:
    """The modules that export one of `imports` (each with a NUL behind it), in the order of first need."""
    items = imports.split(b"\0")
    if prefix or imports[:1] == b"." or b"\0." in imports:
        items = [plain_name(item, prefix) for item in items]
    return [number - 1 for number in dict.fromkeys(map(owners.get, items)) if number]


def used_by_and_split(imports: bytes, owners: dict[bytes, int]) -> tuple[list[int], bytes, bytes]:
    """As `used_by`; then the imports that a module exports, each with a NUL behind it, and the others.

    The others have a NUL before the first, too.
    """
    items = imports.split(b"\0")
    if imports[:1] == b"." or b"\0." in imports:
        found = [owners.get(plain_name(item, b"")) for item in items]
    else:
        found = list(map(owners.get, items))
    met = b"\0".join(compress(items, found))
    unmet = b"\0".join(compress(items, map(not_, found)))  # the last item is empty: a NUL ends it
    users = [number - 1 for number in dict.fromkeys(found) if number]
    return users, met + b"\0" if met else b"", b"\0" + unmet


def plain_name(name: bytes, prefix: bytes) -> bytes:
    """PowerPC's `.foo` is `foo`; then the prefix of the architecture goes."""
    name = name[1:] if name[:1] == b"." else name
    return name[1:] if prefix and name[:1] == prefix else name


def sort_users_first(used: Sequence[Sequence[int]]) -> list[int]:
    """All modules, each before those that it uses; fewer than all if there is a loop."""
    users = [0] * len(used)
    for uses in used:
        for number in uses:
            users[number] += 1
    free = [number for number, count in enumerate(users) if not count]
    ordered = []
    while free:
        number = free.pop()
        ordered.append(number)
        for other in used[number]:
            users[other] -= 1
            if not users[other]:
                free.append(other)
    return ordered


def transitive(used: Sequence[Sequence[int]], ordered: Sequence[int]) -> list[list[int]]:
    """For each module all that it needs, users first: the modules as `ordered` has them."""
    rank = [0] * len(ordered)
    for place, number in enumerate(ordered):
        rank[number] = place
    ranks: list[list[int]] = [[]] * len(ordered)
    for number in reversed(ordered):
        uses = used[number]
        if len(uses) == 1:
            ranks[number] = [rank[uses[0]], *ranks[uses[0]]]
        elif uses:
            places = {rank[other] for other in uses}
            for other in uses:
                places.update(ranks[other])
            ranks[number] = sorted(places)
    return [[ordered[place] for place in places] for places in ranks]


def find_cycles(
    used: Sequence[Sequence[int]], ordered: Sequence[int], report: Callable[[list[int]], None]
) -> int:
    """Tell `report` each loop, as kmod finds them; returns how many modules are in loops.

    A loop begins and ends with the same module. A module that is in several loops is told with each. Where there
    are too many ways, one loop of each module is told that is in none so far, a shortest.
    """
    done = set(ordered)
    roots = [number for number in range(len(used)) if number not in done]
    inside: set[int] = set()
    told = steps = 0
    while roots:
        root = roots.pop(0)
        looping = _reaching(root, used, done)
        stack: list[tuple[int, tuple[int, ...]]] = [(root, ())]
        while stack and told < _MAX_CYCLES and steps < _MAX_STEPS:
            number, path = stack.pop()
            steps += (len(path) + 1) * (len(used[number]) + 1)
            if path and number == root:
                told += 1
                report([*path, root])
                inside.update(path)
                for other in path:
                    roots = _without(roots, other)
                continue
            if not used[number]:
                roots = _without(roots, number)
            longer = (*path, number)
            stack += [
                (other, longer)
                for other in used[number]
                if not used[other] or (other in looping and other not in longer[1:])
            ]
        if stack and root not in inside:
            shortest = _shortest_loop(root, used, looping)
            if shortest and told < _MAX_CYCLES:
                told += 1
                report([*shortest, root])
            inside.update(shortest)
    return len(inside)


def _shortest_loop(root: int, used: Sequence[Sequence[int]], looping: set[int]) -> list[int]:
    """The modules on a shortest way from `root` to itself, `root` first; none if there is no way."""
    before: dict[int, int] = {}
    todo = [root]
    for number in todo:
        for other in used[number]:
            if other == root:
                path = [number]
                while path[-1] != root:
                    path.append(before[path[-1]])
                return path[::-1]
            if other in looping and other not in before:
                before[other] = number
                todo.append(other)
    return []


def _without(ring: list[int], number: int) -> list[int]:
    """kmod's list is a ring: without an item it begins behind it (`kmod_list_remove_data`, libkmod-list.c)."""
    if number not in ring:
        return ring
    place = ring.index(number)
    return ring[place + 1 :] + ring[:place]


def _reaching(root: int, used: Sequence[Sequence[int]], done: set[int]) -> set[int]:
    """The modules from which `root` can be reached, among those that are not `done`."""
    users: dict[int, list[int]] = {}
    for number, uses in enumerate(used):
        for other in uses if number not in done else ():
            users.setdefault(other, []).append(number)
    found, todo = {root}, [root]
    while todo:
        for number in users.get(todo.pop(), ()):
            if number not in found:
                found.add(number)
                todo.append(number)
    return found
