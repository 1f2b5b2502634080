# SPDX-License-Identifier: MIT
"""Several at once: one wins, the others get a clear answer, and the machine lives."""

from __future__ import annotations

import json
from typing import Any

from lkm.lab.vm import Guest
from tests.vm.oopses import stray_oopses
from tests.vm.talk import WORDS, ask, fault_names, messages, prepare, untrue

ROUNDS = 3
CLEAR = {
    "rescued": 0, "removed": 0, "not-loaded": 1, "failed": 1, "stopped": 1, "refused": 3,
}  # fmt: skip
"""Every outcome that one of several may have, with its exit code."""


def _at_once(guest: Guest, script: str) -> list[dict[str, Any]]:
    """Run the script, which leaves answers and codes in /tmp/N.json and /tmp/N.code; the answers."""
    done = guest.run(["sh", "-c", f"{WORDS}\nrm -f /tmp/*.json /tmp/*.code\n{script}"], timeout=180)
    shown = guest.run(
        ["sh", "-c", "for f in /tmp/*.json; do cat $f; echo; echo @; cat ${f%json}code; echo @@; done"]
    )
    answers = []
    for part in shown.stdout.decode().split("@@\n")[:-1]:
        text, code = part.split("@\n")
        assert text.strip(), (done, shown)
        answers.append({**json.loads(text), "code": int(code)})
    return answers


def _check(guest: Guest, answers: list[dict[str, Any]], *, winners: int | None = 1) -> None:
    for answer in answers:
        assert CLEAR[answer["outcome"]] == answer["code"], answer
        assert answer["reason"], answer
    won = [answer for answer in answers if answer["code"] == 0]
    assert winners is None or len(won) == winners, answers
    stray = stray_oopses(messages(guest), fault_names(guest))
    assert not stray, stray
    wrong = untrue(guest, ["! grep -q lkm_helper /proc/modules", "insmod decmod.ko", "rmmod decmod"])
    assert not wrong, "\n".join(wrong)


def _rescue(number: int, module: str, *options: str) -> str:
    command = " ".join(["lkm rescue", module, *options, "--json"])
    return f"({command} >/tmp/{number}.json; echo $? >/tmp/{number}.code)"


def test_two_rescues_of_one_module(guest: Guest) -> None:
    for number in range(ROUNDS):
        prepare(guest, ["dies insmod bug_mod1.ko"])
        pause = 0.15 * number
        answers = _at_once(
            guest, f"{_rescue(1, 'bug_mod1')} &\nsleep {pause}\n{_rescue(2, 'bug_mod1')} &\nwait"
        )
        assert len(answers) == 2
        _check(guest, answers)
        assert not untrue(guest, ["gone bug_mod1"])


def test_a_removal_at_once_with_a_rescue(guest: Guest) -> None:
    """The rescue makes the count right, and rmmod may be the one that removes it."""
    prepare(guest, ["insmod leak_ref.ko"])
    hurried = "while [ -e /sys/module/leak_ref ]; do rmmod leak_ref 2>/tmp/rmmod; done"
    answers = _at_once(guest, f"({hurried}) & loop=$!\n{_rescue(1, 'leak_ref')}\nwait $loop")
    _check(guest, answers, winners=None)
    assert not untrue(guest, ["gone leak_ref"])


def test_opens_at_the_moment_of_the_write(guest: Guest) -> None:
    """Each open holds a reference for a moment: what is written depends on the count that was expected."""
    prepare(guest, ["dies insmod left_holder.ko", "ls /dev/holdme"])
    opener = "(while [ -e /tmp/go ]; do : </dev/holdme; done) 2>/dev/null & loop=$!"
    answers = _at_once(
        guest,
        f"touch /tmp/go; {opener}\n{_rescue(1, 'left_holder', '--run-exit')}\nrm /tmp/go; wait $loop",
    )
    _check(guest, answers, winners=None)
    if answers[0]["code"]:
        (again,) = ask(guest, ["rescue", "left_holder", "--json"])
        assert again.object["outcome"] in ("rescued", "refused"), again
        if again.code:
            (again,) = ask(guest, ["rescue", "left_holder", "--run-exit", "--json"])
        assert again.object["outcome"] == "rescued", again
    assert not untrue(guest, ["gone left_holder", "[ ! -e /dev/holdme ]"])


def test_a_load_of_the_same_name_waits(guest: Guest) -> None:
    """The waiting load ends with an error, or dies as its file does; nobody waits for ever."""
    for number in range(ROUNDS):
        prepare(guest, ["dies insmod bug_mod1.ko"])
        answers = _at_once(
            guest,
            "insmod bug_mod1.ko 2>/tmp/waiter & waiter=$!\n"
            f"sleep {0.1 * number}\n{_rescue(1, 'bug_mod1')}\nwithin 20 ended $waiter || exit 1",
        )
        _check(guest, answers)
        assert not untrue(guest, ["gone bug_mod1"])
