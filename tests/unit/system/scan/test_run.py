# SPDX-License-Identifier: MIT
"""What is done with the words that a search found."""

from __future__ import annotations

import pytest

from lkm.system.kcore import Segment
from lkm.system.scan import run
from lkm.system.scan.engine import RawHit, Span
from lkm.system.scan.translate import LinearMap
from tests.unit.system.kernel import MODULES
from tests.unit.system.scan.world import OTHER, OTHERS, demo, make_kernel


def test_more_words_than_can_be_looked_at_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_MOST", 3)
    memory = make_kernel().memory()
    words = [RawHit(8 * index, MODULES + 8 * index) for index in range(5)] + [RawHit(0x100, OTHER)]
    kept = run._first_of(memory, [demo(), OTHERS], words)
    assert kept == [*words[:3], words[5]]
    assert memory.notes == ["2 of 5 pointers into demo were not looked at"]


IMAGE = Segment(0xFFFF_8000_8000_0000, 0x10000, 0, 0x4020_0000)
RAM = Segment(0xFFFF_0000_0000_0000, 0x100_0000, 0, 0x4000_0000)
DATA = IMAGE.start + 0x8000


class Kcore:
    """The image has variables at `DATA`; the linear map shows them or not."""

    segments = (IMAGE, RAM)

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def read(self, address: int, size: int) -> bytes:
        return (
            bytes([1] * size)
            if address == DATA or (self._shown and address == RAM.start + 0x20_8000)
            else bytes(size)
        )


class Pages:
    page_size = 4096


@pytest.mark.parametrize(("shown", "start", "spans"), [
    (False, DATA, [Span(IMAGE, DATA, 0x8000)]), (True, DATA, []), (False, IMAGE.start, []), (False, 0, []),
])  # fmt: skip
def test_variables_that_the_linear_map_does_not_show_are_searched_in_the_image(
    *, shown: bool, start: int, spans: list[Span]
) -> None:
    """Where both are zeros there is nothing to be seen."""
    ram = run.Ram(Kcore(shown=shown), LinearMap([RAM]), None, Pages())  # type: ignore[arg-type]
    assert ram.hidden_variables(start) == spans
