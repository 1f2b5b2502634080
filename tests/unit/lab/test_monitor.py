# SPDX-License-Identifier: MIT
"""QEMU's monitor when QEMU does not answer as it should."""

from __future__ import annotations

import gc
import socket

import pytest

from lkm.errors import LabError
from lkm.lab.monitor import Monitor


def test_a_failed_greeting_leaves_nothing_open() -> None:
    """An open socket or event loop would be a ResourceWarning when it is collected, which fails a test."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(LabError, match="connecting"):
        Monitor(ours)
    gc.collect()
    assert ours.fileno() == -1
