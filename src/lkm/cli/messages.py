# SPDX-License-Identifier: MIT
"""The kernel's new messages, as text and as JSON, each with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lkm.cli.render import plain
from lkm.diagnosis.messages import explain_message
from lkm.system.kmsg import KmsgLine, hidden_from_console

__all__ = ["messages_as_objects", "render_messages"]


def render_messages(lines: Sequence[KmsgLine], loglevel: int | None) -> list[str]:
    """The messages as the kernel has them, explanations below; says when the console would have hidden some."""
    shown = []
    for line in lines:
        shown.append(f"kernel: {plain(line.text)}")
        meaning = explain_message(line.text)
        if meaning:
            shown.append(f"        ({meaning})")
    hidden = sum(1 for line in lines if loglevel is not None and hidden_from_console(line, loglevel))
    if hidden:
        shown.append(
            f"note: the console shows levels below {loglevel} (/proc/sys/kernel/printk); "
            f"{hidden} of {len(lines)} messages would not have been seen there"
        )
    return shown


def messages_as_objects(lines: Sequence[KmsgLine], loglevel: int | None) -> list[dict[str, Any]]:
    """The messages for JSON."""
    return [
        {
            "level": line.level,
            "text": line.text,
            "meaning": explain_message(line.text),
            "hidden_from_console": loglevel is not None and hidden_from_console(line, loglevel),
        }
        for line in lines
    ]
