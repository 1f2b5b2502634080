# SPDX-License-Identifier: MIT
"""Load a module file, and show the kernel's own new messages with what they mean."""

from __future__ import annotations

import argparse
import json
import sys

from lkm.cli.arguments import quoted_parameter, seconds
from lkm.cli.files import check_named_file
from lkm.cli.messages import messages_as_objects, render_messages
from lkm.cli.prediction import compared_lines, predict_load, prediction_as_object
from lkm.diagnosis.messages import explain_errno, init_result
from lkm.errors import UsageError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.files import read_text
from lkm.system.load import LoadResult, load_file
from lkm.system.policy import read_console_loglevel

__all__ = ["configure", "outcome_of", "run"]

SCHEMA = "lkm.load/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm load`."""
    parser.add_argument("file", metavar="FILE", help="a module file: .ko, .ko.gz, .ko.xz, .ko.zst")
    parser.add_argument("params", metavar="PARAM=VALUE", nargs="*", help="parameters of the module")
    parser.add_argument(
        "--one-shot",
        action="store_true",
        help="its init does its work and returns an error on purpose: no failure",
    )
    parser.add_argument(
        "--init-wait", metavar="S", type=seconds, default=30.0, help="seconds that init may take (30)"
    )
    parser.add_argument(
        "--force", action="store_true", help="load even where what a dead load left would crash the kernel"
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Load; 0: loaded (or ran, with --one-shot), 1: it failed, 3: refused, 4: root would help."""
    for param in arguments.params:
        if param.startswith("-"):
            raise UsageError(f"{param!r} is no parameter of a module")
    check_named_file(arguments.file, remedy="name a module file (.ko)")
    root = Root.live()
    params = " ".join(map(quoted_parameter, arguments.params))
    result = load_file(root, arguments.file, params, seconds=arguments.init_wait, force=arguments.force)
    returned = next(
        (value for value in map(init_result, (m.text for m in result.messages)) if value is not None), None
    )
    outcome, text = outcome_of(root, result, returned, one_shot=arguments.one_shot)
    loglevel = read_console_loglevel(root)
    foretold = (
        predict_load(root, arguments.file, params) if outcome == "failed" and not result.init_ran else None
    )
    if arguments.json:
        print(json.dumps({
            "schema": SCHEMA, "module": result.module, "outcome": outcome, "summary": text,
            "errno": result.call.errno, "signal": result.call.signal, "init_ran": result.init_ran,
            "init_result": -result.call.errno if result.init_ran and result.call.errno else returned,
            "kernel_messages": messages_as_objects(result.messages, loglevel), "warning": result.warning,
            "predicted": prediction_as_object(foretold) if foretold else None,
        }, indent=1))  # fmt: skip
    else:
        print("\n".join([*render_messages(result.messages, loglevel), f"{result.module}: {text}"]))
        if foretold and result.call.errno:
            print("\n".join(compared_lines(foretold, result.call.errno)))
        if result.warning:
            print(f"warning: {result.warning}", file=sys.stderr)
        if result.note:
            print(f"note: {result.note}")
    return 0 if outcome in ("loaded", "one-shot") else 1


def outcome_of(root: Root, result: LoadResult, returned: int | None, *, one_shot: bool) -> tuple[str, str]:
    """The outcome, and what it means in a sentence. `returned`: a positive value that init returned."""
    call = result.call
    if call.timed_out and result.init_ran is False:
        return "waiting", _waiting(root, result.module, call.pid)
    if call.timed_out:
        return "running", f"its init is still running (pid {call.pid}); lkm why {result.module} says where"
    if call.signal is not None:
        return (
            "died",
            f"the load was killed by signal {call.signal}: init died; lkm why {result.module} says what is left",
        )
    if call.errno and one_shot and result.init_ran is not False:
        return "one-shot", f"its init ran, returned -{call.errno}, and it was not kept, as intended"
    if call.errno:
        return "failed", explain_errno(call.errno, init_ran=result.init_ran)
    if returned is not None and returned > 0:
        return "loaded", f"loaded; its init returned {returned}, which the kernel takes as success"
    return "loaded", "loaded"


def _waiting(root: Root, name: ModuleName, pid: int) -> str:
    """What keeps a load that the kernel has not let come to its init.

    A load waits for another one interruptibly, and for module_mutex in state D (add_unformed_module); stacks
    leave out the functions of the scheduler and of mutexes.
    """
    stat = read_text(root.join(f"/proc/{pid}/stat")) or ""
    if stat.rpartition(")")[2].split()[:1] == ["D"]:
        return (
            f"it waits for module_mutex (pid {pid}), as every load and removal here does;"
            " lkm why of any loaded module says who holds it"
        )
    return (
        f"it waits for another load (pid {pid}), and its init was not called; lkm why {name} says for which"
    )
