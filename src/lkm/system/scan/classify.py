# SPDX-License-Identifier: MIT
"""What each pointer into a module is: to be followed, expected, left over, or of an unknown owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from lkm.errors import LkmError
from lkm.system.scan.expected import Expected, World
from lkm.system.scan.notified import Notified
from lkm.system.scan.objects import identify, is_abandoned
from lkm.system.scanned import Hit, HitClass, Place, PlaceKind
from lkm.system.snapshot import LoadedModule, Registration

__all__ = ["Classifier"]


class Classifier:
    """For one module: rules in order, the first that fits decides."""

    def __init__(
        self, world: World, module: LoadedModule, found: Sequence[tuple[int, Place]], notified: Notified
    ) -> None:
        self._memory = world.memory
        self._module = module
        self._found = found
        self._expected = Expected(world, module, found, notified)
        self._registered = [
            each for each in world.registrations if each.module == module.name and each.address
        ]

    def hits(self) -> list[Hit]:
        """Each word that was found, in the order of their addresses."""
        return [self._hit(value, place) for value, place in self._found]

    def _hit(self, value: int, place: Place) -> Hit:
        symbol = self._memory.symbolize(value, self._module.name)
        target = (
            f"{symbol.name}+{symbol.offset:#x}" if symbol and symbol.offset else symbol.name if symbol else ""
        )
        hit = Hit(value, target, place, HitClass.UNKNOWN)
        if place.live is False or self._abandoned(place):
            return hit._replace(found=HitClass.STALE)
        reason = self._expected.reason(value, place)
        if reason:
            return hit._replace(found=HitClass.EXPECTED, reason=reason)
        known = self._registration(value, place)
        if known:
            return hit._replace(found=HitClass.LIVE, what=f"{known.kind.value} {known.name}", registered=True)
        found = self._identified(place, value)
        if found and place.live:
            what, event = found
            return hit._replace(found=HitClass.LIVE, what=what, event=event)
        return hit

    def _registration(self, value: int, place: Place) -> Optional[Registration]:
        """The registration whose object points here, or is pointed to."""
        for each in self._registered:
            end = each.address + max(each.size, 1)
            if each.address <= value < end or each.address <= place.address < end:
                return each
            if place.kind is PlaceKind.SLAB and place.start <= each.address < place.start + place.size:
                return each
        return None

    def _abandoned(self, place: Place) -> bool:
        try:
            return is_abandoned(self._memory, place)
        except LkmError:
            return False

    def _identified(self, place: Place, value: int) -> Optional[tuple[str, str]]:
        try:
            return identify(self._memory, place, value)
        except LkmError as error:
            self._memory.note_error(f"the object at {place.start:#x}", error)
            return None
