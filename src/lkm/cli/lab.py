# SPDX-License-Identifier: MIT
"""Disposable virtual machines with real kernels, fetched from a Debian archive."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from lkm.cli import lab_demo
from lkm.errors import UsageError

if TYPE_CHECKING:
    from lkm.lab.vm import Guest, GuestDied

__all__ = ["configure", "run"]

DEFAULT_KERNEL = "6.1"
MIN_MEMORY = 256
TIMED_OUT = 124
GUEST_DIED = 125

KERNEL_HELP = "a series, as lkm lab kernels lists them, or an exact uname -r"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lkm lab`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _configure_run(actions.add_parser("run", help="run one command in a guest", allow_abbrev=False))
    shell = actions.add_parser("shell", help="an interactive shell in a guest", allow_abbrev=False)
    _guest_arguments(shell)
    kernels = actions.add_parser("kernels", help="list, fetch or remove kernels", allow_abbrev=False)
    kernels.add_argument("what", nargs="?", choices=["list", "fetch", "remove"], default="list")
    kernels.add_argument("names", nargs="*", metavar="KERNEL", help=KERNEL_HELP)
    build = actions.add_parser("build", help="build modules against a kernel", allow_abbrev=False)
    build.add_argument("directory", metavar="DIR", help="C files, or a Kbuild file with them")
    build.add_argument("--kernel", default=DEFAULT_KERNEL, help=KERNEL_HELP)
    build.add_argument("-o", "--output", metavar="OUT", help="where the modules go (default: DIR)")
    lab_demo.configure(actions.add_parser("demo", help="see lkm at work in a guest", allow_abbrev=False))
    for action in actions.choices.values():
        action.add_argument("--mirror", default="", metavar="URL", help="a Debian mirror (LKM_LAB_MIRROR)")


def run(arguments: argparse.Namespace) -> int:
    """Run one action; the exit code of `run` and `shell` is their command's."""
    if arguments.mirror:
        os.environ["LKM_LAB_MIRROR"] = arguments.mirror
    if getattr(arguments, "share", None) is not None and not os.path.isdir(arguments.share):
        raise UsageError(f"--share: {arguments.share!r} is not a directory")  # before a guest is made for it
    actions = {"run": _run, "shell": _shell, "kernels": _kernels, "build": _build, "demo": lab_demo.run}
    with _ending_in_order():
        return actions[arguments.action](arguments)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Unwind where a signal ends the process (128 + its number): a guest's QEMU would outlive it."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _configure_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run a command as root in a fresh guest. The exit code is the command's; 124: it took too long; "
        "125: the guest died (its last console lines are shown)."
    )
    _guest_arguments(parser)
    parser.add_argument("--timeout", type=_seconds, default=300.0, metavar="S", help="seconds (default 300)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")


def _guest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", default=DEFAULT_KERNEL, help=KERNEL_HELP)
    parser.add_argument(
        "--share", metavar="DIR", help="a writable copy of DIR appears as /share in the guest"
    )
    parser.add_argument(
        "--boot", choices=["clone", "cold"], default="clone", help="clone of a booted guest, or a boot"
    )
    parser.add_argument(
        "--append", default="", metavar="ARGS", help="kernel command line (means --boot cold)"
    )
    parser.add_argument(
        "--memory", type=_megabytes, default=512, metavar="MB", help="memory of the guest (default 512)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _megabytes(text: str) -> int:
    if not text.isdecimal() or int(text) < MIN_MEMORY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes from {MIN_MEMORY} on")
    return int(text)


def _progress(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)


def _shell(arguments: argparse.Namespace) -> int:
    from lkm.lab.terminal import run_interactive
    from lkm.lab.vm import GuestDied

    try:
        with _guest(arguments) as guest:
            return run_interactive(guest, ["bash"], stdin=0, on_output=_write_through)
    except GuestDied as error:
        return _report_death(error)


def _report_death(error: GuestDied) -> int:
    console = error.last_lines()
    print(
        f"lkm: {error.message}" + (f"; the end of its console:\n{console}" if console else ""),
        file=sys.stderr,
    )
    return GUEST_DIED


def _run(arguments: argparse.Namespace) -> int:
    from lkm.lab.vm import GuestDied, GuestTimeout

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError("no command for the guest", remedy="lkm lab run [options] -- COMMAND …")
    try:
        with _guest(arguments) as guest:
            return guest.run(command, timeout=arguments.timeout, on_output=_write_through).returncode
    except GuestTimeout as error:
        print(f"lkm: {error}", file=sys.stderr)
        return TIMED_OUT
    except GuestDied as error:
        return _report_death(error)


def _guest(arguments: argparse.Namespace) -> Guest:
    from lkm.lab.vm import Guest

    if arguments.append or arguments.boot == "cold":
        return Guest.boot(
            arguments.kernel,
            share=arguments.share,
            append=arguments.append,
            memory=arguments.memory,
            progress=_progress,
        )
    return Guest.clone(arguments.kernel, share=arguments.share, memory=arguments.memory, progress=_progress)


def _write_through(stream: int, data: bytes) -> None:
    """To the standard stream of the same number, at once and unchanged."""
    view = memoryview(data)
    while view:
        view = view[os.write(stream, view) :]


def _kernels(arguments: argparse.Namespace) -> int:
    from lkm.lab import kernels
    from lkm.lab.headers import header_tree
    from lkm.lab.series import SERIES

    if arguments.what != "list" and not arguments.names:
        raise UsageError(
            f"no kernel to {arguments.what} is named", remedy=f"lkm lab kernels {arguments.what} 6.1 …"
        )
    if arguments.what == "list":
        cached = kernels.cached_kernels()
        for series in SERIES:
            here = [f"{kernel.release} ({kernel.version})" for kernel in cached if kernel.series == series]
            print(
                f"{series.name:<11} {series.flavour:<7} {series.architecture}  {', '.join(here) or 'not fetched'}"
                f"{'' if series.headers else '  (no headers: nothing can be built)'}"
            )
        return 0
    for name in arguments.names:
        if arguments.what == "fetch":
            kernel = kernels.fetch_kernel(name, progress=_progress)
            # The archive drops old versions: what a later build needs is fetched with its kernel.
            if kernel.series.headers:
                header_tree(kernel, progress=_progress)
            print(f"{kernel.series.name} {kernel.release} {kernel.version}")
        else:
            removed = kernels.remove_kernel(name)
            print(f"{name}: {'removed ' + ', '.join(removed) if removed else 'nothing in the cache'}")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from lkm.lab.build import BuildFailed, build_modules

    output = arguments.output or arguments.directory
    try:
        paths = build_modules(arguments.directory, arguments.kernel, output, progress=_progress)
    except BuildFailed as error:
        print(error.output, end="", file=sys.stderr)
        print(f"lkm: {error}", file=sys.stderr)
        return error.exit_code
    for path in paths:
        print(path)
    return 0
