# SPDX-License-Identifier: MIT
"""A soak: `python -m tests.vm.soak KERNEL CYCLES`, half of the cycles in clones and half in one long-lived guest.

Faults of all kinds in turns, each really there and rescued. Every oops is counted by its signature, and any that
no fault made is a failure. What memory went is told by kind: to the fault itself, and to the rescue.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lkm.lab.fault_modules import fault_modules
from lkm.lab.vm import Guest
from tests.vm.cycles import KINDS
from tests.vm.oopses import oops_signatures

__all__ = ["Tally", "run_cycles"]

PROGRAM = (Path(__file__).parent / "cycles.py").read_text(encoding="utf-8")
ROUND = len(KINDS)
ROUNDS = 5
SECONDS_A_CYCLE = 60


@dataclass
class Tally:
    """What came of some cycles. `available`: bytes before each run of the program in one long-lived guest."""

    done: Counter[str] = field(default_factory=Counter)
    oopses: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lost_to_faults: Counter[str] = field(default_factory=Counter)
    lost_to_rescues: Counter[str] = field(default_factory=Counter)
    available: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, answer: dict[str, Any]) -> None:
        """Count one run of the program."""
        self.done.update(answer["done"])
        self.oopses.update(oops_signatures(answer["lines"]))
        if answer["problem"]:
            self.problems.append(answer["problem"])
        for kind, (by_fault, by_rescue) in answer["lost"].items():
            self.lost_to_faults[kind] += by_fault
            self.lost_to_rescues[kind] += by_rescue
        self.seconds += answer["seconds"]

    def stray(self) -> list[str]:
        """Oopses of the kernel's own code: no fault here makes one."""
        return sorted(signature for signature in self.oopses if signature.endswith("[kernel]"))

    def lines(self) -> list[str]:
        """What is to be told."""
        cycles = sum(self.done.values())
        lines = [f"{cycles} rescues, {self.seconds / max(cycles, 1):.2f} s each"]
        for kind, count in self.done.items():
            fault, rescue = (
                lost[kind] / count / 1024 for lost in (self.lost_to_faults, self.lost_to_rescues)
            )
            lines.append(
                f"  {count:5} {kind}; memory lost a cycle: {fault:.1f} KB fault, {rescue:.1f} KB rescue"
            )
        if self.available:
            megabytes = " ".join(f"{each / 1e6:.1f}" for each in self.available)
            lines.append(f"  available before each {ROUND * ROUNDS} cycles, in MB: {megabytes}")
        lines += [f"  {count:5} oopses in {signature}" for signature, count in sorted(self.oopses.items())]
        return [*lines, *(f"PROBLEM: {problem}" for problem in self.problems)]


def run_cycles(guest: Guest, first: int, count: int) -> dict[str, Any]:
    """Cycles in a guest that has the faults in /share. AssertionError with what it said where that fails."""
    done = guest.run(
        ["python3", "-sS", "-", str(first), str(count)],
        stdin=PROGRAM.encode(),
        timeout=60 + SECONDS_A_CYCLE * count,
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def tell_progress(where: str, tally: Tally, count: int) -> None:
    """One line to stderr: a soak takes an hour."""
    done, problems = sum(tally.done.values()), len(tally.problems)
    print(f"{where}: {done} of {count}, {problems} problems", file=sys.stderr, flush=True)


def soak_clones(kernel: str, share: str, first: int, count: int) -> Tally:
    """These cycles, a few in each clone."""
    tally = Tally()
    for at in range(first, first + count, ROUND):
        with Guest.clone(kernel, share=share) as guest:
            tally.add(run_cycles(guest, at, min(ROUND, first + count - at)))
        tell_progress("in clones", tally, count)
    return tally


def soak_one_guest(kernel: str, share: str, first: int, count: int) -> Tally:
    """These cycles, all in one guest; it ends at the first that fails."""
    tally, step = Tally(), ROUND * ROUNDS
    with Guest.clone(kernel, share=share) as guest:
        for at in range(first, first + count, step):
            answer = run_cycles(guest, at, min(step, first + count - at))
            tally.add(answer)
            tally.available.append(answer["start"])
            tell_progress("in one guest", tally, count)
            if tally.problems:
                break
    return tally


def main() -> int:
    """Soak one kernel, both halves at once: a guest has one processor."""
    kernel, cycles = sys.argv[1], int(sys.argv[2])
    share = os.path.dirname(fault_modules(kernel)[0])
    half = cycles // 2
    with ThreadPoolExecutor(2) as pool:
        halves = {
            "in clones": pool.submit(soak_clones, kernel, share, 0, half),
            "in one guest": pool.submit(soak_one_guest, kernel, share, half, cycles - half),
        }
    failed = 0
    for name, future in halves.items():
        tally = future.result()
        print(f"{kernel}, {name}:", *tally.lines(), sep="\n", flush=True)
        failed |= bool(tally.problems or tally.stray())
    return failed or sum(sum(future.result().done.values()) for future in halves.values()) != cycles


if __name__ == "__main__":
    sys.exit(main())
