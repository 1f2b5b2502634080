# SPDX-License-Identifier: MIT
"""The virtio-serial port between host and guest: its name, and the frames on it.

A frame is one line of JSON, then as many raw bytes as its `size` says. Standard library only: the guest has
this file too, beside its agent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["PORT_NAME", "Port", "encode_frame"]

PORT_NAME = "lkm.agent"


def encode_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """One frame as it goes over the port."""
    return json.dumps({**header, "size": len(payload)}).encode() + b"\n" + payload


class Port:
    """The guest's end."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = bytearray()

    def fill(self) -> bool:
        """Read what is there; False when no host is connected."""
        data = os.read(self.descriptor, 1 << 16)
        self._buffer += data
        return bool(data)

    def take(self) -> tuple[dict[str, Any], bytes] | None:
        """The next whole frame, if it has arrived."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        header: dict[str, Any] = json.loads(self._buffer[:end])
        stop = end + 1 + int(header.get("size", 0))
        if len(self._buffer) < stop:
            return None
        payload = bytes(self._buffer[end + 1 : stop])
        del self._buffer[:stop]
        return header, payload

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Write one frame; blocks while the host does not read."""
        data = memoryview(encode_frame(header, payload))
        while data:
            data = data[os.write(self.descriptor, data) :]
