# SPDX-License-Identifier: MIT
"""The faults that lkm assembles do what those that a compiler made do: the same is done to both, and compared.

On 6.1, which has both kinds. Everything that can be seen from outside counts: how the loader and the remover
end, state, count, parameters, the module's own messages, and what `lkm why` makes of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lkm.lab.assembled.build import assembled_modules
from lkm.lab.build import build_modules
from lkm.lab.fault_modules import FAULTS, fault_modules
from lkm.lab.vm import Guest
from tests.vm.talk import ask, run_python

KERNEL = "6.1"

LIVE = """
import json, os, re, subprocess, sys, time
def read(path):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError as error:
        return error.strerror
def look(module):
    top = f"/sys/module/{module}"
    names = os.listdir(f"{top}/parameters") if os.path.isdir(f"{top}/parameters") else []
    parameters = {name: read(f"{top}/parameters/{name}") for name in sorted(names) if name != "ticks"}
    return [read(f"{top}/initstate"), read(f"{top}/refcnt"), parameters]
def run(*argv):
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        out, err = child.communicate(timeout=3)
    except subprocess.TimeoutExpired:
        return ["it hangs"]
    return [child.returncode, out.decode(), err.decode()]
what, modules = sys.argv[1], json.loads(sys.argv[2])
found = {}
for module, *arguments in modules:
    name = module.replace("-", "_")
    if what == "load":
        done = run("insmod", f"/share/{module}.ko", *arguments)
    else:
        done = run("rmmod", name)
    if name == "async_dead":
        time.sleep(1)
    found[name] = [done, look(name)]
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
"""Loads or removes modules, and tells what became of each."""

REMOVED_BY_NOBODY = frozenset({"put_too_many", "async_dead"})
"""Their plain removal dies, or hangs, with the lock of all modules."""

FIRST = ("provider", "slow_provider", "symbol_waiter")
"""Before what depends on them; and the waiter while nobody has its symbol, or it would wait for half a minute."""

ARGUMENTS = {"slow_init": ("seconds=0",), "slow_provider": ("seconds=0",), "absurd_count": ("count=7000",)}

ALIVE = (
    "left_fs", "left_holder", "left_misc", "left_misc_no_owner", "left_chrdev", "left_proc", "left_debugfs",
    "left_netdev", "left_platform", "left_hrtimer", "left_timer", "left_workqueue", "left_kthread", "left_irq",
    "left_crypto", "left_notifier",
)  # fmt: skip


def history(paths: Sequence[str], modules: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What became of the modules, and what `lkm why` said of them while they were loaded."""
    names = [name.replace("-", "_") for name, *_ in modules]
    with Guest.clone(KERNEL, share=os.path.dirname(paths[0])) as guest:
        loaded = json.loads(run_python(guest, LIVE, "load", json.dumps(modules)))
        commands = (["why", name, "--snapshot", "/tmp/snapshot", "--json"] for name in names)
        _, *answers = ask(guest, ["snapshot", "-o", "/tmp/snapshot"], *commands, timeout=240)
        removable = [row for row in reversed(modules) if row[0] not in REMOVED_BY_NOBODY]
        removed = json.loads(run_python(guest, LIVE, "remove", json.dumps(removable)))
    why = {name: [answer.code, *_gist(answer.object)] for name, answer in zip(names, answers)}
    return {"loaded": loaded, "why": why, "removed": removed}


def _gist(diagnosis: Mapping[str, Any]) -> list[Any]:
    """The verdict and the findings, without addresses and pids."""
    findings = [[finding["code"], finding["certainty"]] for finding in diagnosis["findings"]]
    return [diagnosis["state"], diagnosis["refcnt"], diagnosis["verdict"], findings]


def both_histories(modules: Sequence[Sequence[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    return history(build_modules(FAULTS, KERNEL), modules), history(assembled_modules(KERNEL), modules)


def test_there_is_an_assembled_one_for_each_compiled_one() -> None:
    compiled, assembled = (
        {os.path.basename(path) for path in paths}
        for paths in (build_modules(FAULTS, KERNEL), assembled_modules(KERNEL))
    )
    assert assembled == compiled


def test_faults_are_compiled_where_there_are_headers_else_assembled() -> None:
    assert fault_modules(KERNEL) == build_modules(FAULTS, KERNEL)
    assert fault_modules("6.18") == assembled_modules("6.18")


def test_all_of_them() -> None:
    names = [os.path.basename(path)[: -len(".ko")] for path in build_modules(FAULTS, KERNEL)]
    names = [*FIRST, *(name for name in names if name not in {*FIRST, "async_dead"})]
    compiled, assembled = both_histories([(name, *ARGUMENTS.get(name, ())) for name in names])
    _check(compiled, assembled)
    states = compiled["loaded"]["modules"]
    assert states["bug_mod1"] == [[-9, "", ""], ["coming", "1", {}]], (
        "the comparison has something to compare"
    )
    assert states["leak_ref"][1][:2] == ["live", "1"]
    assert compiled["removed"]["modules"]["exit_block"][0] == ["it hangs"]


def test_those_that_register_something_and_live() -> None:
    compiled, assembled = both_histories([(name, "die=0") for name in ALIVE])
    _check(compiled, assembled)
    absent = ["No such file or directory"] * 2
    for name in ALIVE:
        assert compiled["loaded"]["modules"][name][1][0] == "live"
        assert compiled["removed"]["modules"][name][1][:2] == absent


def test_a_worker_that_died() -> None:
    compiled, assembled = both_histories([("async_dead", "delay=100")])
    _check(compiled, assembled)
    assert ["async-stuck", "certain"] in compiled["why"]["async_dead"][-1]


def test_parameters_arrive_where_init_reads_them() -> None:
    rows = [("failing_init", "code=-2"), ("leak_ref", "count=2"), ("dash-name", "level=-9")]
    compiled, assembled = both_histories(rows)
    _check(compiled, assembled)
    expected = {"failing_init: returns -2", "leak_ref: leaked 2", "dash_name: loaded, level -9"}
    assert expected <= set(compiled["loaded"]["said"])


def _check(compiled: Mapping[str, Any], assembled: Mapping[str, Any]) -> None:
    for part in compiled:
        assert json.dumps(assembled[part], indent=1) == json.dumps(compiled[part], indent=1), part
