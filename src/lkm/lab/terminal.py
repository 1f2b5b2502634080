# SPDX-License-Identifier: MIT
"""An interactive command in a guest: this process's terminal (or pipe) is connected to it."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
import tty
from collections.abc import Iterator, Sequence

from lkm.lab.guest import Guest
from lkm.lab.session import OnOutput

__all__ = ["run_interactive"]


def run_interactive(guest: Guest, argv: Sequence[str], *, stdin: int, on_output: OnOutput) -> int:
    """Run a command with the input of the descriptor `stdin` until it ends; returns its exit code.

    If `stdin` is a terminal, it is put into raw mode and the command gets one of its own, of the same size.
    Raises GuestDied.
    """
    channel = guest.session.channel
    number, frames = channel.open()
    terminal = os.isatty(stdin)
    environment = {"TERM": os.environ.get("TERM", "linux")}
    header = {"id": number, "argv": list(argv), "env": environment, "terminal": terminal, "more_input": True}

    def forward() -> None:
        while True:
            data = os.read(stdin, 4096)
            channel.send({"do": "input", "id": number}, data)
            if not data:
                return

    def resize(*_: object) -> None:
        size = os.get_terminal_size(stdin)
        channel.send({"do": "resize", "id": number, "rows": size.lines, "columns": size.columns})

    try:
        with _raw(stdin, resize) if terminal else contextlib.nullcontext():
            channel.send({**header, "do": "run"})
            threading.Thread(target=forward, name="lab-input", daemon=True).start()
            if terminal:
                resize()
            while True:
                frame = guest.session.next_frame(frames, float("inf"))
                if frame.event == "out":
                    on_output(int(frame.header["stream"]), frame.payload)
                elif frame.event == "exit":
                    return int(frame.header["code"])
    finally:
        channel.forget(number)


@contextlib.contextmanager
def _raw(descriptor: int, resize: signal._HANDLER) -> Iterator[None]:
    """The terminal passes every key on; its changes of size are passed on too."""
    before = termios.tcgetattr(descriptor)
    old = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, old)
