# SPDX-License-Identifier: MIT
"""QEMU's monitor (QMP) over a connected socket, synchronously."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from lkm.errors import LabError

__all__ = ["Monitor"]

T = TypeVar("T")


class Monitor:
    """Commands to one QEMU. Every call has a deadline; a failed one is a LabError."""

    def __init__(self, connection: socket.socket) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("lkm-lab")
        try:
            self._wait("connecting", self._client.connect(connection))
        except LabError:
            self.close()
            connection.close()
            raise

    def execute(self, command: str, **arguments: Any) -> Any:
        """The reply to a command. Raises LabError when QEMU refuses it, ended, or says nothing for 10 s."""
        return self._wait(command, self._client.execute(command, arguments))

    def close(self) -> None:
        """Disconnect; QEMU goes on."""
        try:
            self._wait("disconnecting", self._client.disconnect())
        except (LabError, EOFError):
            pass
        self._loop.close()

    def _wait(self, what: str, action: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(action, 10))
        except (QMPError, OSError, asyncio.TimeoutError) as error:
            raise LabError(f"QEMU's monitor: {what}: {error or type(error).__name__}") from error
