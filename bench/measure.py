# SPDX-License-Identifier: MIT
"""What a benchmark gives: two medians, their ratio, and the bounds that hold for them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

__all__ = ["Comparison", "progress", "time_call", "time_process"]


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours and of the peer's, measured in turns in one run.

    times_faster  the least ratio peer : ours
    times_slower  the greatest ratio ours : peer
    share_at_most the greatest part of the peer's median that ours may take
    at_most       the greatest median of ours, in seconds
    parts         what ours is made of: name and seconds
    broken        what else is not as it must be
    """

    name: str
    ours: Sequence[float]
    peer_name: str
    peer: Sequence[float]
    times_faster: float | None = None
    times_slower: float | None = None
    share_at_most: float | None = None
    at_most: float | None = None
    parts: Sequence[tuple[str, float]] = ()
    broken: Sequence[str] = ()

    @property
    def ours_median(self) -> float:
        """Seconds."""
        return statistics.median(self.ours)

    @property
    def peer_median(self) -> float:
        """Seconds."""
        return statistics.median(self.peer)

    def misses(self) -> list[str]:
        """The bounds that do not hold, each in a sentence."""
        ours, peer = self.ours_median, self.peer_median
        found = list(self.broken)
        if self.times_faster is not None and peer < self.times_faster * ours:
            found.append(f"{self.name}: {peer / ours:.1f} times faster, not {self.times_faster:g}")
        if self.times_slower is not None and ours > self.times_slower * peer:
            found.append(f"{self.name}: {ours / peer:.1f} times slower, at most {self.times_slower:g}")
        if self.share_at_most is not None and ours > self.share_at_most * peer:
            found.append(f"{self.name}: {ours / peer:.2f} of the peer's time, at most {self.share_at_most:g}")
        if self.at_most is not None and ours > self.at_most:
            found.append(f"{self.name}: {ours:.3f} s, at most {self.at_most:g} s")
        return found

    def bound(self) -> str:
        """The bounds, in words."""
        words = []
        if self.times_faster is not None:
            words.append(f"≥ {self.times_faster:g} × faster")
        if self.times_slower is not None:
            words.append(f"≤ {self.times_slower:g} × slower")
        if self.share_at_most is not None:
            words.append(f"≤ {self.share_at_most:g} of its time")
        if self.at_most is not None:
            words.append(f"≤ {self.at_most:g} s")
        return ", ".join(words) or "none"

    def ratio(self) -> str:
        """How the two compare, in words."""
        ours, peer = self.ours_median, self.peer_median
        if self.share_at_most is not None:
            return f"{ours / peer:.2f} of its time"
        return f"{peer / ours:.1f} × faster" if peer >= ours else f"{ours / peer:.1f} × slower"

    def to_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "ours": list(self.ours),
            "ours_median": self.ours_median,
            "peer_name": self.peer_name,
            "peer": list(self.peer),
            "peer_median": self.peer_median,
            "peer_to_ours": self.peer_median / self.ours_median,
            "bound": self.bound(),
            "parts": dict(self.parts),
            "misses": self.misses(),
        }


def progress(line: str) -> None:
    """A line on what is going on."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def time_call(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def time_process(argv: Sequence[str], *, codes: Sequence[int] = (0,)) -> float:
    """Seconds from the start of a process to its end. Raises RuntimeError if its exit code is none of `codes`."""
    start = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in codes:
        raise RuntimeError(
            f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.decode(errors='replace')}"
        )
    return seconds
