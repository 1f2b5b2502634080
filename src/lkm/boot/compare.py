# SPDX-License-Identifier: MIT
"""Two boots side by side: what became slower or faster, what is new, what is gone."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Optional

from lkm.boot.timeline import Run, Timeline

__all__ = ["Difference", "compare"]


class Difference(NamedTuple):
    """One function in two boots; `before` or `after` is None where it was not called. All in microseconds."""

    function: str
    module: str
    level: str
    before: Optional[int]
    after: Optional[int]
    result_before: Optional[int]
    result_after: Optional[int]

    @property
    def change(self) -> int:
        """How much longer it takes now; what is missing takes no time."""
        return (self.after or 0) - (self.before or 0)


def compare(before: Timeline, after: Timeline) -> list[Difference]:
    """Every initcall of either boot, the greatest change first; the n-th call of a name with the n-th."""
    old, new = _by_name(before), _by_name(after)
    found = []
    for key in {**old, **new}:
        was, now = old.get(key), new.get(key)
        run = now or was
        assert run is not None  # the key is of one of the two
        found.append(
            Difference(
                run.function,
                run.module,
                run.initcall.level.value if run.initcall else "",
                was.usecs if was else None,
                now.usecs if now else None,
                was.result if was else None,
                now.result if now else None,
            )
        )
    return sorted(found, key=lambda row: -abs(row.change))


def _by_name(timeline: Timeline) -> dict[tuple[str, int], Run]:
    found: dict[tuple[str, int], Run] = {}
    seen: Counter[str] = Counter()
    for run in timeline.runs:
        if run.kind == "initcall":
            found[run.function, seen[run.function]] = run
            seen[run.function] += 1
    return found
