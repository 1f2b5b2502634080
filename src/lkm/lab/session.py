# SPDX-License-Identifier: MIT
"""A machine and the channel to its agent, watched together: who waits for one learns of the other's death."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from lkm.errors import LabError
from lkm.lab.channel import Channel, Frame
from lkm.lab.machine import Machine

__all__ = ["Completed", "GuestDied", "GuestTimeout", "OnOutput", "Session"]

OnOutput = Callable[[int, bytes], None]
"""Is given each piece of output as it comes: the stream (1 or 2) and the bytes."""

WATCH = 0.25
"""Seconds between two looks at a machine whose agent says nothing."""


@dataclass(frozen=True)
class Completed:
    """A command that has ended. `returncode` is 128 + N after signal N."""

    returncode: int
    stdout: bytes
    stderr: bytes


class GuestDied(LabError):
    """The guest panicked, reset or ended. `console` is all that it had written to its console."""

    def __init__(self, message: str, console: str) -> None:
        super().__init__(f"the guest died: {message}")
        self.console = console

    def last_lines(self, count: int = 30) -> str:
        """The end of the console log: `count` lines, or more if that is where the panic begins."""
        lines = self.console.rstrip().splitlines()
        start = max(0, len(lines) - count)
        panics = [number for number, line in enumerate(lines) if "Kernel panic - not syncing" in line]
        return "\n".join(lines[min([start, *panics]) :])


class GuestTimeout(LabError):
    """A command, or a boot, took too long. The guest may still be usable: its agent kills the command."""

    def __init__(self, message: str, *, stdout: bytes = b"", stderr: bytes = b"", console: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr
        self.console = console


class Session:
    """One guest that runs."""

    def __init__(self, machine: Machine, mounts: Mapping[str, str]) -> None:
        """`mounts`: device → directory, for the disks that hold something."""
        self.machine = machine
        self.mounts = dict(mounts)
        self.channel = Channel(machine.agent)

    def next_frame(self, frames: queue.SimpleQueue[Frame], deadline: float) -> Frame:
        """The next frame of a request. Raises GuestDied, or GuestTimeout after `deadline` (monotonic)."""
        while True:
            patience = min(WATCH, deadline - time.monotonic())
            try:
                frame = frames.get(timeout=max(0.001, patience))
            except queue.Empty:
                self._check_alive()
                if time.monotonic() >= deadline:
                    raise GuestTimeout("the guest does not answer", console=self.machine.console()) from None
                continue
            if frame.event != "closed":
                return frame
            self._mourn()

    def wait_ready(self, timeout: float) -> None:
        """Wait until the agent of a booting guest announces itself."""
        self.next_frame(self.channel.ready(), time.monotonic() + timeout)

    def request(
        self, header: dict[str, Any], payload: bytes, timeout: float, on_output: OnOutput
    ) -> tuple[int, bool]:
        """Send a request and wait for its end: (exit code, whether the agent had to kill it)."""
        number, frames = self.channel.open()
        try:
            self.channel.send({**header, "id": number}, payload)
            deadline = time.monotonic() + timeout
            while True:
                frame = self.next_frame(frames, deadline)
                if frame.event == "out":
                    on_output(int(frame.header["stream"]), frame.payload)
                elif frame.event == "exit":
                    return int(frame.header["code"]), bool(frame.header["timed_out"])
        finally:
            self.channel.forget(number)

    def adopt(self) -> None:
        """Make a fresh guest one of its own: the clock, the random pool, its disks."""
        complaints = bytearray()
        header = {"do": "adopt", "time": time.time(), "mounts": self.mounts}
        code, _ = self.request(header, os.urandom(256), 60, lambda _, data: complaints.extend(data))
        if code:
            lines = complaints.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise LabError(f"the guest cannot mount what it was given: {lines[-1]}")

    def close(self) -> None:
        """End the guest."""
        self.machine.close()

    def _check_alive(self) -> None:
        reason = self.machine.death()
        if reason:
            raise GuestDied(reason, self.machine.console())

    def _mourn(self) -> None:
        """The channel is closed, so QEMU is ending: say why, as soon as it is known."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self._check_alive()
            time.sleep(0.01)
        raise GuestDied("its agent's port was closed", self.machine.console())
