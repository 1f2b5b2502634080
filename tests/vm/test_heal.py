# SPDX-License-Identifier: MIT
"""What a load that died leaves in the kernel's table of files being loaded, healed on real kernels.

That it is healed is shown by hundreds of later loads, the same file among them: unhealed, one of those ends in an
oops with idem_lock held, and then every load spins for ever.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import Answer, ask, prepare, run_python, untrue

JUNK = 400
REAL = 100

LOADS = """
import ctypes, errno, json, os, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.system.calls import syscall_numbers
junk, real = int(sys.argv[1]), int(sys.argv[2])
libc, numbers, errors = ctypes.CDLL(None, use_errno=True), syscall_numbers(), {}
sound = open("/share/decmod.ko", "rb").read()
for number in range(junk + real):
    path = f"/tmp/load-{number}.ko"
    with open(path, "wb") as stream:
        stream.write(sound if number >= junk else b"junk" * (1 + number))
    handle = os.open(path, os.O_RDONLY)
    failed = libc.syscall(numbers["finit_module"], handle, b"", 0) < 0
    os.close(handle)
    name = errno.errorcode[ctypes.get_errno()] if failed else "loaded"
    errors[name] = errors.get(name, 0) + 1
    if not failed and libc.syscall(numbers["delete_module"], b"decmod", os.O_NONBLOCK) < 0:
        sys.exit(f"decmod stays: {ctypes.get_errno()}")
print(json.dumps(errors))
"""
"""finit_module(2) of so many distinct files, in one process: an oops would end it."""

WITHOUT_HEAL = """
import sys
sys.path[0] = "/usr/lib/lkm"
from lkm.names import module_name
from lkm.rescue.execute import RemovalOutcome, execute_removal, execute_step
from lkm.rescue.planner import plan_rescue
from lkm.root import Root
from lkm.system.capture import capture
for name in map(module_name, sys.argv[1:]):
    plan = plan_rescue(capture(Root.live()), name)
    assert execute_step(plan, plan.target) is None
    assert execute_removal(name, seconds=20).outcome is RemovalOutcome.REMOVED
"""
"""The module goes by other means than `lkm rescue`: what its load left stays."""

NEIGHBOURS = """
import os, subprocess, sys, time
sys.path[0] = "/usr/lib/lkm"
from lkm.root import Root
from lkm.system.file_operations import descriptors
from lkm.system.kernel_tasks import process_addresses, read_task
from lkm.system.load_table import hash_of
from lkm.system.memory import open_memory
memory = open_memory(Root.live())
own = next(task for task in process_addresses(memory) if read_task(memory, task).pid == os.getpid())
files = memory.pointer(own + memory.offset("task_struct", "files"))
f_inode = memory.offset("file", "f_inode")

def buckets_of(paths):
    handles = [os.open(path, os.O_RDONLY | os.O_CREAT) for path in paths]
    found = dict(descriptors(memory, files))
    inodes = [memory.pointer(found[handle] + f_inode) for handle in handles]
    for handle in handles:
        os.close(handle)
    return [hash_of(inode) for inode in inodes]

def beside(path, bucket):
    for number in range(40):
        copies = [f"/tmp/{number}-{each}-{os.path.basename(path)}" for each in range(100)]
        for copy, other in zip(copies, buckets_of(copies)):
            if other == bucket:
                with open(path, "rb") as data, open(copy, "wb") as stream:
                    stream.write(data.read())
                return copy
    sys.exit("no file falls into that bucket")

def start(name, path, *parameters):
    with open(f"/tmp/{name}", "wb") as output:
        process = subprocess.Popen(["insmod", path, *parameters], stdout=output, stderr=output)
    print(f"{name}={process.pid}", flush=True)
    time.sleep(0.7)

late = "/share/late_oops.ko"
(bucket,) = buckets_of([late])
old, new = beside("/share/slow_init.ko", bucket), beside("/share/slow_provider.ko", bucket)
print(f"bucket={bucket}")
start("old", old, f"seconds={sys.argv[1]}")
start("dead", late, "seconds=6")
start("orphan", late)
start("second", new, f"seconds={int(sys.argv[1]) - 5}")
start("waiter", new)
"""
"""In one bucket: a load that lives, one that dies, its waiter, another that lives, and the waiter of that one.
The argument says how many seconds the first one lives."""

LOCK = """
import sys
sys.path[0] = "/usr/lib/lkm"
from lkm.names import module_name
from lkm.rescue.execute import execute_step
from lkm.rescue.plan import Edit, EditKind, Lock
from lkm.rescue.planner import plan_rescue
from lkm.root import Root
from lkm.system.capture import capture
plan = plan_rescue(capture(Root.live()), module_name("bug_mod1"))
lock = plan.symbols["idem_lock"]
step = plan.target._replace(lock=Lock.NONE, edits=(Edit("idem_lock", lock, 1, 0, 1, EditKind.STORE),))
assert execute_step(plan, step) is None
"""
"""idem_lock as a task that died with it leaves it."""


with_table = pytest.mark.parametrize("kernel", ["6.12", "7.3", "6.12-arm64", "7.3-arm64"], indirect=True)
"""The kernels that have such a table, and faulty modules built for them. 6.12-arm64 inlines its spinlocks."""


def loads(guest: Guest, junk: int = JUNK, real: int = REAL) -> None:
    """So many loads of distinct files, none of which ends in an oops."""
    answer = json.loads(run_python(guest, LOADS, str(junk), str(real), timeout=300))
    assert answer == {"ENOEXEC": junk, "loaded": real}


def oopses(number: int) -> str:
    """The line that holds if the kernel has had so many, and no more."""
    return f'[ "$(dmesg | grep -cE "Oops( - BUG)?: ")" = {number} ]'


def healed(answer: Answer) -> dict[str, Any]:
    """The answer of a `lkm heal` that has healed."""
    result = answer.object
    assert (result["outcome"], answer.code) == ("healed", 0), f"{result['reason']}\n{answer.stdout}"
    assert all(check["holds"] for check in result["proof"]), answer
    assert result["record"], answer
    return result


@with_table
def test_a_rescue_ends_with_a_heal(guest: Guest) -> None:
    """The second time another load of the file waits for the one that dies."""
    prepare(guest, ["dies insmod bug_mod1.ko"])
    rescue = ["rescue", "bug_mod1", "--json"]
    dry, answer = ask(guest, [*rescue, "--dry-run"], rescue, timeout=240)
    assert dry.object["plan"]["steps"][-1]["kind"] == "heal", dry
    assert (answer.object["outcome"], answer.object["heal"]["outcome"]) == ("rescued", "healed"), answer
    loads(guest)
    known = prepare(guest, ["dies insmod bug_mod1.ko", *WAITED_FOR])
    (again,) = ask(guest, ["rescue", "late_oops", "--json"], timeout=240)
    assert (again.object["outcome"], again.object["heal"]["outcome"]) == ("rescued", "healed"), again
    ended = ("within 10 ended $waiter", "grep -q 'Operation canceled' /tmp/waiter", "insmod decmod.ko")
    wrong = untrue(guest, [*ended, oopses(3)], known)
    assert not wrong, "\n".join(wrong)


WAITED_FOR = (
    "insmod late_oops.ko seconds=4 & sleep 1",
    "insmod late_oops.ko >/tmp/waiter 2>&1 & waiter=$!; echo waiter=$waiter",
    "late_oopses() { dmesg | grep -qE '(RIP|pc) ?: .*late_oops'; }; within 20 late_oopses",
    "asleep $waiter",
)
"""`$waiter` is queued on the entry of a dead load."""


@with_table
def test_what_somebody_elses_crashes_left_is_healed(guest: Guest) -> None:
    names = ("bug_mod1", "kerneloops", "createoops")
    prepare(guest, [f"dies insmod {module}.ko" for module in names])
    run_python(guest, WITHOUT_HEAL, *names, timeout=240)
    refused, dry, heal, again = ask(
        guest,
        ["load", "/share/bug_mod1.ko"],
        ["heal", "--dry-run", "--json"],
        ["heal", "--json"],
        ["heal", "--json"],
        timeout=240,
    )
    assert refused.code == 3, refused
    assert "the kernel would crash" in refused.stderr, refused
    assert (dry.object["outcome"], dry.object["record"]) == ("planned", ""), dry
    result = healed(heal)
    assert (
        1 <= len([bucket for bucket in result["before"]["buckets"] if bucket["dead"] != "0x0"]) <= len(names)
    )
    assert result["plan"]["steps"] == dry.object["plan"]["steps"]
    assert (again.object["outcome"], again.code) == ("nothing", 0), again
    loads(guest)
    prepare(guest, [f"dies insmod {module}.ko" for module in names])
    wrong = untrue(guest, [oopses(2 * len(names)), "insmod decmod.ko", "rmmod decmod"])
    assert not wrong, "\n".join(wrong)


@with_table
def test_those_that_wait_for_the_dead_end_and_the_living_go_on(guest: Guest) -> None:
    seconds = (
        80 if guest.kernel.series.architecture == "arm64" else 45
    )  # a heal takes up to half a minute there
    answer = run_python(guest, NEIGHBOURS, str(seconds), timeout=240)
    known = dict(line.split("=") for line in answer.splitlines())
    prepare(guest, ["within 30 said 'Oops: '", "asleep $orphan", "asleep $waiter"], known)
    (heal,) = ask(guest, ["heal", "--json"], timeout=240)
    result = healed(heal)
    (bucket,) = (bucket for bucket in result["before"]["buckets"] if bucket["dead"] != "0x0")
    assert bucket["number"] == int(known["bucket"])
    roles = {str(node["pid"]): node["role"] for node in result["before"]["nodes"]}
    assert roles == {
        known["old"]: "loader",
        known["second"]: "loader",
        known["orphan"]: "waiter",
        known["waiter"]: "waiter",
    }, heal
    wrong = untrue(
        guest,
        [
            "within 10 ended $orphan",
            "grep -q 'Operation canceled' /tmp/orphan",
            "! ended $old",
            "! ended $waiter",
            "within 90 is slow_init live",
            "within 90 is slow_provider live",
            "within 20 ended $old",
            "within 20 ended $waiter",
            "[ ! -s /tmp/waiter ]",
            oopses(1),
        ],
        known,
    )
    assert not wrong, "\n".join(wrong)
    loads(guest)
    (after,) = ask(guest, ["heal", "--json"])
    assert (after.object["outcome"], after.object["before"]["buckets"]) == ("nothing", []), after


@with_table
def test_a_lock_that_a_dead_task_holds_is_released(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    run_python(guest, LOCK, timeout=120)
    refused, heal = ask(guest, ["load", "/share/decmod.ko"], ["heal", "--json"], timeout=240)
    assert refused.code == 3, refused
    assert "idem_lock is held" in refused.stderr, refused
    result = healed(heal)
    assert result["before"]["lock_held"], heal
    assert result["plan"]["steps"][-1]["lock"] == "none", heal
    (rescue,) = ask(guest, ["rescue", "bug_mod1", "--json"], timeout=240)
    assert rescue.object["outcome"] == "rescued", rescue
    loads(guest)
    prepare(guest, ["dies insmod bug_mod1.ko"])
    assert not untrue(guest, [oopses(2)])


@with_table
def test_more_waiters_than_one_helper_ends_and_two_heals_at_once(guest: Guest) -> None:
    """All that wait go on; of two lkm one heals, and the other finds that done, or says who is at it."""
    crowd = f"for n in $(seq {CROWD}); do insmod late_oops.ko 2>/tmp/crowd-$n & done; sleep 1"
    known = prepare(
        guest, ["insmod late_oops.ko seconds=12 & sleep 1", crowd, "within 60 said 'Oops: '", "sleep 2"]
    )
    done = guest.run(["sh", "-c", "lkm heal --json >/tmp/1 & lkm heal --json >/tmp/2; wait"], timeout=240)
    both = [json.loads(guest.run(["cat", path]).stdout) for path in ("/tmp/1", "/tmp/2")]
    assert any(each["outcome"] == "healed" for each in both), (done, both)
    for each in both:
        held = each["outcome"] == "failed" and "another lkm (pid " in each["reason"]
        assert held or each["outcome"] in ("healed", "nothing"), both
    assert max(len(each["before"]["nodes"]) for each in both) == CROWD, both
    ended = f'canceled() {{ [ "$(cat /tmp/crowd-* | grep -c "Operation canceled")" = {CROWD} ]; }}'
    wrong = untrue(guest, [f"{ended}; within 20 canceled", oopses(1)], known)
    assert not wrong, "\n".join(wrong)
    loads(guest, 100, 20)


CROWD = 45
"""Waiters of one load: a helper ends some 35."""


@with_table
def test_a_load_in_progress_is_left_alone(guest: Guest) -> None:
    prepare(guest, ["insmod slow_init.ko seconds=25 & echo loader=$!", "within 10 is slow_init coming"])
    (heal,) = ask(guest, ["heal", "--json"])
    assert (heal.object["outcome"], heal.code) == ("nothing", 0), heal
    wrong = untrue(
        guest, ["within 60 is slow_init live", "rmmod slow_init", 'unsaid "Oops"', "insmod decmod.ko"]
    )
    assert not wrong, "\n".join(wrong)


def test_a_kernel_that_has_no_such_table() -> None:
    with Guest.clone("6.1") as guest:
        (heal,) = ask(guest, ["heal", "--json"])
    assert (heal.object["outcome"], heal.code) == ("nothing", 0), heal
    assert heal.object["before"]["present"] is False
