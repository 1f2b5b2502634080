# SPDX-License-Identifier: MIT
"""How what was done to the kernel has ended, as text: the same for a rescue, a quarantine and a heal."""

from __future__ import annotations

from typing import Union

from lkm.cli.render import plain, styled
from lkm.rescue.heal import HealResult
from lkm.rescue.result import RescueResult

__all__ = ["render_ending"]


def render_ending(result: Union[HealResult, RescueResult], *, colour: bool) -> list[str]:
    """The kernel's messages, the proof, the outcome with its reason and way on, and the record."""
    lines = [f"kernel: {plain(line.text)}" for line in result.kernel_messages]
    lines += [
        f"proof: {check.what}: {'yes' if check.holds else 'NO'} {check.detail}".rstrip()
        for check in result.proof
    ]
    outcome = styled(result.outcome.value, "green" if result.outcome.ok else "red", colour=colour)
    lines.append(f"{outcome}: {plain(result.reason)}")
    if result.remedy:
        lines.append(f"  way on: {plain(result.remedy)}")
    if result.record:
        lines.append(f"  record: {result.record}")
    return lines
