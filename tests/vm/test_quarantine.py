# SPDX-License-Identifier: MIT
"""`lkm quarantine` on real kernels: the name is free, a fixed build works, and what had the name ends as it would."""

from __future__ import annotations

import json
import os

import pytest

from lkm.lab.vm import Guest
from tests.vm.renamed import renamed
from tests.vm.talk import Answer, ask, prepare, run_python, untrue

LONG = "a_name_of_as_many_characters_as_a_name_of_a_module_has_"
BLOCKED = ("rmmod exit_block & remover=$!", "within 10 is exit_block going", "within 5 asleep $remover",
           "echo remover=$remover")  # fmt: skip
CALM = ('unsaid "Oops"', 'unsaid "BUG:"', 'unsaid "WARNING:"', 'unsaid "cannot be renamed"')


def put(guest: Guest, faults: str, module: str, name: str) -> str:
    """Put a faulty or sound module into the guest under another name; its path there."""
    path = f"/tmp/{name}.ko"
    done = guest.run(["sh", "-c", f"cat >{path}"], stdin=renamed(os.path.join(faults, f"{module}.ko"), name))
    assert done.returncode == 0, done
    return path


def quarantine(guest: Guest, name: str, new: str, *options: str) -> Answer:
    """Quarantine that must succeed, and give this name."""
    (answer,) = ask(guest, ["quarantine", name, *options, "--json"])
    result = answer.object
    assert (result["schema"], result["outcome"], answer.code) == ("lkm.quarantine/1", "quarantined", 0), (
        answer
    )
    assert all(check["holds"] for check in result["proof"]), answer
    assert result["after"]["module"] == new, answer
    assert any(finding["code"] == "quarantined" for finding in result["after"]["findings"]), answer
    return answer


def unload(guest: Guest, name: str) -> None:
    """By lkm: kmod's rmmod cuts a name at its dot."""
    (answer,) = ask(guest, ["unload", name, "--json"])
    assert answer.object["outcome"] == "removed", answer


def holds(guest: Guest, *lines: str, known: dict[str, str] | None = None) -> None:
    wrong = untrue(guest, lines, known)
    assert not wrong, "\n".join(wrong)


def test_a_blocked_exit_gives_its_name_away(guest: Guest, faults: str) -> None:
    fixed = put(guest, faults, "decmod", "exit_block")
    known = prepare(guest, ["insmod exit_block.ko", *BLOCKED])
    (refused,) = ask(guest, ["rescue", "exit_block", "--json"])
    assert "lkm quarantine exit_block" in refused.object["remedy"], refused
    before = memory_of(guest, "exit_block")
    quarantine(guest, "exit_block", "exit_block.dead1")
    assert changes(before, memory_of(guest, "exit_block.dead1")) == []
    listing, why, rescue = ask(
        guest,
        ["list", "--json"],
        ["why", "exit_block.dead1", "--json"],
        ["rescue", "exit_block.dead1", "--json"],
    )
    marked = [each["name"] for each in listing.object["modules"] if each["quarantined"]]
    assert marked == ["exit_block.dead1"], listing
    assert {"exit-running", "quarantined"} <= {each["code"] for each in why.object["findings"]}, why
    assert rescue.object["outcome"] == "refused", rescue
    prepare(guest, [f"insmod {fixed}", "is exit_block live"])
    (unload,) = ask(guest, ["unload", "exit_block", "--json"])
    assert unload.object["outcome"] == "removed", unload
    prepare(
        guest,
        [f"insmod {fixed}", "! ended $remover", "echo 1 >/sys/module/exit_block.dead1/parameters/release",
         "within 10 ended $remover", "within 10 gone exit_block.dead1", "is exit_block live", "rmmod exit_block",
         "insmod exit_block.ko release=1", "rmmod exit_block"],
        known,
    )  # fmt: skip
    holds(guest, 'said "exit_block: exit ends"', *CALM)


def memory_of(guest: Guest, name: str) -> tuple[int, int, dict[int, bytes]]:
    """Address and size of its struct module, and its memory, a range each."""
    address, size, ranges = json.loads(run_python(guest, READ_MEMORY, name))
    return address, size, {start: bytes.fromhex(data) for start, data in ranges}


READ_MEMORY = """
import json, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.memory import open_memory
snapshot = capture(Root.live())
module, memory = snapshot.module(ModuleName(sys.argv[1])), open_memory(Root.live())
ranges = [[r.start, memory.read(r.start, r.size).hex()] for r in module.memory]
json.dump([module.address, snapshot.layout.size, ranges], sys.stdout)
"""


def changes(before: tuple[int, int, dict[int, bytes]], after: tuple[int, int, dict[int, bytes]]) -> list[int]:
    """Where memory differs, outside of the struct module, which did not move."""
    address, size, old = before
    assert (address, size) == after[:2]
    assert old.keys() == after[2].keys()
    return [
        start + at
        for start, data in old.items()
        for at, (one, other) in enumerate(zip(data, after[2][start]))
        if one != other and not address <= start + at < address + size
    ]


def test_dead_inits_give_their_name_away_and_are_rescued_later(guest: Guest, faults: str) -> None:
    fixed = put(guest, faults, "decmod", "bug_mod1")
    once_more = put(
        guest, faults, "bug_mod1", "bug_mod1"
    )  # another inode: the first one's load dangles since 6.5
    prepare(guest, ["dies insmod bug_mod1.ko"])
    quarantine(guest, "bug_mod1", "bug_mod1.dead1")
    prepare(guest, [f"mv {once_more} /tmp/again.ko", "dies insmod /tmp/again.ko"])
    quarantine(guest, "bug_mod1", "bug_mod1.dead2")
    fixed = put(guest, faults, "decmod", "bug_mod1")
    prepare(
        guest, [f"insmod {fixed}", "is bug_mod1 live", "is bug_mod1.dead1 going", "is bug_mod1.dead2 going"]
    )
    for answer in ask(
        guest, *(["rescue", f"bug_mod1.dead{number}", "--json"] for number in (1, 2)), timeout=240
    ):
        assert answer.object["outcome"] == "rescued", answer
    holds(guest, "gone bug_mod1.dead1", "gone bug_mod1.dead2", "is bug_mod1 live", "rmmod bug_mod1",
          '[ "$(dmesg | grep -c Oops:)" = 2 ]')  # fmt: skip


SPOILED = """
import json, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.names import ModuleName
from lkm.rescue.execution import help_patiently
from lkm.rescue.plan import Argument
from lkm.rescue.planner import plan_rescue
from lkm.rescue.request import Request
from lkm.root import Root
from lkm.system.capture import capture
root, name = Root.live(), ModuleName(sys.argv[1])
before = capture(root)
plan = plan_rescue(before, name, Request(quarantine=True))
step = plan.target
rename, *others = step.after
taken = rename._replace(arguments=(rename.arguments[0], Argument(text="kernel")))
failure = help_patiently(root, plan, step._replace(after=(taken, *others)))
after = capture(root)
json.dump([failure.outcome.name, failure.operation, failure.reason,
           [edit.field for edit in step.writes], before.module(name).raw == after.module(name).raw], sys.stdout)
"""


def test_a_rename_that_fails_leaves_all_as_it_was(guest: Guest) -> None:
    """/sys/module/kernel is there: kobject_rename answers EEXIST, after all writes."""
    prepare(guest, ["dies insmod bug_mod1.ko"])
    outcome, operation, reason, fields, same = json.loads(run_python(guest, SPOILED, "bug_mod1"))
    assert (outcome, operation) == ("CALL_FAILED", "kobject_rename"), reason
    assert "was undone" in reason
    assert {"refcnt", "state"} < set(fields)
    assert same
    holds(guest, "is bug_mod1 coming", "[ -d /sys/module/kernel ]")
    quarantine(guest, "bug_mod1", "bug_mod1.dead1")
    (rescued,) = ask(guest, ["rescue", "bug_mod1.dead1", "--json"], timeout=240)
    assert rescued.object["outcome"] == "rescued", rescued
    holds(guest, '[ "$(dmesg | grep -c Oops:)" = 1 ]')


def test_a_name_of_55_characters(guest: Guest, faults: str) -> None:
    assert len(LONG) == 55
    stuck, fixed = put(guest, faults, "exit_block", LONG), put(guest, faults, "decmod", "fixed")
    guest.run(["sh", "-c", "cat >/tmp/fixed.ko"], stdin=renamed(os.path.join(faults, "decmod.ko"), LONG))
    steps = [f"insmod {stuck}", f"rmmod {LONG} &", f"within 10 is {LONG} going", "sleep 1"]
    prepare(guest, steps)
    first, second = (f"{LONG[:49]}.dead{number}" for number in (1, 2))
    quarantine(guest, LONG, first)
    prepare(guest, steps)
    quarantine(guest, LONG, second)
    prepare(
        guest,
        [f"insmod {fixed}", f"is {LONG} live", f"echo 1 >/sys/module/{second}/parameters/release",
         f"within 10 gone {second}", f"is {first} going", f"echo 1 >/sys/module/{first}/parameters/release",
         f"within 10 gone {first}", f"rmmod {LONG}"],
    )  # fmt: skip
    holds(guest, *CALM)


def test_what_it_uses_and_who_uses_it(guest: Guest, faults: str) -> None:
    """The links in holders/ go with the new name, so a new build makes its own, and each removal its own away."""
    fixed = put(guest, faults, "dependent", "dead_dependent")
    prepare(guest, ["insmod provider.ko", "dies insmod dead_dependent.ko"])
    quarantine(guest, "dead_dependent", "dead_dependent.dead1")
    prepare(guest, ['[ "$(ls /sys/module/provider/holders)" = dead_dependent.dead1 ]', f"insmod {fixed}"])
    quarantine(guest, "provider", "provider.dead1", "--force")
    (rescued,) = ask(guest, ["rescue", "dead_dependent.dead1", "--json"])
    assert rescued.object["outcome"] == "rescued", rescued
    prepare(
        guest,
        ["insmod provider.ko", "insmod dependent.ko",
         '[ "$(ls /sys/module/provider/holders)" = dependent ]',
         '[ "$(ls /sys/module/provider.dead1/holders)" = dead_dependent ]',
         'grep -q "^provider.dead1 .* dead_dependent," /proc/modules',
         "rmmod dead_dependent"],
    )  # fmt: skip
    unload(guest, "provider.dead1")
    prepare(guest, ["rmmod dependent", "rmmod provider"])
    holds(guest, '[ "$(dmesg | grep -c Oops:)" = 1 ]', 'unsaid "WARNING:"')


def test_one_that_is_in_use_goes_on(guest: Guest, faults: str) -> None:
    fixed = put(guest, faults, "decmod", "left_misc")
    known = prepare(
        guest,
        ["insmod left_misc.ko die=0", "sleep 1000 </dev/left-over & holder=$!", "within 5 asleep $holder",
         "echo holder=$holder"],
    )  # fmt: skip
    (refused,) = ask(guest, ["quarantine", "left_misc", "--json"])
    assert (refused.object["outcome"], "it is in use" in refused.object["reason"]) == ("refused", True), (
        refused
    )
    answer = quarantine(guest, "left_misc", "left_misc.dead1", "--force")
    assert any("misc left-over" in warning for warning in answer.object["plan"]["warnings"]), answer
    prepare(
        guest,
        [f"insmod {fixed}", '[ "$(cat /dev/left-over)" = "left over" ]', '[ "$(count_of left_misc.dead1)" = 1 ]',
         "kill $holder", "within 5 ended $holder", "rmmod left_misc"],
        known,
    )  # fmt: skip
    unload(guest, "left_misc.dead1")
    prepare(guest, ["insmod left_misc.ko die=0", "rmmod left_misc"])
    holds(guest, *CALM)


def test_an_init_that_sleeps_ends_as_it_would(guest: Guest, faults: str) -> None:
    fixed = put(guest, faults, "decmod", "slow_init")
    known = prepare(
        guest,
        ["insmod slow_init.ko seconds=60 & loader=$!", "within 10 is slow_init coming", "within 5 asleep $loader",
         "cp slow_init.ko /tmp/other.ko",  # since 6.5 a load of the same file waits for the first one's result
         "insmod /tmp/other.ko 2>/tmp/waiter & waiter=$!", "within 5 asleep $waiter", "sleep 0.5",
         "echo loader=$loader; echo waiter=$waiter"],
    )  # fmt: skip
    quarantine(guest, "slow_init", "slow_init.dead1")
    prepare(
        guest,
        ["within 10 ended $waiter", f"insmod {fixed}", "is slow_init live", "is slow_init.dead1 coming",
         "within 75 ended $loader", "is slow_init.dead1 live", "rmmod slow_init"],
        known,
    )  # fmt: skip
    unload(guest, "slow_init.dead1")
    holds(guest, *CALM)


def test_a_load_that_waits_for_its_symbol_finds_none(guest: Guest) -> None:
    known = prepare(
        guest,
        ["dies insmod dead_provider.ko", "insmod symbol_waiter.ko 2>/tmp/waiter & waiter=$!",
         "within 5 asleep $waiter", "sleep 1", "echo waiter=$waiter"],
    )  # fmt: skip
    quarantine(guest, "dead_provider", "dead_provider.dead1")
    holds(
        guest,
        "within 10 ended $waiter",
        "gone symbol_waiter",
        'grep -q "Unknown symbol" /tmp/waiter',
        known=known,
    )


@pytest.mark.parametrize(
    ("steps", "name", "words"),
    [
        (["insmod decmod.ko"], "decmod", "lkm unload decmod"),
        (["insmod none_exit.ko"], "none_exit", ""),
        (["insmod slow_provider.ko seconds=20 &", "sleep 1", "insmod slow_dependent.ko &", "sleep 1"],
         "slow_dependent", "set up or taken apart"),
    ],
    ids=["healthy", "permanent", "unformed"],
)  # fmt: skip
def test_the_dry_run(guest: Guest, steps: list[str], name: str, words: str) -> None:
    """What is refused has its reason; what would be done is done by its plan, and by no other command."""
    prepare(guest, steps)
    (dry,) = ask(guest, ["quarantine", name, "--dry-run", "--json"])
    if words:
        assert (dry.object["outcome"], dry.code) == ("refused", 3), dry
        assert words in dry.stdout, dry
        return
    assert (dry.object["outcome"], dry.code) == ("planned", 0), dry
    guest.run(["sh", "-c", "cat >/tmp/plan"], stdin=json.dumps(dry.object["plan"]).encode())
    wrong, right, again = ask(
        guest, ["rescue", name, "--plan", "/tmp/plan"], ["quarantine", name, "--plan", "/tmp/plan", "--json"],
        ["quarantine", f"{name}.dead1", "--json"],
    )  # fmt: skip
    assert (wrong.code, "a plan of lkm quarantine" in wrong.stderr) == (2, True), wrong
    assert (right.object["outcome"], right.object["plan"]) == ("quarantined", dry.object["plan"]), right
    assert right.object["record"].startswith("/var/lib/lkm/quarantine-"), right
    assert (again.object["outcome"], again.code) == ("refused", 3), again


PROGRAM = """
import json, os, sys, time
sys.path[0] = "/usr/lib/lkm"
from lkm.names import module_name
from lkm.rescue.request import Request
from lkm.rescue.rescue import rescue
from lkm.rescue.result import Options, Outcome
from lkm.root import Root
from lkm.system.calls import delete_module, init_module

def load(path):
    with open(path, "rb") as stream:
        return init_module(stream.read(), seconds=20)

def must(result, outcome=True):
    if (result.ok if outcome is True else result.outcome) is not outcome:
        raise SystemExit(f"cycle {number}: {result}")

root = Root.live()
for number in range(int(sys.argv[1])):
    must(load("/share/exit_block.ko"))
    delete_module("exit_block", seconds=0.3, kill=False)
    must(rescue(root, module_name("exit_block"), Options(request=Request(quarantine=True))), Outcome.QUARANTINED)
    must(load("/tmp/exit_block.ko"))
    must(delete_module("exit_block", seconds=20))
    with open("/sys/module/exit_block.dead1/parameters/release", "w") as stream:
        stream.write("1")
    deadline = time.monotonic() + 20
    while os.path.exists("/sys/module/exit_block.dead1"):
        if time.monotonic() > deadline:
            raise SystemExit(f"cycle {number}: its exit did not end")
        time.sleep(0.05)
"""


def test_quarantines_in_a_row(guest: Guest, faults: str) -> None:
    cycles = 20
    put(guest, faults, "decmod", "exit_block")
    run_python(guest, PROGRAM, str(cycles), timeout=900)
    holds(guest, f'[ "$(dmesg | grep -c "exit_block: exit ends")" = {cycles} ]', *CALM)
