# SPDX-License-Identifier: MIT
"""The demo: modules that get stuck, each in a guest of its own, asked about and got out by the command `lkm`.

Nothing here knows how a rescue works: the commands of a guest are run, and their words and JSON are compared
with what a row expects.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Optional

import lkm.lab
from lkm.errors import LabError
from lkm.lab.build import build_modules
from lkm.lab.cache import Progress, silent
from lkm.lab.demo_rows import ROWS, Load, Rescue, Row
from lkm.lab.guest import Completed, Guest, GuestTimeout

__all__ = ["Demo", "Observation", "RescueSeen", "build_demo_modules", "observe", "problems"]

RMMOD_SECONDS = 4.0
"""An rmmod that has not returned by then is taken for blocked: here it takes 0.1 s."""

RELEASE_SECONDS = 5.0
LANES = 2
"""Guests at once."""


@dataclass
class RescueSeen:
    """What one `lkm rescue` said it did."""

    command: str
    code: int
    outcome: str
    reason: str
    remedy: str
    edits: tuple[str, ...]
    removed: tuple[str, ...]
    proof: tuple[str, ...]


@dataclass
class Observation:
    """What was seen of one row. `error`: the row could not be finished, and why."""

    loads: list[str] = field(default_factory=list)
    line: str = ""
    rmmod_code: Optional[int] = None
    rmmod_message: str = ""
    left: str = ""
    codes: tuple[str, ...] = ()
    verdict: str = ""
    reason: str = ""
    remedy: str = ""
    rescues: list[RescueSeen] = field(default_factory=list)
    released: str = ""
    gone: bool = False
    again: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0


def build_demo_modules(kernel: str, *, progress: Progress = silent) -> str:
    """The directory with the demo's modules, built for `kernel` or taken from the cache. Raises LabError."""
    sources = os.path.join(os.path.dirname(os.path.abspath(lkm.lab.__file__)), "faults")
    names = {load.module for row in ROWS for load in (*row.loads, *row.again)}
    with tempfile.TemporaryDirectory(prefix="lkm-demo-") as scratch:
        stage = os.path.join(scratch, "modules")
        os.mkdir(stage)
        for name in [*(f"{name}.c" for name in names), "faults.h"]:
            shutil.copy(os.path.join(sources, name), os.path.join(stage, name))
        paths = build_modules(stage, kernel, progress=progress)
    return os.path.dirname(paths[0])


class Demo:
    """The rows, in some guests at once. `close` ends what still runs."""

    def __init__(self, rows: Sequence[Row], kernel: str, *, progress: Progress = silent) -> None:
        self._kernel = kernel
        self._progress = progress
        self._rows = [(row, Future[Observation]()) for row in rows]
        self._waiting = iter(self._rows)
        self._lock = threading.Lock()
        self._guests: set[Guest] = set()
        self._closed = False

    def run(self) -> Iterator[tuple[Row, Observation]]:
        """Each row with what was seen, in order and as early as it is known. Raises LabError."""
        share = build_demo_modules(self._kernel, progress=self._progress)
        # The first guest makes the template, so that no two of them wait for it.
        Guest.clone(self._kernel, progress=self._progress).close()
        lanes = [threading.Thread(target=self._run_lane, args=(share,)) for _ in range(LANES)]
        for lane in lanes:
            lane.start()
        try:
            for row, future in self._rows:
                yield row, future.result()
        finally:
            self.close()
            for lane in lanes:
                lane.join()

    def close(self) -> None:
        """End the guests; rows that have not begun never will."""
        with self._lock:
            self._closed = True
            guests, self._guests = self._guests, set()
        for guest in guests:
            guest.close()

    def _run_lane(self, share: str) -> None:
        """Take row after row. A guest in which nothing oopsed, and all was as expected, serves the next too."""
        guest: Guest | None = None
        while True:
            with self._lock:
                row, future = (None, None) if self._closed else next(self._waiting, (None, None))
            if row is None or future is None:
                break
            seen = Observation()
            start = time.monotonic()
            try:
                if guest is None:
                    guest = self._open(share)
                observe(guest, row, seen, progress=self._progress)
            except LabError as error:
                seen.error = str(error)
            except Exception as error:  # noqa: BLE001 - the one who waits is to get it
                future.set_exception(error)
                break
            seen.seconds = time.monotonic() - start
            if guest is not None and (row.oopses or problems(row, seen)):
                self._end(guest)
                guest = None
            future.set_result(seen)
        if guest is not None:
            self._end(guest)

    def _open(self, share: str) -> Guest:
        guest = Guest.clone(self._kernel, share=share)
        with self._lock:
            if not self._closed:
                self._guests.add(guest)
                return guest
        guest.close()
        raise LabError("the demo was ended")

    def _end(self, guest: Guest) -> None:
        """Close it, unless `close` has."""
        with self._lock:
            mine = guest in self._guests
            self._guests.discard(guest)
        if mine:
            guest.close()


def observe(guest: Guest, row: Row, seen: Observation, *, progress: Progress) -> None:
    """Do everything that `row` says, and note in `seen` what comes of it. Raises LabError."""
    run = _Runner(guest, row, seen, progress)
    run.load(row.loads, seen.loads)
    seen.line = run.line()
    run.rmmod()
    seen.left = run.line()
    if not seen.left:  # that was all it took; the rest is shown all the same
        run.load(row.loads, seen.loads)
    run.why()
    for rescue in row.rescues:
        run.rescue(rescue)
    if row.release:
        run.release()
    seen.gone = not run.line() and run.shell(f"test -e /sys/module/{row.name}").returncode != 0
    if seen.gone:
        run.load(row.again, seen.again)
        run.unload()


class _Runner:
    """The steps of one row in its guest."""

    def __init__(self, guest: Guest, row: Row, seen: Observation, progress: Progress) -> None:
        self._guest = guest
        self._row = row
        self._seen = seen
        self._progress = progress

    def load(self, loads: Sequence[Load], notes: list[str]) -> None:
        """insmod; an exit code other than expected is noted."""
        for load in loads:
            words = " ".join([f"{load.module}.ko", *load.parameters])
            done = self.shell(f"insmod /share/{words}")
            result = _ending(done)
            notes.append(f"insmod {words}: {result}")
            if done.returncode != load.code:
                self._seen.unexpected.append(f"insmod {words}: {result}, not {_code_text(load.code)}")

    def line(self) -> str:
        """The module's line in /proc/modules; empty if it has none."""
        return self.shell(f"grep '^{self._row.name} ' /proc/modules").stdout.decode().strip()

    def rmmod(self) -> None:
        """kmod's rmmod, unless that would kill the machine's module_mutex."""
        seen, name = self._seen, self._row.name
        if _refcnt(seen.line) < 0:
            seen.rmmod_message = "not tried: with a count below zero rmmod would die holding module_mutex"
            seen.rmmod_code = 1
            return
        try:
            done = self.shell(f"rmmod {name}", timeout=RMMOD_SECONDS)
        except GuestTimeout:
            seen.rmmod_message = f"still there after {RMMOD_SECONDS:.0f} s, and cannot be killed"
            return
        seen.rmmod_code = done.returncode
        seen.rmmod_message = _ending(done)

    def why(self) -> None:
        """The answer of `lkm why`."""
        _, answer = self._lkm("why", self._row.name)
        self._seen.codes = tuple(finding["code"] for finding in answer["findings"])
        self._seen.verdict = str(answer["verdict"])
        self._seen.reason = str(answer["reason"])
        self._seen.remedy = str(answer["remedy"])

    def rescue(self, rescue: Rescue) -> None:
        """One `lkm rescue`."""
        words = ["rescue", self._row.name, *rescue.arguments]
        code, answer = self._lkm(*words)
        plans = [plan for plan in (answer["plan"], *answer["later_plans"]) if plan]
        steps = [step for plan in plans for step in plan["steps"] if step["verdict"] != "refuse"]
        edits = [(step["module"], edit) for step in steps for edit in step["edits"]]
        self._seen.rescues.append(
            RescueSeen(
                command=" ".join(["lkm", *words]),
                code=code,
                outcome=str(answer["outcome"]),
                reason=str(answer["reason"]),
                remedy=str(answer["remedy"]),
                edits=tuple(_edit_text(name, edit) for name, edit in edits if edit["kind"] != "check"),
                removed=tuple(step["module"] for step in steps),
                proof=tuple(check["what"] for check in answer["proof"] if check["holds"]),
            )
        )

    def release(self) -> None:
        """Give the blocked exit what it waits for, as the refusal says; then it goes by itself."""
        self.shell(f"echo 1 > {self._row.release}")
        end = time.monotonic() + RELEASE_SECONDS
        while self.line() and time.monotonic() < end:
            time.sleep(0.1)
        gone = "went" if not self.line() else "did not go"
        self._seen.released = f"echo 1 > {self._row.release}: its exit returned, and the module {gone}"

    def unload(self) -> None:
        """rmmod of what is healthy this time."""
        for name in self._row.unloads:
            done = self.shell(f"rmmod {name}")
            self._seen.again.append(f"rmmod {name}: {_ending(done)}")
            if done.returncode:
                self._seen.unexpected.append(f"rmmod {name} after the rescue: {_ending(done)}")

    def shell(self, script: str, *, timeout: float = 30) -> Completed:
        """A shell command of the guest. Raises GuestTimeout and GuestDied."""
        if not script.startswith(("grep", "test")):
            self._progress(f"{self._row.name}: {script}")
        # exec: the command itself is timed and killed, and its code is not the shell's.
        prefix = "" if ">" in script else "exec "
        return self._guest.run(["sh", "-c", prefix + script], timeout=timeout)

    def _lkm(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = self.shell(" ".join(["lkm", *words, "--json"]), timeout=120)
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            complaint = done.stderr.decode(errors="replace").strip().splitlines()
            raise LabError(
                f"lkm {' '.join(words)} gave no JSON, exit code {done.returncode}"
                + (f": {complaint[-1]}" if complaint else "")
            ) from None
        return done.returncode, answer


def problems(row: Row, seen: Observation) -> list[str]:
    """What was not as `row` expects, each in a sentence; empty: all was. Pure."""
    if seen.error:
        return [seen.error]
    found = list(seen.unexpected)
    found += _differs("/proc/modules", row.line, _state_of(seen.line))
    found += _differs("rmmod", _code_text(row.rmmod), _code_text(seen.rmmod_code))
    if row.complaint not in seen.rmmod_message:
        found.append(f"rmmod's message lacks {row.complaint!r}: {seen.rmmod_message}")
    if row.rmmod != 0:
        found += _differs("/proc/modules after rmmod", row.left or row.line, _state_of(seen.left))
    found += _differs("findings", ", ".join(row.codes), ", ".join(seen.codes))
    found += _differs("verdict", row.verdict, seen.verdict)
    if len(seen.rescues) != len(row.rescues):
        found.append(f"{len(seen.rescues)} rescues, expected {len(row.rescues)}")
    for rescue, done in zip(row.rescues, seen.rescues):
        found += _rescue_problems(row, rescue, done)
    if not seen.gone:
        found.append("the module is still there")
    return found


def _rescue_problems(row: Row, rescue: Rescue, seen: RescueSeen) -> list[str]:
    found = _differs(seen.command, rescue.outcome, seen.outcome)
    found += _differs(f"{seen.command}: exit code", str(rescue.code), str(seen.code))
    fields = ", ".join(edit.split(" ")[0].rpartition(".")[2] for edit in seen.edits)
    found += _differs(f"{seen.command}: edits", ", ".join(rescue.edits), fields)
    if rescue.reason not in seen.reason:
        found.append(f"{seen.command}: the reason lacks {rescue.reason!r}: {seen.reason}")
    if seen.outcome in ("rescued", "removed"):
        removed = rescue.removed or (row.name,)
        found += _differs(f"{seen.command}: removed", ", ".join(removed), ", ".join(seen.removed))
    return found


def _differs(what: str, expected: str, seen: str) -> list[str]:
    return [] if expected == seen else [f"{what}: expected {expected or 'none'}, seen {seen or 'none'}"]


def _state_of(line: str) -> str:
    """`1 - Loading` of `bug_mod1 28672 1 - Loading 0xffffffffc03f0000 (OE+)`."""
    return " ".join(line.split()[2:5])


def _refcnt(line: str) -> int:
    words = line.split()
    return int(words[2]) if len(words) > 2 and words[2].lstrip("-").isdigit() else 0


def _edit_text(module: str, edit: dict[str, Any]) -> str:
    return f"{module}.{edit['field']} {_hex(edit['expected'])} → {_hex(edit['new'])}"


def _hex(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


def _code_text(code: int | None) -> str:
    if code is None:
        return "never returns"
    return f"killed by signal {code - 128}" if code > 128 else f"exit code {code}"


def _ending(done: Completed) -> str:
    """How a command ended: its last words, or the signal that killed it."""
    words = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == 0:
        return "done"
    if done.returncode > 128:
        return _code_text(done.returncode)
    return f"{words[-1]} (exit code {done.returncode})" if words else _code_text(done.returncode)
