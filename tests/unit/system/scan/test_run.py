# SPDX-License-Identifier: MIT
"""What is done with the words that a search found."""

from __future__ import annotations

import pytest

from lkm.system.scan import run
from lkm.system.scan.engine import RawHit
from tests.unit.system.kernel import MODULES
from tests.unit.system.scan.world import OTHER, OTHERS, demo, make_kernel


def test_more_words_than_can_be_looked_at_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_MOST", 3)
    memory = make_kernel().memory()
    words = [RawHit(8 * index, MODULES + 8 * index) for index in range(5)] + [RawHit(0x100, OTHER)]
    kept = run._first_of(memory, [demo(), OTHERS], words)
    assert kept == [*words[:3], words[5]]
    assert memory.notes == ["2 of 5 pointers into demo were not looked at"]
