# SPDX-License-Identifier: MIT
"""Why the kernel did not take a module: its own messages, and what they and the errno mean.

Nothing is imported before something failed: a tool that loads a module has to start fast.
"""

from __future__ import annotations

import os

__all__ = ["Reasons"]

_MOST = 6  # messages; the first ones are the cause, the last ones what came of it


class Reasons:
    """The kernel's messages from now on, until it is closed; none without /dev/kmsg, or the right to read it."""

    def __init__(self) -> None:
        self._handle = -1
        try:
            self._handle = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._handle, 0, os.SEEK_END)
        except OSError:
            self.close()

    def close(self) -> None:
        """There is nothing more to be read."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def of_load(self, errno: int) -> list[str]:
        """Lines that say why a load ended with `errno`: what the kernel said, then what the errno means."""
        from lkm.diagnosis.messages import explain_errno

        return [*self._messages(), explain_errno(errno, init_ran=None)]

    def _messages(self) -> list[str]:
        """Those that mean something, each with its meaning."""
        if self._handle < 0:
            return []
        from lkm.cli.render import plain
        from lkm.diagnosis.messages import explain_message
        from lkm.system.kmsg import drain

        lines, _ = drain(lambda: os.read(self._handle, 1 << 16))
        told = ((plain(line.text), explain_message(line.text)) for line in lines)
        return [f"kernel: {text} ({meaning})" for text, meaning in told if meaning][:_MOST]
