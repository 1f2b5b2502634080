# SPDX-License-Identifier: MIT
"""The helper on real kernels: all edits or none, and a bad address is an answer, never an oops.

The edits are made in the unused end of a healthy module's name, four slots of 8 bytes that nobody reads.
"""

from __future__ import annotations

import json

from lkm.lab.vm import Guest
from tests.vm.talk import prepare, run_python, untrue

PROGRAM = """
import json, os, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.errors import LkmError
from lkm.names import module_name
from lkm.rescue.execute import execute_step
from lkm.rescue.helper import TAKES_QUEUED_LOCKS
from lkm.rescue.plan import Argument, Call, Edit, EditKind, Lock
from lkm.rescue.planner import plan_rescue
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.memory import read_memory

CHECK, STORE, CMPXCHG = EditKind.CHECK, EditKind.STORE, EditKind.CMPXCHG
root = Root.live()
snapshot = capture(root)
plan = plan_rescue(snapshot, module_name("leak_ref"))
slots = [snapshot.module(module_name("decmod")).address + 24 + 24 + 8 * i for i in range(4)]
text = plan.symbols["mutex_trylock"]
user = id(plan) & ~7
memory, error = read_memory(root)
in_text = memory.u64(text)

def edit(field, address, old, new, kind=STORE, width=8):
    return Edit(field, address, width, old, new, kind)

def execute(*edits, symbols=plan.symbols, before=(), after=(), lock=Lock.MODULE_MUTEX):
    step = plan.steps[0]._replace(edits=edits, before=before, after=after, lock=lock)
    try:
        failure = execute_step(plan._replace(symbols=symbols), step)
    except LkmError as error:
        return [str(error).split(":")[0], ""]
    return [failure.outcome.name, failure.operation] if failure else ["WRITTEN", ""]

def values():
    return [memory.u64(slot) for slot in slots]

def case(*edits, **more):
    return [*execute(*edits, **more), values()]

def clear():
    execute(*(edit("clear", slot, value, 0) for slot, value in zip(slots, values()) if value))

ones = [edit(f"slot {i}", slots[i], 0, 1 + i) for i in range(3)]
BAD = {"unmapped": 0xFFFFFFFFFFFFE000, "beyond the address space": 1 << 63, "null": 0, "user": user}
results = {"slots at first": values()}
results["all hold"] = case(*ones); clear()
results["half a word"] = case(edit("low", slots[0], 0, 0xAAAABBBB, width=4),
                              edit("high", slots[0] + 4, 0, 0xCCCCDDDD, CMPXCHG, width=4)); clear()
for place in range(3):
    other = [one._replace(expected=7) if i == place else one for i, one in enumerate(ones)]
    results[f"slot {place} differs"] = case(*other)
results["a check differs, last"] = case(*ones, edit("check", slots[3], 9, 9, CHECK))
results["a cmpxchg differs, last"] = case(*ones, edit("count", slots[3], 9, 1, CMPXCHG, width=4))
for name, address in BAD.items():
    for kind in (CHECK, STORE, CMPXCHG):
        results[f"{kind.value} at {name}"] = case(*ones, edit("bad", address, 0, 0, kind, width=4))
results["read-only, last"] = case(*ones, edit("text", text, in_text, in_text))
results["read-only, in the middle"] = case(*ones[:2], edit("text", text, in_text, in_text ^ 1), ones[2])
results["text after that"] = memory.u64(text) == in_text
execute(edit("owner", slots[0], 0, plan.steps[0].address))
held = {**plan.symbols, "module_mutex": slots[0]}
results["mutex held by another"] = case(*ones[1:], symbols=held)[:2] + [values()[1:]]
clear()
hidden = {name: value for name, value in plan.symbols.items() if name != "module_mutex"}
results["mutex not known"] = case(*ones, symbols=hidden); clear()
locked = {"module_mutex": slots[3], **plan.symbols}  # where it is hidden, a slot stands for it
results["a function not known"] = case(*ones, symbols={**locked, "mutex_unlock": 0})
def copy(to, source, zero=True):
    name = "copy_from_kernel_nofault"
    return Call(name, plan.symbols[name], (Argument(to), source, Argument(8)), zero)
word, nowhere = Argument(text="a string"), Argument(BAD["null"])
results["calls around the writes"] = case(*ones, before=(copy(slots[0], Argument(slots[3])),),
                                          after=(copy(slots[3], Argument(slots[1])),)); clear()
results["a string"] = case(ones[0], after=(copy(slots[3], word),)); clear()
results["a call fails before"] = case(*ones, before=(copy(slots[3], nowhere),)); clear()
results["a call fails afterwards"] = case(*ones, after=(copy(slots[3], nowhere),)); clear()
results["its result does not matter"] = case(*ones, after=(copy(slots[3], nowhere, zero=False),)); clear()
results["a value differs: no call"] = case(ones[0]._replace(expected=7), before=(copy(slots[3], word),))
results["too many"] = case(*(ones * 86))
own = {"symbols": {**plan.symbols, "idem_lock": slots[0]}, "lock": Lock.IDEM_LOCK_INLINE}
if plan.machine in TAKES_QUEUED_LOCKS:  # a slot stands for the lock
    held = edit("lock, held meanwhile", slots[0], 1, 1, CHECK, width=4)
    results["its own lock"] = case(held, *ones[1:], **own); clear()
    results["its own lock, a value differs"] = case(held, ones[1]._replace(expected=7), **own)
    queued = edit("who waits", slots[0] + 2, 0, 5, width=1)
    results["its own lock, somebody waits"] = case(held, queued, **own)
    results["its own lock, held or waited for"] = case(ones[1], **own); clear()
else:
    results["its own lock"] = case(*ones[1:], **own)
results["slots at last"] = values()
print(json.dumps(results))
"""

NOTHING = [0, 0, 0, 0]
ALL = [1, 2, 3, 0]
BAD = ("unmapped", "beyond the address space", "null", "user")

EXPECTED = {
    "slots at first": NOTHING,
    "all hold": ["WRITTEN", "", ALL],
    "half a word": ["WRITTEN", "", [0xCCCCDDDD_AAAABBBB, 0, 0, 0]],
    "slot 0 differs": ["DIFFERS", "slot 0", NOTHING],
    "slot 1 differs": ["DIFFERS", "slot 1", NOTHING],
    "slot 2 differs": ["DIFFERS", "slot 2", NOTHING],
    "a check differs, last": ["DIFFERS", "check", NOTHING],
    "a cmpxchg differs, last": ["DIFFERS", "count", NOTHING],
    **{
        f"{kind} at {place}": ["UNREADABLE", "bad", NOTHING]
        for place in BAD
        for kind in ("check", "store", "cmpxchg")
    },
    "read-only, last": ["UNWRITABLE", "text", NOTHING],
    "read-only, in the middle": ["UNWRITABLE", "text", NOTHING],
    "text after that": True,
    "mutex held by another": ["LOCK_HELD", "", [0, 0, 0]],
    "mutex not known": ["WRITTEN", "", ALL],
    "a function not known": [
        "the address of mutex_unlock is not known; the helper needs /proc/kallsyms",
        "",
        NOTHING,
    ],
    "calls around the writes": ["WRITTEN", "", [1, 2, 3, 2]],
    "a string": ["WRITTEN", "", [1, 0, 0, int.from_bytes(b"a string", "little")]],
    "a call fails before": ["CALL_FAILED", "copy_from_kernel_nofault", NOTHING],
    "a call fails afterwards": ["CALL_FAILED", "copy_from_kernel_nofault", NOTHING],
    "its result does not matter": ["WRITTEN", "", ALL],
    "a value differs: no call": ["DIFFERS", "slot 0", NOTHING],
    "too many": ["258 edits and calls", "", NOTHING],
    "slots at last": NOTHING,
}

ITS_OWN_LOCK = {
    "its own lock": ["WRITTEN", "", [0, 2, 3, 0]],
    "its own lock, a value differs": ["DIFFERS", "slot 1", NOTHING],
    "its own lock, somebody waits": ["WRITTEN", "", [0x50000, 0, 0, 0]],
    "its own lock, held or waited for": ["LOCK_HELD", "", [0x50000, 0, 0, 0]],
}
"""On a machine whose helper takes a spinlock itself."""

NO_LOCK_OF_ITS_OWN = {"its own lock": ["idem_lock", "", NOTHING]}
"""On others: the helper is not made, and the lock is named."""

AFTERWARDS = (
    "! grep -q lkm_helper /proc/modules",
    "! ls /sys/module | grep -q lkm_helper",
    'unsaid "Oops"',
    'unsaid "BUG:"',
    'unsaid " returned with "',  # interrupts disabled, or preemption (do_one_initcall)
    "insmod bug_mod2.ko",
    "rmmod decmod",
    "gone decmod",
)


def test_edits_are_made_all_or_none_and_bad_addresses_are_answers(guest: Guest) -> None:
    prepare(guest, ["insmod decmod.ko", "insmod leak_ref.ko"])
    got = json.loads(run_python(guest, PROGRAM, timeout=180))
    arm64 = guest.kernel.series.architecture == "arm64"
    expected = {**EXPECTED, **(ITS_OWN_LOCK if arm64 else NO_LOCK_OF_ITS_OWN)}
    if arm64:
        # Without PAN (of ARMv8.1) the kernel can read what its process has mapped: it differs, then.
        for kind in ("check", "store", "cmpxchg"):
            outcome, _, slots = got.pop(f"{kind} at user")
            assert outcome in ("UNREADABLE", "DIFFERS")
            assert slots == NOTHING
            del expected[f"{kind} at user"]
    assert got == expected
    assert not untrue(guest, AFTERWARDS)
