# SPDX-License-Identifier: MIT
"""The kernel's messages since a moment: lost ones are said, odd ones left out, and nothing waits."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Union

from lkm.system.kmsg import KmsgLine, KmsgTail, drain, hidden_from_console
from tests.unit.system.trees import Tree

RECORD = b"4,370,11526709,-;demo: loaded\n SUBSYSTEM=x\n"


def reader(*answers: Union[bytes, int]) -> Callable[[], bytes]:
    """Reads that return bytes, or fail with an errno."""
    left = list(answers)

    def read() -> bytes:
        answer = left.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, "failed")
        return answer

    return read


def test_only_what_is_new(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    place = tree.write("/dev/kmsg", b"6,1,1,-;old\n")
    with KmsgTail(tree.root) as tail:
        assert tail.read_new() == ()
        with open(place, "ab") as file:
            file.write(RECORD)
        assert tail.read_new() == (KmsgLine(4, "demo: loaded", 370, 11.526709),)
        assert tail.note == ""
    assert tail.read_new() == ()


def test_no_kmsg_is_a_note(tmp_path: Path) -> None:
    tail = KmsgTail(Tree(str(tmp_path)).root)
    assert "/dev/kmsg" in tail.note
    assert tail.read_new() == ()


def test_overwritten_messages_are_said() -> None:
    lines, note = drain(reader(errno.EPIPE, RECORD, errno.EAGAIN))
    assert [line.seq for line in lines] == [370]
    assert "overwritten" in note


def test_bad_record_is_left_out() -> None:
    lines, note = drain(reader(b"what?", RECORD, errno.EAGAIN))
    assert len(lines) == 1
    assert note == ""


def test_error_ends_and_is_said() -> None:
    lines, note = drain(reader(RECORD, errno.EIO, RECORD))
    assert len(lines) == 1
    assert "to their end" in note


def test_console_shows_levels_below_its_own() -> None:
    line = KmsgLine(6, "text", 1, 1.0)
    assert hidden_from_console(line, 4)
    assert hidden_from_console(line, 6)
    assert not hidden_from_console(line, 7)
    assert not hidden_from_console(line, None)
