# SPDX-License-Identifier: MIT
"""The kernel's text files: /proc/modules, /dev/kmsg, /proc/PID/stack."""

from __future__ import annotations

import pytest

from lkm.formats.kmsg import KmsgError, parse_kmsg_record
from lkm.formats.procmodules import ProcModule, ProcModulesError, ProcState, parse_proc_modules
from lkm.formats.stack import Frame, StackError, parse_stack
from lkm.names import module_name

MODULES = """\
stuck 16384 1 - Loading 0xffffffffc0a01000 (OE+)
dying 16384 -1 - Unloading 0xffffffffc0a00000 (OE-)
forever 16384 1 user,[permanent], Live 0x0000000000000000
snd_timer 45056 2 snd-seq,snd_pcm, Live 0xffffffffc0900000
static 8192 - - Live 0xffffffffc0800000
"""


def test_proc_modules() -> None:
    stuck, dying, forever, timer, static = parse_proc_modules(MODULES)
    assert stuck == ProcModule(
        module_name("stuck"), 16384, 1, (), False, ProcState.COMING, 0xFFFFFFFFC0A01000, "OE+"
    )
    assert (dying.refcnt, dying.state) == (-1, ProcState.GOING)
    assert (forever.users, forever.permanent, forever.address, forever.taints) == (("user",), True, 0, "")
    assert timer.users == ("snd_seq", "snd_pcm")
    assert static.refcnt is None
    assert parse_proc_modules("") == ()


@pytest.mark.parametrize(
    "line",
    [
        "stuck",
        "stuck 1 2 - Live",
        "x big 1 - Live 0x0",
        "x 1 1 - Dead 0x0",
        "x 1 1 - Live nowhere",
        "a b c d e f g h",
    ],
)
def test_proc_modules_line_that_is_none(line: str) -> None:
    with pytest.raises(ProcModulesError, match="/proc/modules: "):
        parse_proc_modules(f"{line}\n")


def test_kmsg_record_with_fields() -> None:
    record = parse_kmsg_record(
        b"30,339,5140900,-,caller=T1;NET: \\x5cx 10\\xc3\\xa4\n SUBSYSTEM=pci\n DEVICE=+pci:0\n"
    )
    assert (record.level, record.facility, record.seq, record.timestamp_us) == (6, 3, 339, 5140900)
    assert (record.flags, record.text, record.caller) == ("-", "NET: \\x 10ä", "T1")
    assert record.fields == {"SUBSYSTEM": "pci", "DEVICE": "+pci:0"}


def test_kmsg_text_may_hold_semicolons() -> None:
    record = parse_kmsg_record(b"4,1,0,c;a;b")
    assert (record.text, record.flags, record.fields, record.caller) == ("a;b", "c", {}, "")


def test_kmsg_text_that_is_not_utf8_stays_escaped() -> None:
    assert parse_kmsg_record(b"4,1,0,-;\\xff\n").text == "\\xff"


@pytest.mark.parametrize("data", [b"", b"4,1,0,-", b"4,1,0;x", b"a,1,0,-;x"])
def test_kmsg_bytes_that_are_no_record(data: bytes) -> None:
    with pytest.raises(KmsgError, match="/dev/kmsg: "):
        parse_kmsg_record(data)


STACK = """\
[<0>] crash_init+0x1b/0x1000 [crash-me]
[<0>] crash_exit+0x1/0x2 [crash 0123456789abcdef0123456789abcdef01234567]
[<0>] 0xffffffffc0123456
[<0>] do_init_module+0x4a/0x220
[<ffffffff81012345>] sym.isra.0+0x0/0x10
"""


def test_stack_frames() -> None:
    assert parse_stack(STACK) == (
        Frame("crash_init", 0x1B, 0x1000, module_name("crash_me"), None),
        Frame("crash_exit", 1, 2, module_name("crash"), None),
        Frame("", 0, 0, None, 0xFFFFFFFFC0123456),
        Frame("do_init_module", 0x4A, 0x220, None, None),
        Frame("sym.isra.0", 0, 0x10, None, None),
    )


def test_stack_of_a_running_task_is_empty() -> None:
    assert parse_stack("") == ()


def test_stack_end_mark_of_old_kernels_is_no_frame() -> None:
    text = "[<0>] x+0x1/0x2\n[<0>] 0xffffffffffffffff\n"
    assert parse_stack(text) == (Frame("x", 1, 2, None, None),)


@pytest.mark.parametrize("line", ["garbage", "[<0>] name", "[<0>] name+1/2", "[<0>] a+0x1/0x2 [mod"])
def test_stack_line_that_is_none(line: str) -> None:
    with pytest.raises(StackError, match="/proc/PID/stack: "):
        parse_stack(line)
