# SPDX-License-Identifier: MIT
"""The classic tools against kmod's on the same kernel: what they say, and what is loaded afterwards."""

from __future__ import annotations

from lkm.lab.vm import Guest
from tests.machine.fake import Answer, kmod_features
from tests.property.tree.compare import as_34, without_notes
from tests.vm.classic import SITUATIONS, Ending, run_situations


def test_the_classic_tools_do_as_kmod(guest: Guest) -> None:
    """One guest for all: each situation is cleaned up after."""
    release = max(int(word) for word in kmod_features() if word.isdecimal())
    situations = tuple(situation for situation in SITUATIONS if situation.since <= release)
    wrong = []
    for situation, kmod, lkm in run_situations(guest, situations):
        if _comparable(kmod) != _comparable(lkm):
            wrong.append(f"{situation}\n  kmod {kmod}\n  lkm  {lkm}")
        wrong += [
            f"{situation}: kmod does not say {word}" for word in situation.words if word not in str(kmod.said)
        ]
    assert not wrong, "\n".join(wrong)


def _comparable(ending: Ending) -> tuple[object, ...]:
    """Without the words that are lkm's own or those of kmod 30's library, and with what is printed in any order.

    kmod prints what it does when it ends if nobody watches, so behind what the commands print that it runs.
    """
    answers = [without_notes(as_34(Answer(code, out, err))) for code, out, err in ending.said]
    said = [(code, sorted(out.splitlines()), err) for code, out, err, _ in answers]
    return said, ending.loaded, ending.parameters
