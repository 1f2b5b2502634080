# SPDX-License-Identifier: MIT
"""Two boots side by side: what became slower or faster, what is new, what is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.boot.timeline import Timeline

__all__ = ["Difference", "compare"]


class Difference(NamedTuple):
    """One initcall, or one probe (`kind`), in two boots, in microseconds; None where it was not called, or did not
    return. Of a probe `function` is the device, and `module` the driver, where the kernel names it.

    new, gone  whether it was called in one of the two boots alone
    """

    kind: str
    function: str
    module: str
    level: str
    before: Optional[int]
    after: Optional[int]
    result_before: Optional[int]
    result_after: Optional[int]
    new: bool = False
    gone: bool = False

    @property
    def change(self) -> int:
        """How much longer it takes now; what is missing takes no time."""
        return (self.after or 0) - (self.before or 0)


class _Measured(NamedTuple):
    """What took time in one boot."""

    kind: str
    function: str
    module: str
    level: str
    usecs: Optional[int]
    result: Optional[int]


def compare(before: Timeline, after: Timeline) -> list[Difference]:
    """Every initcall and every probe of either boot, the greatest change first; the n-th of a name with the n-th."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for key in {**old, **new}:
        was, now = old.get(key), new.get(key)
        either = now or was
        assert either is not None  # the key is of one of the two
        found.append(
            Difference(
                *either[:4],
                was.usecs if was else None,
                now.usecs if now else None,
                was.result if was else None,
                now.result if now else None,
                new=was is None,
                gone=now is None,
            )
        )
    return sorted(found, key=lambda row: -abs(row.change))


def _by_name(timeline: Timeline) -> dict[tuple[str, str, int], _Measured]:
    """A device that several drivers look at is looked at in their order: drivers' names are not in every log."""
    found: dict[tuple[str, str, int], _Measured] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in _measured(timeline):
        number = seen[row.kind, row.function]
        found[row.kind, row.function, number] = row
        seen[row.kind, row.function] += 1
    return found


def _measured(timeline: Timeline) -> Iterator[_Measured]:
    for run in timeline.runs:
        if run.kind == "initcall":
            level = run.initcall.level.value if run.initcall else ""
            yield _Measured("initcall", run.function, run.module, level, run.usecs, run.result)
    for probe in timeline.probes:
        yield _Measured("probe", probe.device, probe.driver, "", probe.usecs, probe.result)
