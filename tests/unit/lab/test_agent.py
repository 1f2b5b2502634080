# SPDX-License-Identifier: MIT
"""The agent, run as a child of the test: it answers whatever its commands do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.lab.channel import Channel, Frame
from lkm.lab.port import Port


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = socket.socketpair()
    code = f"import lkm.lab.agent as a; a.Agent(a.Port({theirs.fileno()})).serve()"
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])
    yield Channel(ours)
    process.kill()
    process.wait()
    ours.close()


def _send(channel: Channel, argv: list[str], payload: bytes = b"", **more: Any) -> tuple[int, Any]:
    number, frames = channel.open()
    channel.send({"do": "run", "id": number, "argv": argv, **more}, payload)
    return number, frames


def _finish(frames: Any) -> tuple[int, bytes, bytes, bool]:
    output = {1: b"", 2: b""}
    while True:
        frame: Frame = frames.get(timeout=20)
        if frame.event == "out":
            output[frame.header["stream"]] += frame.payload
        elif frame.event != "started":
            assert frame.event == "exit"
            return frame.header["code"], output[1], output[2], frame.header["timed_out"]


def _run(
    channel: Channel, argv: list[str], payload: bytes = b"", **more: Any
) -> tuple[int, bytes, bytes, bool]:
    return _finish(_send(channel, argv, payload, **more)[1])


def test_output_is_kept_apart_and_the_code_is_the_commands(channel: Channel) -> None:
    assert _run(channel, ["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, b"out\n", b"err\n", False)


def test_a_signal_is_128_and_its_number(channel: Channel) -> None:
    assert _run(channel, ["sh", "-c", "kill -SEGV $$"])[0] == 128 + signal.SIGSEGV


def test_binary_output_larger_than_every_buffer(channel: Channel) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 20000)"
    assert _run(channel, [sys.executable, "-c", code])[1] == bytes(range(256)) * 20000


def test_input_larger_than_every_buffer(channel: Channel) -> None:
    assert _run(channel, ["wc", "-c"], b"x" * 3_000_000)[1].strip() == b"3000000"


def test_input_that_nobody_reads(channel: Channel) -> None:
    assert _run(channel, ["true"], b"x" * 3_000_000)[0] == 0


def test_a_grandchild_that_holds_the_pipes_does_not_delay_the_end(channel: Channel) -> None:
    started = time.monotonic()
    assert _run(channel, ["sh", "-c", "sleep 30 & echo done"])[:2] == (0, b"done\n")
    assert time.monotonic() - started < 5


def test_a_grandchild_that_floods_the_pipe_does_not_either(channel: Channel) -> None:
    assert _run(channel, ["sh", "-c", "yes & exit 4"])[0] == 4


def test_a_timeout_kills_the_whole_group(channel: Channel) -> None:
    code, out, _, timed_out = _run(channel, ["sh", "-c", "sleep 30 & echo $!; wait"], timeout=0.3)
    assert (code, timed_out) == (124, True)
    time.sleep(0.1)
    status = Path(f"/proc/{int(out)}/stat")
    assert not status.exists() or " Z " in status.read_text()  # nobody may have reaped it yet


def test_what_cannot_be_run(channel: Channel) -> None:
    assert _run(channel, ["no-such-command"])[0] == 127
    assert _run(channel, ["/"])[0] == 126


def test_a_bad_request_is_answered(channel: Channel) -> None:
    number, frames = channel.open()
    channel.send({"do": "nonsense", "id": number})
    assert _finish(frames)[0] == 125
    assert _run(channel, ["true"])[0] == 0


def test_several_at_once(channel: Channel) -> None:
    slow = _send(channel, ["sh", "-c", "sleep 0.3; echo slow"])[1]
    assert _run(channel, ["echo", "quick"])[1] == b"quick\n"
    assert _finish(slow)[1] == b"slow\n"


def test_input_that_comes_later(channel: Channel) -> None:
    number, frames = _send(channel, ["cat"], more_input=True)
    channel.send({"do": "input", "id": number}, b"one ")
    channel.send({"do": "input", "id": number}, b"two")
    channel.send({"do": "input", "id": number})
    assert _finish(frames)[1] == b"one two"


def test_a_terminal(channel: Channel) -> None:
    number, frames = _send(
        channel, ["sh", "-c", "read x; tty >/dev/null && stty size"], terminal=True, more_input=True
    )
    channel.send({"do": "resize", "id": number, "rows": 33, "columns": 77})
    channel.send({"do": "input", "id": number}, b"\n")
    assert b"33 77" in _finish(frames)[1]


def test_the_background_reports_a_pid_and_no_output(channel: Channel) -> None:
    _, frames = _send(channel, ["sh", "-c", "echo lost"], background=True)
    assert frames.get(timeout=20).header["pid"] > 0
    assert frames.get(timeout=20).event == "exit"


def test_a_frame_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        port = Port(theirs.fileno())
        for piece in (b'{"do": "run", "si', b'ze": 3}\nab'):
            ours.sendall(piece)
            assert port.fill()
            assert port.take() is None
        ours.sendall(b'c{"do"')
        assert port.fill()
        assert port.take() == ({"do": "run", "size": 3}, b"abc")
        assert port.take() is None
