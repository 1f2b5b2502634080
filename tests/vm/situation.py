# SPDX-License-Identifier: MIT
"""A situation: what is done to a module, and what is then true of it, of `lkm why` and of `lkm rescue`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lkm.lab.vm import Guest
from tests.vm.oopses import stray_oopses
from tests.vm.talk import Answer, ask, fault_names, messages, prepare, untrue

__all__ = ["Moment", "Situation", "check_diagnosis", "play", "refused", "removed", "rescued"]

Lines = tuple[str, ...]
Holders = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Moment:
    """One point of a situation.

    steps     shell lines that lead here (see talk.WORDS); `name=value` in their output defines `$name`
    findings  codes that `why` tells, among others; `absent`: codes that it must not tell
    why       exit code of `lkm why`
    holders   fields of holders that are named, one mapping each; `$name` stands for its value
    words     what stands somewhere in the diagnosis
    outcome, code  of `lkm rescue`, with the arguments `rescue`
    after     shell lines that hold afterwards
    """

    verdict: str
    why: int
    outcome: str
    code: int
    steps: Lines = ()
    findings: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    holders: Holders = ()
    words: tuple[str, ...] = ()
    rescue: tuple[str, ...] = ()
    after: Lines = ()


@dataclass(frozen=True)
class Situation:
    """A module and the moments that it goes through."""

    name: str
    module: str
    moments: tuple[Moment, ...]

    def __str__(self) -> str:
        return self.name

    @property
    def expected(self) -> str:
        """Verdict and outcome of each moment, in words."""
        return ", then ".join(dict.fromkeys(f"{moment.verdict}: {moment.outcome}" for moment in self.moments))


def removed(module: str, *, steps: Lines = (), findings: tuple[str, ...] = (), after: Lines = ()) -> Moment:
    """Plain removal is sound, and done."""
    gone = (f"gone {module}", *after)
    return Moment("removable", 0, "removed", 0, steps=steps, findings=findings, after=gone)


def rescued(
    module: str,
    *findings: str,
    steps: Lines = (),
    absent: tuple[str, ...] = (),
    holders: Holders = (),
    words: tuple[str, ...] = (),
    after: Lines = (),
) -> Moment:
    """Edits were needed and sound, and the module is out."""
    return Moment(
        "safe", 1, "rescued", 0, steps=steps, findings=findings, absent=absent, holders=holders, words=words,
        after=(f"gone {module}", *after),
    )  # fmt: skip


def refused(
    *findings: str,
    steps: Lines = (),
    absent: tuple[str, ...] = (),
    holders: Holders = (),
    words: tuple[str, ...] = (),
    rescue: tuple[str, ...] = (),
    after: Lines = (),
) -> Moment:
    """No sound way now: nothing is written."""
    return Moment(
        "refuse", 1, "refused", 3, steps=steps, findings=findings, absent=absent, holders=holders, words=words,
        rescue=rescue, after=after,
    )  # fmt: skip


def play(guest: Guest, situation: Situation, *, ask_why: bool) -> None:
    """Go through the moments, and look whether the world is as they say.

    `lkm rescue` tells its diagnosis too; `ask_why` has `lkm why` tell it as well, which takes its time.
    """
    known: dict[str, str] = {}
    for moment in situation.moments:
        known = prepare(guest, moment.steps, known)
        commands = [["rescue", situation.module, *moment.rescue, "--json"]]
        if ask_why:
            commands.insert(0, ["why", situation.module, "--json"])
        *asked, answer = ask(guest, *commands)
        for why in asked:
            assert why.code == moment.why, why
            check_diagnosis(why.object, moment, known, why)
        check_diagnosis(answer.object["before"], moment, known, answer)
        _check_rescue(answer, moment)
        wrong = untrue(guest, moment.after, known)
        assert not wrong, "\n".join(["not true afterwards:", *wrong, str(answer)])
    stray = stray_oopses(messages(guest), fault_names(guest))
    assert not stray, f"oopses that no fault made: {stray}"


def check_diagnosis(
    diagnosis: Mapping[str, Any], moment: Moment, known: Mapping[str, str], answer: Answer
) -> None:
    """What the moment says of the diagnosis; `answer` is shown where that is not so."""
    told = {finding["code"] for finding in diagnosis["findings"]}
    assert diagnosis["schema"] == "lkm.why/1", answer
    assert set(moment.findings) <= told, f"{moment.findings} are not all told\n{answer}"
    assert not told & set(moment.absent), f"one of {moment.absent} is told\n{answer}"
    assert (diagnosis["verdict"] or "none") == moment.verdict, answer
    holders = [holder for finding in diagnosis["findings"] for holder in finding["holders"]]
    for wanted in moment.holders:
        fields = {key: _value(value, known) for key, value in wanted.items()}
        named = any(all(str(holder[key]) == value for key, value in fields.items()) for holder in holders)
        assert named, f"no holder is {fields}\n{answer}"
    if moment.verdict == "crash":
        assert any(finding["event"] for finding in diagnosis["findings"]), answer
    for word in moment.words:
        assert _value(word, known) in answer.stdout, f"{word!r} is not said\n{answer}"


def _check_rescue(answer: Answer, moment: Moment) -> None:
    result = answer.object
    assert result["schema"] == "lkm.rescue/1", answer
    assert (result["outcome"], answer.code) == (moment.outcome, moment.code), answer
    if moment.outcome in ("rescued", "removed"):
        assert result["proof"], answer
        assert all(check["holds"] for check in result["proof"]), answer
        assert result["after"]["state"] is None, answer
    else:
        assert result["reason"], answer
        assert result["remedy"], answer
    if moment.outcome == "refused":
        assert not result["record"], answer


def _value(value: Any, known: Mapping[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda name: known[name.group(1)], str(value))
