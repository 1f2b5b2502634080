# SPDX-License-Identifier: MIT
"""Many rescues in a row in one machine: every one works, and the only oopses are those that faults make."""

from __future__ import annotations

import json

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import ask, prepare, run_python, untrue

PROGRAM = """
import json, os, re, sys, time
sys.path[0] = "/usr/lib/lkm"
from lkm.names import module_name
from lkm.rescue.request import Request
from lkm.rescue.rescue import rescue
from lkm.rescue.result import Options, Outcome
from lkm.root import Root
from lkm.system.calls import delete_module, finit_module
from lkm.system.kmsg import KmsgTail

def load(name, params=""):
    return finit_module(f"/share/{name}.ko", params, seconds=20)

def must(result):
    if not result.ok:
        raise SystemExit(f"cycle {number}: {result}")

def dies(result):
    if result.signal != 9:
        raise SystemExit(f"cycle {number}: it did not die: {result}")

def init_dies():
    dies(load("bug_mod1"))
    return "bug_mod1"

def no_exit():
    must(load("none_exit"))
    return "none_exit"

def leaks():
    must(load("leak_ref", f"count={number % 7 + 1}"))
    return "leak_ref"

def exit_dies():
    must(load("exit_oops"))
    dies(delete_module("exit_oops", seconds=20))
    return "exit_oops"

def below_zero():
    must(load("put_too_many"))
    return "put_too_many"

def chain():
    must(load("provider"))
    dies(load("dead_dependent"))
    return "provider"

def absurd():
    must(load("absurd_count"))
    return "absurd_count"

KINDS = (init_dies, no_exit, leaks, exit_dies, below_zero, chain, absurd)
root = Root.live()
done, oopses, problems = {}, {}, []
began = time.monotonic()
with KmsgTail(root) as tail:
    for number in range(int(sys.argv[1])):
        kind = KINDS[number % len(KINDS)]
        name = kind()
        result = rescue(root, module_name(name), Options(Request(with_dependents=kind is chain)))
        if result.outcome is not Outcome.RESCUED:
            problems.append(f"cycle {number}, {kind.__name__}: {result.outcome.value}: {result.reason}")
            break
        done[kind.__name__] = done.get(kind.__name__, 0) + 1
        announced = False
        for line in tail.read_new():
            where = re.search(r"RIP: \\d+:(\\w+)\\S* (?:\\[(\\w+)\\])?", line.text + " ")
            if "Oops:" in line.text or "BUG:" in line.text or "WARNING:" in line.text:
                announced = True
            elif where and announced:
                announced = False
                signature = f"{where[1]} [{where[2] or 'kernel'}]"
                oopses[signature] = oopses.get(signature, 0) + 1
left = [entry for entry in os.listdir("/proc/self/fd")]
json.dump({"done": done, "oopses": oopses, "problems": problems, "descriptors": len(left),
           "seconds": time.monotonic() - began}, sys.stdout)
"""

DEATHS = {
    "init_dies": "bug_mod1_init [bug_mod1]",
    "exit_dies": "exit_oops_exit [exit_oops]",
    "chain": "dead_dependent_init [dead_dependent]",
}
"""The oops that a cycle's fault makes."""

MODULES = (
    "bug_mod1",
    "none_exit",
    "leak_ref",
    "exit_oops",
    "put_too_many",
    "provider",
    "dead_dependent",
    "absurd_count",
)


def test_rescues_in_a_row(guest: Guest, request: pytest.FixtureRequest) -> None:
    cycles = 100 if request.config.getoption("--all-kernels") else 14
    before = prepare(guest, ["echo loaded=$(wc -l </proc/modules)"])
    result = json.loads(run_python(guest, PROGRAM, str(cycles), timeout=1200))
    print(f"{cycles} rescues in {result['seconds']:.0f} s")
    assert result["problems"] == []
    assert sum(result["done"].values()) == cycles
    assert result["oopses"] == {oops: result["done"][kind] for kind, oops in DEATHS.items()}
    assert result["descriptors"] < 10
    after = [f"gone {name}" for name in MODULES]
    assert not untrue(guest, [*after, '[ "$(wc -l </proc/modules)" = $loaded ]', "insmod decmod.ko"], before)
    (healthy,) = ask(guest, ["rescue", "decmod", "--json"])
    assert healthy.object["outcome"] == "removed", healthy
