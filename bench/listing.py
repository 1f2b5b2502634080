# SPDX-License-Identifier: MIT
"""`lkm list` as a process: here with a recorded machine of 150 modules, and in a guest with its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from bench.measure import Comparison, progress, time_call, time_process

from lkm.lab.guest import Guest

__all__ = ["compare_list_here", "compare_list_in_guest", "imports_of", "make_machine"]

MODULES = 150
AT_MOST = 0.1
TIMES_SLOWER_IN_GUEST = 4.0
KERNEL = "6.1"

HEAVY = {
    "asyncio", "ctypes", "dataclasses", "email", "hashlib", "http", "inspect", "json", "logging", "pathlib",
    "qemu", "rich", "socket", "ssl", "subprocess", "tempfile", "threading", "unittest", "urllib", "zstandard",
}  # fmt: skip
"""Modules that cost milliseconds each, and that a list does not need."""


def make_machine(directory: str) -> None:
    """A /proc/modules and a /sys/module with MODULES modules, each used by the next."""
    os.makedirs(f"{directory}/proc/self")
    lines = []
    for number in range(MODULES):
        name, user = f"module_{number:03}", f"module_{number + 1:03}"
        used = number + 1 < MODULES and number % 3 != 0
        top = f"{directory}/sys/module/{name}"
        os.makedirs(f"{top}/holders" + (f"/{user}" if used else ""))
        os.makedirs(f"{top}/sections")
        values = {"initstate": "live", "refcnt": str(int(used)), "coresize": "16384", "taint": ""}
        for key, value in values.items():
            with open(f"{top}/{key}", "w", encoding="ascii") as file:
                file.write(f"{value}\n")
        lines.append(f"{name} 16384 {int(used)} {user + ',' if used else '-'} Live 0xffffffffc0000000\n")
    with open(f"{directory}/proc/modules", "w", encoding="ascii") as file:
        file.writelines(lines)


def compare_list_here(rounds: int) -> Comparison:
    """The command that is installed beside this interpreter, against the interpreter alone."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as root:
        make_machine(root)
        argv = [*_command(), "list", "--root", root]
        ours, peer = [], []
        progress(f"lkm list, {MODULES} modules")
        for _ in range(rounds):
            ours.append(time_process(argv))
            peer.append(time_process([sys.executable, "-c", "pass"]))
        heavy = sorted(HEAVY & imports_of(["list", "--root", root]))
    return Comparison(
        f"lkm list, {MODULES} modules",
        ours,
        "python -c pass",
        peer,
        at_most=AT_MOST,
        broken=[f"lkm list imports {name}" for name in heavy],
    )


def imports_of(arguments: list[str]) -> set[str]:
    """The modules that this command line imports beyond those that every Python process does."""
    code = (
        "import sys; before = set(sys.modules); from lkm.cli.main import run; code = run(sys.argv[1:]); "
        "print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
    )
    argv = [sys.executable, "-I", "-c", code, *arguments]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def compare_list_in_guest(rounds: int) -> Comparison:
    """With a real kernel's modules, against the interpreter alone; both under emulation where there is no KVM."""
    with Guest.clone(KERNEL, progress=progress) as guest:
        ours, peer = [], []
        progress("lkm list in a guest")
        for _ in range(rounds):
            ours.append(time_call(lambda: guest.run(["lkm", "list"])))
            peer.append(time_call(lambda: guest.run(["python3", "-sS", "-c", "pass"])))
    return Comparison(
        "lkm list in a guest", ours, "python3 -c pass there", peer, times_slower=TIMES_SLOWER_IN_GUEST
    )


def _command() -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), "lkm")
    return [beside] if os.access(beside, os.X_OK) else [sys.executable, "-m", "lkm"]
