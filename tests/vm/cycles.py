# SPDX-License-Identifier: MIT
"""Runs in a guest: faults of every kind, one after the other, each rescued; JSON on standard output.

    python3 - FIRST COUNT

The kinds take turns by the number of the cycle. With each goes what the machine's memory lost to the fault
itself and what to the rescue.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import NamedTuple

sys.path[0] = "/usr/lib/lkm"

from lkm.names import module_name  # noqa: E402
from lkm.rescue.request import Request  # noqa: E402
from lkm.rescue.rescue import rescue  # noqa: E402
from lkm.rescue.result import Options, Outcome  # noqa: E402
from lkm.root import Root  # noqa: E402
from lkm.system.calls import CallResult, delete_module, finit_module  # noqa: E402
from lkm.system.kmsg import KmsgTail  # noqa: E402

SECONDS = 30.0


class Kind(NamedTuple):
    """A fault: what is loaded with which parameters, whether the load or the removal dies, what is rescued."""

    name: str
    loads: tuple[tuple[str, str, bool], ...]
    target: str
    removal_dies: bool = False
    request: Request = Request()


KINDS = (
    Kind("init dies", (("bug_mod1", "", True),), "bug_mod1"),
    Kind("no exit", (("none_exit", "", False),), "none_exit"),
    Kind("a reference leaks", (("leak_ref", "count=3", False),), "leak_ref"),
    Kind("exit dies", (("exit_oops", "", False),), "exit_oops", removal_dies=True),
    Kind("the count is below zero", (("put_too_many", "", False),), "put_too_many"),
    Kind(
        "a user's init dies", (("provider", "", False), ("dead_dependent", "", True)), "provider",
        request=Request(with_dependents=True),
    ),
    Kind("the count is absurd", (("absurd_count", "", False),), "absurd_count"),
    Kind(
        "init dies, its exit undoes it", (("left_misc", "", True),), "left_misc", request=Request(run_exit=True)
    ),
)  # fmt: skip


class Failed(Exception):
    """A cycle that did not go as it should."""


def available() -> int:
    """Bytes that the machine could still give; caches count as given back."""
    with open("/proc/meminfo") as stream:
        fields = dict(line.split(":", 1) for line in stream)
    return int(fields["MemAvailable"].split()[0]) * 1024


def expect(result: CallResult, *, dies: bool, what: str) -> None:
    """The call died of its oops (signal 9 on x86_64, 11 on arm64), or succeeded."""
    if (result.signal in (9, 11)) if dies else result.ok:
        return
    raise Failed(f"{what}: {result}")


def run_cycle(root: Root, kind: Kind) -> None:
    """Make the fault."""
    for name, parameters, dies in kind.loads:
        path = f"/share/{name}.ko"
        expect(finit_module(path, parameters, seconds=SECONDS), dies=dies, what=f"load of {name}")
    if kind.removal_dies:
        expect(delete_module(kind.target, seconds=SECONDS), dies=True, what=f"removal of {kind.target}")


def rescue_it(root: Root, kind: Kind) -> None:
    """And rescue it."""
    result = rescue(root, module_name(kind.target), Options(kind.request))
    if result.outcome is not Outcome.RESCUED:
        raise Failed(f"{result.outcome.value}: {result.reason}")


def main() -> None:
    """Cycles FIRST to FIRST + COUNT; stops at the first that fails."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    root = Root.live()
    done: dict[str, int] = {}
    lost: dict[str, list[int]] = {}
    lines: list[str] = []
    problem = ""
    began, start = time.monotonic(), available()
    with KmsgTail(root) as tail:
        for number in range(first, first + count):
            kind = KINDS[number % len(KINDS)]
            try:
                before = available()
                run_cycle(root, kind)
                between = available()
                rescue_it(root, kind)
                after = available()
            except Failed as error:
                problem = f"cycle {number}, {kind.name}: {error}"
                break
            finally:
                lines += [line.text for line in tail.read_new()]
            done[kind.name] = done.get(kind.name, 0) + 1
            by_fault, by_rescue = lost.setdefault(kind.name, [0, 0])
            lost[kind.name] = [by_fault + before - between, by_rescue + between - after]
    gc.collect()
    answer = {
        "done": done, "problem": problem, "lines": [line for line in lines if interesting(line)], "lost": lost,
        "start": start, "end": available(), "descriptors": len(os.listdir("/proc/self/fd")),
        "seconds": time.monotonic() - began,
    }  # fmt: skip
    json.dump(answer, sys.stdout)


def interesting(line: str) -> bool:
    """What oopses are told by."""
    marks = (
        "RIP:",
        "pc :",
        "WARNING:",
        "Oops",
        "BUG",
        "Internal error",
        "Unable to handle",
        "panic",
        "fault",
    )
    return any(mark in line for mark in marks)


if __name__ == "__main__":
    main()
