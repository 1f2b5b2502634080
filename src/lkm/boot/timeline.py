# SPDX-License-Identifier: MIT
"""A boot's timeline: its messages, laid on the table of initcalls.

All times are in seconds since boot, by the clock of the messages; `usecs` is what the kernel measured itself.
Before the clock of the processor is trusted, both may stand still or go in ticks: what took 0 µs by the one is
taken from the other.
"""

from __future__ import annotations

import enum
import errno
import itertools
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from lkm.boot.initcall import FIRST_OF_TABLE, Initcall, Level
from lkm.boot.messages import Call, Event, Probe, Return, Said

__all__ = ["Outcome", "ProbeRun", "Run", "Timeline", "Totals", "make_timeline", "total"]

EPROBE_DEFER = 517
MOST_OPEN = 64
"""Calls that have not returned, which are looked at for a probe."""
ASYNC_PROBES = frozenset({"__device_attach_async_helper", "__driver_attach_async_helper"})
"""The asynchronous functions that probe (drivers/base/dd.c, 5.10 to 7.3)."""
TICK = 0.01
"""Seconds: the longest that a clock goes in before the processor's own is trusted (CONFIG_HZ_100)."""


class Outcome(enum.Enum):
    """What became of a call."""

    OK = "ok"
    ABSENT = "no-device"
    """-ENODEV: a built-in driver whose hardware is not here; harmless."""
    FAILED = "failed"
    DEFERRED = "deferred"
    """-EPROBE_DEFER: something that it needs is not there yet."""
    ODD = "odd"
    """A positive number, which is no result for an initcall."""
    UNFINISHED = "unfinished"
    """It has not returned in these messages."""
    LOST = "lost"
    """Its thread went on, so that it has returned: the message of that is lost."""


class Run(NamedTuple):
    """One call of a function. `kind`: `initcall`, `module` (the init of a loadable one), `async`.

    `called` is false where the message of its begin is lost: then `start` is that of its end less what it took,
    and `pid` 0 where its end does not tell it. `initcall` is its row of the table, None where it has none; `usecs`
    how long it took, None without an end.
    """

    function: str
    module: str
    kind: str
    pid: int
    start: float
    end: Optional[float]
    usecs: Optional[int]
    result: Optional[int]
    outcome: Outcome
    warnings: tuple[str, ...] = ()
    initcall: Optional[Initcall] = None
    called: bool = True


class ProbeRun(NamedTuple):
    """A driver's probe of a device; `run` is the index of the run that it is a part of, None for none, and `within`
    its function, or "".

    `by` says how that is known: `thread`, where the kernel names the thread of each message and that is in this
    call; else `time`: it began and ended while this call was open. `candidates` is how many calls were: with more
    than one it may be another's (the last to begin is taken), and without one a worker's. A probe in an asynchronous
    function is that one's: which initcall has queued it no message tells.
    """

    device: str
    driver: str
    start: float
    end: float
    usecs: int
    result: int
    outcome: Outcome
    within: str
    run: Optional[int] = None
    by: str = "time"
    candidates: int = 0


class Timeline(NamedTuple):
    """`unmatched`: initcalls that ran and are not in the table; `disordered`: that ran before one which stands
    before them; `uncalled`: that are in the table and did not run; `blacklisted`: left out by initcall_blacklist=.
    `init_at` is when the first program started, None if these messages do not say so; `dropped` how many messages a
    console had no time for."""

    release: str
    runs: tuple[Run, ...]
    probes: tuple[ProbeRun, ...]
    init: str
    init_at: Optional[float]
    unmatched: tuple[str, ...]
    disordered: tuple[str, ...]
    uncalled: tuple[str, ...]
    blacklisted: tuple[str, ...]
    dropped: int = 0


class _Place(NamedTuple):
    """Where a probe belongs: as in ProbeRun."""

    run: Optional[int]
    by: str
    candidates: int


def make_timeline(events: Iterable[Event], table: Sequence[Initcall]) -> Timeline:
    """The timeline of one boot; `table` may be empty, then no call has a level."""
    maker = _Maker(table)
    for event in events:
        maker.take(event)
    return maker.finish()


class _Maker:
    """Pairs each call with its return, and with the next row of the table that has its function."""

    def __init__(self, table: Sequence[Initcall]) -> None:
        self._table = [call for call in table if call.level not in {Level.EARLY_SECURITY, Level.SECURITY}]
        self._rows: dict[str, deque[int]] = {}
        for number, call in enumerate(self._table):
            self._rows.setdefault(call.function, deque()).append(number)
        self._runs: list[Run] = []
        self._open: dict[tuple[str, str, int], list[int]] = {}
        self._probes: list[tuple[Probe, _Place]] = []
        self._live: dict[int, None] = {}
        self._said: dict[str, list[Said]] = {}
        self._last = -1
        self._disordered: list[str] = []

    def take(self, event: Event) -> None:
        if isinstance(event, Call):
            self._call(event)
        elif isinstance(event, Return):
            self._end(event)
        elif isinstance(event, Probe):
            self._probes.append((event, self._around(event)))
        else:
            self._said.setdefault(event.about, []).append(event)
            if event.about == "warning":
                self._warn(event)
            elif event.about == "init":
                self._lose("initcall")  # kernel_init (init/main.c) has called them all

    def _call(self, event: Call) -> None:
        run = self._begin(event)
        if run.kind != "async":
            self._lose(run.kind, run.pid)
        place = len(self._runs)
        self._open.setdefault((event.function, event.module, event.asynchronous), []).append(place)
        self._live[place] = None
        self._runs.append(run)

    def _lose(self, kind: str, pid: int = 0) -> None:
        """What is open of `kind` has returned: initcalls are called one after the other, and a thread has one
        module's init at a time (do_one_initcall is not called within itself)."""
        for place in [*itertools.islice(reversed(self._live), MOST_OPEN)]:
            run = self._runs[place]
            if run.kind == kind and (kind == "initcall" or run.pid == pid):
                del self._live[place]
                self._runs[place] = run._replace(outcome=Outcome.LOST)

    def _end(self, event: Return) -> None:
        waiting = self._open.get((event.function, event.module, event.asynchronous))
        while waiting:
            place = waiting.pop()
            if place in self._live:
                del self._live[place]
                self._runs[place] = _ended(self._runs[place], event)
                return
        start = max(0.0, event.time - event.usecs / 1e6)  # its "calling" is lost: overwritten, or dropped
        call = Call(start, event.function, event.module, event.thread or 0, event.asynchronous)
        run = self._begin(call)
        if run.kind == "initcall":
            self._lose(run.kind)
        self._runs.append(_ended(run._replace(called=False), event))

    def _around(self, event: Probe) -> _Place:
        """By its thread the innermost call of that; else the latest that could be it by its time."""
        latest = itertools.islice(reversed(self._live), MOST_OPEN)
        if event.thread is not None:
            own = next((place for place in latest if self._runs[place].pid == event.thread), None)
            return _Place(own, "thread", 0 if own is None else 1)
        start = event.time - event.usecs / 1e6
        slack = 0 if event.usecs % 1000 else TICK
        fitting = [place for place in latest if self._runs[place].start <= start + slack]
        fitting = [place for place in fitting if _may_probe(self._runs[place])]
        return _Place(fitting[0] if fitting else None, "time", len(fitting))

    def _begin(self, event: Call) -> Run:
        kind = "async" if event.asynchronous else "module" if event.module else "initcall"
        row = None
        if kind == "initcall" and self._rows.get(event.function):
            number = self._rows[event.function].popleft()
            if number < self._last:
                self._disordered.append(event.function)
            self._last = max(number, self._last)
            row = self._table[number]
        module = event.module or (row.module if row else "")
        return Run(
            event.function, module, kind, event.pid, event.time, None, None, None, Outcome.UNFINISHED, (), row
        )

    def _warn(self, event: Said) -> None:
        """The warning comes after the function has returned, and after the message that says so."""
        for place in range(len(self._runs) - 1, -1, -1):
            run = self._runs[place]
            if run.function == event.function:
                self._runs[place] = run._replace(warnings=(*run.warnings, event.text))
                return

    def finish(self) -> Timeline:
        said = self._said
        init = said.get("init", [None])[0]
        left_out = {event.function for event in said.get("blacklisted", [])}
        remaining = sorted(number for rows in self._rows.values() for number in rows)
        calls = [run for run in self._runs if run.kind == "initcall"]
        release = said.get("release", [None])[0]
        bound = _result_of_bound(release.text if release else "", [probe.result for probe, _ in self._probes])
        return Timeline(
            release=release.text if release else "",
            runs=tuple(self._runs),
            probes=tuple(_probe_run(probe, place, self._runs, bound) for probe, place in self._probes),
            init=init.text if init else "",
            init_at=init.time if init else None,
            unmatched=tuple(run.function for run in calls if run.initcall is None) if self._table else (),
            disordered=tuple(self._disordered),
            uncalled=tuple(
                name for number in remaining if (name := self._table[number].function) not in left_out
            ),
            blacklisted=tuple(sorted(left_out)),
            dropped=sum(int(event.text) for event in said.get("dropped", [])),
        )


def _may_probe(run: Run) -> bool:
    """Most asynchronous functions probe nothing, and run beside all else."""
    return run.kind != "async" or run.function in ASYNC_PROBES


def _ended(run: Run, event: Return) -> Run:
    usecs = event.usecs or max(0, round((event.time - run.start) * 1e6))
    outcome = outcome_of(event.result)
    return run._replace(end=event.time, usecs=usecs, result=event.result, outcome=outcome)


def outcome_of(result: Optional[int]) -> Outcome:
    """What a function's result means; None is that of an asynchronous one, which has none."""
    if not result:
        return Outcome.OK
    if result > 0:
        return Outcome.ODD
    special = {-errno.ENODEV: Outcome.ABSENT, -EPROBE_DEFER: Outcome.DEFERRED}
    return special.get(result, Outcome.FAILED)


def _result_of_bound(release: str, results: Sequence[int]) -> int:
    """What a probe that binds returns: 1 up to 5.13, since 5.14 0 (really_probe, drivers/base/dd.c), and an errno
    is positive then. Without a release (0, 0) the results tell: old are 0, 1 and negative ones."""
    match = re.match(r"(\d{1,9})\.(\d{1,9})", release)
    if match:
        return 1 if (int(match[1]), int(match[2])) < (5, 14) else 0
    return 1 if 1 in results and max(results) == 1 else 0


def _outcome_of_probe(result: int, bound: int) -> Outcome:
    if result == bound:
        return Outcome.OK
    if abs(result) in {
        0,
        errno.ENODEV,
        errno.ENXIO,
    }:  # call_driver_probe says "rejects match", at debug level
        return Outcome.ABSENT
    return outcome_of(-abs(result))


def _probe_run(probe: Probe, place: _Place, runs: Sequence[Run], bound: int) -> ProbeRun:
    if place.run is not None and place.by == "time" and runs[place.run].end is None:
        place = _Place(None, "time", place.candidates)  # nothing tells until when it was open
    return ProbeRun(
        probe.device, probe.driver, max(0.0, probe.time - probe.usecs / 1e6), probe.time, probe.usecs, probe.result,
        _outcome_of_probe(probe.result, bound), "" if place.run is None else runs[place.run].function, *place,
    )  # fmt: skip


class Totals(NamedTuple):
    """Sums over a timeline, in microseconds but for the counts.

    `kernel` is from the boot to the first program; `initcalls` what all initcalls took; `outside` the rest of
    the time between the first call and the last return: what lies between calls, the messages among it.
    """

    calls: int
    initcalls: int
    outside: int
    kernel: Optional[int]
    outcomes: dict[str, int]
    levels: dict[str, int]
    modules: dict[str, int]
    probes: int
    probe_usecs: int


def total(timeline: Timeline) -> Totals:
    """The sums; loadable modules' inits and asynchronous functions run beside the boot and are not in them."""
    calls = [run for run in timeline.runs if run.kind == "initcall"]
    outcomes: dict[str, int] = {}
    levels: dict[str, int] = {}
    modules: dict[str, int] = {}
    for run in calls:
        outcomes[run.outcome.value] = outcomes.get(run.outcome.value, 0) + 1
        level = run.initcall.level.value if run.initcall else ""
        levels[level] = levels.get(level, 0) + (run.usecs or 0)
        if run.module:
            modules[run.module] = modules.get(run.module, 0) + (run.usecs or 0)
    took = sum(run.usecs or 0 for run in calls)
    main = [run for run in calls if not (run.initcall and run.initcall.level in FIRST_OF_TABLE)]
    span = 0
    if main:
        span = round((max(run.end or run.start for run in main) - main[0].start) * 1e6)
    return Totals(
        calls=len(calls),
        initcalls=took,
        outside=max(0, span - sum(run.usecs or 0 for run in main)),
        kernel=None if timeline.init_at is None else round(timeline.init_at * 1e6),
        outcomes=outcomes,
        levels=levels,
        modules=modules,
        probes=len(timeline.probes),
        probe_usecs=sum(probe.usecs for probe in timeline.probes),
    )
