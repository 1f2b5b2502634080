# SPDX-License-Identifier: MIT
"""What `lkm why` says and `lkm rescue` does in each situation that a module can be in, on real kernels."""

from __future__ import annotations

import pytest

from lkm.lab.vm import Guest
from tests.vm.held import HELD
from tests.vm.left_behind import LEFT_BEHIND
from tests.vm.situation import Situation, play
from tests.vm.situations import SITUATIONS


@pytest.mark.parametrize("situation", [*SITUATIONS, *HELD, *LEFT_BEHIND], ids=str)
def test_situation(guest: Guest, situation: Situation) -> None:
    play(guest, situation)
