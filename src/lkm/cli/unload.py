# SPDX-License-Identifier: MIT
"""Remove a module, after a look at it: what is in the way is said, and nothing is tried that would hang."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NamedTuple

from lkm.cli.arguments import named_module, seconds
from lkm.cli.messages import messages_as_objects, render_messages
from lkm.cli.render import plain, wants_colour
from lkm.cli.why import as_object, render_diagnosis
from lkm.diagnosis.findings import FindingCode, Verdict
from lkm.rescue.execute import RemovalOutcome
from lkm.rescue.unload import UnloadResult, unload
from lkm.root import Root
from lkm.system.policy import read_console_loglevel

__all__ = ["configure", "run"]

SCHEMA = "lkm.unload/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm unload`."""
    parser.add_argument("name", metavar="NAME", help="the module to remove")
    parser.add_argument(
        "--wait", metavar="S", type=seconds, default=0.0, help="seconds to wait for references to go"
    )
    parser.add_argument(
        "--exit-wait", metavar="S", type=seconds, default=30.0, help="seconds its exit may take (30)"
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


class _Ending(NamedTuple):
    outcome: str
    text: str
    code: int


def run(arguments: argparse.Namespace) -> int:
    """Unload; 0: gone, 1: something is in the way or it failed, 3: refused, 4: root would help."""
    root = Root.live()
    name = named_module(arguments.name)
    result = unload(root, name, wait=arguments.wait, exit_seconds=arguments.exit_wait)
    ending = _ending(result)
    loglevel = read_console_loglevel(root)
    if arguments.json:
        print(json.dumps({
            "schema": SCHEMA, "module": name, "outcome": ending.outcome, "summary": ending.text,
            "before": as_object(result.diagnosis),
            "kernel_messages": messages_as_objects(result.messages, loglevel),
        }, indent=1))  # fmt: skip
        return ending.code
    lines = render_messages(result.messages, loglevel)
    if result.removal is None:
        lines += render_diagnosis(result.diagnosis, colour=wants_colour(sys.stdout))
    print("\n".join([*lines, f"{plain(name)}: {ending.text}"]))
    return ending.code


def _ending(result: UnloadResult) -> _Ending:
    name = result.diagnosis.module
    removal = result.removal
    if removal is None:
        return _not_tried(result)
    if removal.outcome is RemovalOutcome.REMOVED:
        return _Ending("removed", "removed", 0)
    if removal.outcome is RemovalOutcome.DIED:
        text = f"its exit died (signal {removal.signal}); lkm rescue {name} can take it out without calling it again"
        return _Ending("died", text, 1)
    if removal.outcome is RemovalOutcome.BLOCKS:
        return _Ending(
            "running", f"its exit is still running (pid {removal.pid}); lkm why {name} says where", 1
        )
    return _Ending("failed", f"the kernel refused: {os.strerror(removal.errno)}; lkm why {name}", 1)


def _not_tried(result: UnloadResult) -> _Ending:
    diagnosis = result.diagnosis
    if diagnosis.state is None:
        return _Ending("not-loaded", diagnosis.reason, 1)
    unsafe = diagnosis.verdict is Verdict.CRASH or diagnosis.has(
        FindingCode.REFCNT_CORRUPT, FindingCode.POLICY, FindingCode.ASYNC_STUCK, FindingCode.MUTEX_HELD
    )
    return _Ending("refused", f"not tried: {diagnosis.reason}", 3 if unsafe else 1)
