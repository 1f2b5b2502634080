# SPDX-License-Identifier: MIT
"""The host's end of the agent's port: frames out, frames in, sorted by request.

`lkm.lab.agent` has the other end, `lkm.lab.port` says what a frame is.
"""

from __future__ import annotations

import itertools
import json
import queue
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lkm.lab.port import encode_frame

__all__ = ["Channel", "Frame"]


@dataclass(frozen=True)
class Frame:
    """One message from the agent."""

    header: Mapping[str, Any]
    payload: bytes = b""

    @property
    def event(self) -> str:
        """`ready`, `started`, `out`, `exit`, or `closed` when the other end is gone."""
        return str(self.header["event"])


CLOSED = Frame({"event": "closed", "id": 0})


class Channel:
    """Any number of requests at the same time; a thread sorts what comes back."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._queues: dict[int, queue.SimpleQueue[Frame]] = {0: queue.SimpleQueue()}
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._read, name="lab-channel", daemon=True).start()

    def open(self) -> tuple[int, queue.SimpleQueue[Frame]]:
        """A request number and the queue of what will come back for it."""
        frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._queues[number] = frames
            if self._closed:
                frames.put(CLOSED)
        return number, frames

    def ready(self) -> queue.SimpleQueue[Frame]:
        """The queue in which the agent announces itself."""
        return self._queues[0]

    def forget(self, number: int) -> None:
        """Nothing more is wanted for this request."""
        with self._lock:
            self._queues.pop(number, None)

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Send one frame; a dead guest is noticed by the reader, not here."""
        data = encode_frame(header, payload)
        with self._send_lock:
            try:
                self._connection.sendall(data)
            except OSError:
                self._close()

    def _read(self) -> None:
        try:
            with self._connection.makefile("rb", buffering=1 << 16) as stream:
                for line in stream:
                    header = json.loads(line)
                    payload = stream.read(int(header.get("size", 0)))
                    with self._lock:
                        frames = self._queues.get(int(header["id"]))
                    if frames is not None:
                        frames.put(Frame(header, payload))
        except (OSError, ValueError):
            pass
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for frames in self._queues.values():
                frames.put(CLOSED)
