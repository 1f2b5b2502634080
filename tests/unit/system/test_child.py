# SPDX-License-Identifier: MIT
"""Children with a deadline: what they answer, how they die, and what they do not keep open."""

from __future__ import annotations

import os
import resource
import signal
import time

import pytest

from lkm.system.child import run_in_child


def test_value_comes_back() -> None:
    value = {"a": [1, -1, (2.5, None)], "b": "ü".encode()}
    result = run_in_child(lambda: value, seconds=10, name="test")
    assert result.ok
    assert result.value == value
    assert result.signal is None
    assert not result.timed_out


def test_value_larger_than_a_pipe() -> None:
    result = run_in_child(lambda: b"x" * 3_000_000, seconds=20, name="test")
    assert result.value == b"x" * 3_000_000


def test_exception_is_text() -> None:
    result = run_in_child(lambda: 1 // 0, seconds=10, name="test")
    assert not result.ok
    assert result.error.startswith("ZeroDivisionError")


def test_value_that_cannot_be_sent() -> None:
    result = run_in_child(object, seconds=10, name="test")
    assert not result.ok
    assert "unmarshallable" in result.error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_by_signal(number: int) -> None:
    result = run_in_child(lambda: os.kill(os.getpid(), number), seconds=10, name="test")
    assert result.signal == number
    assert not result.ok
    assert not result.timed_out


def test_ends_without_an_answer() -> None:
    result = run_in_child(lambda: os._exit(7), seconds=10, name="test")
    assert (result.signal, result.timed_out) == (None, False)
    assert "code 7" in result.error


def test_deadline_kills() -> None:
    before = time.monotonic()
    result = run_in_child(lambda: time.sleep(60), seconds=0.2, name="test")
    assert result.timed_out
    assert result.signal is None
    assert 0.2 <= time.monotonic() - before < 5
    with pytest.raises(ChildProcessError):  # it was reaped
        os.waitpid(result.pid, os.WNOHANG)


def test_deadline_without_kill_leaves_it_to_go_on() -> None:
    reader, writer = os.pipe()
    gate, opener = os.pipe()

    def work() -> None:
        os.read(gate, 1)
        os.write(writer, b"done")

    result = run_in_child(work, seconds=0.1, name="test", kill=False, keep=(writer, gate))
    os.close(writer)
    assert result.timed_out
    os.write(opener, b"x")
    assert os.read(reader, 10) == b"done"
    for handle in (reader, gate, opener):
        os.close(handle)
    os.waitpid(result.pid, 0)


def test_child_that_is_left_holds_no_descriptor_of_ours() -> None:
    """Who reads our output to its end must not wait for a child that never dies."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    result = run_in_child(lambda: time.sleep(60), seconds=0.1, name="test", kill=False)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert not os.readlink(f"/proc/{result.pid}/fd/1").startswith("pipe")
    os.kill(result.pid, signal.SIGKILL)
    os.waitpid(result.pid, 0)


def test_children_that_were_left_are_reaped_later() -> None:
    gate, opener = os.pipe()
    left = run_in_child(lambda: os.read(gate, 1), seconds=0.05, name="test", kill=False, keep=(gate,))
    os.write(opener, b"x")
    os.waitid(os.P_PID, left.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    run_in_child(lambda: None, seconds=10, name="test")
    os.close(gate)
    os.close(opener)
    with pytest.raises(ChildProcessError):
        os.waitpid(left.pid, os.WNOHANG)


def test_no_descriptor_left_is_an_answer() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        result = run_in_child(lambda: 1, seconds=10, name="test")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not result.ok
    assert result.error == "no child could be made: Too many open files"


def test_child_has_its_own_session_and_name() -> None:
    def work() -> tuple[int, str]:
        with open("/proc/self/comm", encoding="ascii") as file:
            return os.getsid(0), file.read().strip()

    result = run_in_child(work, seconds=10, name="lkm-a-name-longer-than-15")
    session, name = result.value
    assert session == result.pid
    assert name == "lkm-a-name-long"


def test_interrupt_of_the_parent_ends_the_child() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    reader, writer = os.pipe()
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            run_in_child(lambda: time.sleep(60), seconds=30, name="test", keep=(writer,))
    finally:
        signal.signal(signal.SIGALRM, previous)
    os.close(writer)
    assert os.read(reader, 1) == b""  # the child's end is closed: it is dead
    os.close(reader)
