# SPDX-License-Identifier: MIT
"""The faults that lkm assembles do what those that a compiler made do: the same is done to both, and compared.

On 6.1, which has both kinds; then on the kernels that have assembled ones only. Everything that can be seen from
outside counts: how the loader and the remover end, state, count, parameters, the module's own messages, and what
`lkm why` makes of it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from lkm.lab.assembled.build import assembled_modules
from lkm.lab.build import build_modules
from lkm.lab.fault_modules import FAULTS, fault_modules
from lkm.lab.series import SERIES
from lkm.lab.vm import Guest
from tests.vm.talk import ask, run_python

KERNEL = "6.1"
HEADERLESS = tuple(series.name for series in SERIES if not series.headers)

LIVE = """
import json, os, re, subprocess, sys, time
from lkm.system.calls import delete_module, init_module
def read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        return error.strerror.encode()
def word(path):
    return read(path).decode().strip()
def look(name):
    top = f"/sys/module/{name}"
    names = os.listdir(f"{top}/parameters") if os.path.isdir(f"{top}/parameters") else []
    parameters = {each: word(f"{top}/parameters/{each}") for each in sorted(names) if each != "ticks"}
    return [word(f"{top}/initstate"), word(f"{top}/refcnt"), parameters]
what, modules = sys.argv[1], json.loads(sys.argv[2])
found = {}
for module, *arguments in modules:
    name = module.replace("-", "_")
    if what == "load":
        done = init_module(read(f"/share/{module}.ko"), " ".join(arguments), seconds=5, kill=False)
    else:
        done = delete_module(name, seconds=5, kill=False)
    if name == "async_dead":
        time.sleep(1)
    found[name] = [done.errno, done.signal, done.timed_out, look(name)]
    release = f"/sys/module/{name}/parameters/release"
    if what == "remove" and os.path.exists(release):
        with open(release, "w") as stream:
            stream.write("1")
        time.sleep(1)
        found[name].append(look(name))
said = re.findall(r"\\] (\\w+: .*)", subprocess.run(["dmesg"], capture_output=True, text=True).stdout)
said = [line for line in said if line.split(":")[0] in {module.replace("-", "_") for module, *_ in modules}]
json.dump({"modules": found, "said": said}, sys.stdout)
"""
"""Loads or removes modules, and tells what became of each. From memory: from 6.5 on a load by file leaves a trap
for the next one behind when it dies."""

REMOVED_BY_NOBODY = frozenset({"put_too_many", "async_dead"})
"""Their plain removal dies, or hangs, with the lock of all modules."""

FIRST = ("provider", "slow_provider", "symbol_waiter")
"""Before what depends on them; and the waiter while nobody has its symbol, or it would wait for half a minute."""

ARGUMENTS = {
    "late_oops": ("seconds=1",),
    "slow_init": ("seconds=0",),
    "slow_provider": ("seconds=0",),
    "absurd_count": ("count=7000",),
}

_LEFT = (
    "left_fs", "left_holder", "left_misc", "left_misc_no_owner", "left_chrdev", "left_proc", "left_debugfs",
    "left_netdev", "left_platform", "left_hrtimer", "left_timer", "left_workqueue", "left_kthread", "left_irq",
    "left_crypto", "left_notifier",
)  # fmt: skip
STAY_ALIVE = tuple((name, "die=0") for name in _LEFT)

Rows = tuple[tuple[str, ...], ...]


@functools.cache
def history(kernel: str, modules: Rows, *, compiled: bool = False) -> dict[str, Any]:
    """What became of the modules, and what `lkm why` said of them while they were loaded."""
    names = [name.replace("-", "_") for name, *_ in modules]
    paths = build_modules(FAULTS, kernel) if compiled else assembled_modules(kernel)
    with Guest.clone(kernel, share=os.path.dirname(paths[0])) as guest:
        loaded = json.loads(run_python(guest, LIVE, "load", json.dumps(modules)))
        commands = (["why", name, "--snapshot", "/tmp/snapshot", "--json"] for name in names)
        _, *answers = ask(guest, ["snapshot", "-o", "/tmp/snapshot"], *commands, timeout=240)
        removable = [row for row in reversed(modules) if row[0] not in REMOVED_BY_NOBODY]
        removed = json.loads(run_python(guest, LIVE, "remove", json.dumps(removable)))
    why = {name: [answer.code, *_gist(answer.object)] for name, answer in zip(names, answers)}
    return {
        "loaded": loaded["modules"],
        "said then": loaded["said"],
        "why": why,
        "removed": removed["modules"],
        "said in the end": removed["said"],
    }


def _gist(diagnosis: Mapping[str, Any]) -> list[Any]:
    """The verdict and the findings, without addresses and pids."""
    findings = [[finding["code"], finding["certainty"]] for finding in diagnosis["findings"]]
    return [diagnosis["state"], diagnosis["refcnt"], diagnosis["verdict"], findings]


def all_of_them() -> Rows:
    """Every fault but the one that stops all loads, in an order in which they can be loaded."""
    names = [os.path.basename(path)[: -len(".ko")] for path in build_modules(FAULTS, KERNEL)]
    names = [*FIRST, *(name for name in names if name not in {*FIRST, "async_dead"})]
    return tuple((name, *ARGUMENTS.get(name, ())) for name in names)


def test_there_is_an_assembled_one_for_each_compiled_one() -> None:
    compiled, assembled = (
        {os.path.basename(path) for path in paths}
        for paths in (build_modules(FAULTS, KERNEL), assembled_modules(KERNEL))
    )
    assert assembled == compiled


def test_faults_are_compiled_where_there_are_headers_else_assembled() -> None:
    assert fault_modules(KERNEL) == build_modules(FAULTS, KERNEL)
    assert fault_modules(HEADERLESS[-1]) == assembled_modules(HEADERLESS[-1])


def test_all_do_as_the_compiled_ones_do() -> None:
    found = _same(all_of_them())
    assert found["loaded"]["bug_mod1"] == [0, 9, False, ["coming", "1", {}]], "there is something to compare"
    assert found["loaded"]["leak_ref"][-1][:2] == ["live", "1"]
    assert found["removed"]["exit_block"][2], "it blocks"


def test_so_do_those_that_register_something_and_live() -> None:
    found = _same(STAY_ALIVE)
    for name, *_ in STAY_ALIVE:
        assert found["loaded"][name][-1][0] == "live"
        assert found["removed"][name] == [0, None, False, ["No such file or directory"] * 2 + [{}]]


def test_so_does_a_worker_that_died() -> None:
    found = _same((("async_dead", "delay=100"),))
    assert ["async-stuck", "certain"] in found["why"]["async_dead"][-1]


def test_parameters_arrive_where_init_reads_them() -> None:
    found = _same((("failing_init", "code=-2"), ("leak_ref", "count=2"), ("dash-name", "level=-9")))
    expected = {"failing_init: returns -2", "leak_ref: leaked 2", "dash_name: loaded, level -9"}
    assert expected <= set(found["said then"])


@pytest.mark.parametrize("kernel", HEADERLESS)
@pytest.mark.parametrize("alive", [False, True])
def test_kernels_without_headers(kernel: str, *, alive: bool) -> None:
    """What is true on 6.1 is true there, with modules that nobody could compile."""
    modules = STAY_ALIVE if alive else all_of_them()
    there, here = history(kernel, modules), history(KERNEL, modules)
    for part in ("loaded", "why", "removed"):
        assert _lines(there[part]) == _lines(here[part])


def _same(modules: Rows) -> dict[str, Any]:
    """What both kinds did; an assertion that it is the same."""
    compiled, assembled = history(KERNEL, modules, compiled=True), history(KERNEL, modules)
    for part in compiled:
        assert _lines(assembled[part]) == _lines(compiled[part]), part
    return compiled


def _lines(found: Any) -> list[str]:
    """One line a module, so that a difference can be read."""
    return [f"{name}: {value}" for name, value in found.items()] if isinstance(found, dict) else found
