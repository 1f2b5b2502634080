# SPDX-License-Identifier: MIT
"""The demo's rows, each in a guest: all is as expected."""

from __future__ import annotations

import pytest

from lkm.lab.demo import Demo, problems
from lkm.lab.demo_rows import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_is_as_expected(row: Row) -> None:
    ((shown, seen),) = Demo([row], "6.1").run()
    assert shown is row
    assert problems(row, seen) == []
    assert seen.again
