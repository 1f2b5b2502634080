# SPDX-License-Identifier: MIT
"""Many rescues in a row in one machine: every one works, and the only oopses are those that faults make."""

from __future__ import annotations

import pytest

from lkm.lab.vm import Guest
from tests.vm.cycles import KINDS
from tests.vm.soak import Tally, run_cycles
from tests.vm.talk import ask, prepare, untrue

DEATHS = {
    "init dies": "bug_mod1_init [bug_mod1]",
    "exit dies": "exit_oops_exit [exit_oops]",
    "a user's init dies": "dead_dependent_init [dead_dependent]",
    "init dies, its exit undoes it": "left_misc_init [left_misc]",
}
"""The oops that a cycle's fault makes."""


def test_rescues_in_a_row(guest: Guest, request: pytest.FixtureRequest) -> None:
    every = request.config.getoption("--all-kernels") or request.config.getoption("--kernels")
    cycles = 12 * len(KINDS) if every else 2 * len(KINDS)
    before = prepare(guest, ["echo loaded=$(wc -l </proc/modules)"])
    answer = run_cycles(guest, 0, cycles)
    tally = Tally()
    tally.add(answer)
    print(*tally.lines(), sep="\n")
    assert tally.problems == []
    assert sum(tally.done.values()) == cycles
    assert tally.oopses == {oops: tally.done[kind] for kind, oops in DEATHS.items()}
    assert answer["descriptors"] < 10
    gone = [f"gone {name}" for kind in KINDS for name, _, _ in kind.loads]
    assert not untrue(guest, [*gone, '[ "$(wc -l </proc/modules)" = $loaded ]', "insmod decmod.ko"], before)
    (healthy,) = ask(guest, ["rescue", "decmod", "--json"])
    assert healthy.object["outcome"] == "removed", healthy
