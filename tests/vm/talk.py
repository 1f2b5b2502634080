# SPDX-License-Identifier: MIT
"""How tests talk to a guest: shell lines that must hold, lkm command lines and their answers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lkm.lab.vm import Guest

__all__ = ["Answer", "ask", "fault_names", "messages", "prepare", "run_python", "untrue"]

Variables = Mapping[str, str]

WORDS = """
set -u
cd /share
dies() { "$@" 2>/tmp/dies; code=$?; [ $code -gt 128 ] || { echo "was not killed, $code: $*"; exit 1; }; }
gone() { [ ! -e "/sys/module/$1" ] && ! grep -q "^$1 " /proc/modules; }
is() { [ "$(cat "/sys/module/$1/initstate")" = "$2" ]; }
count_of() { cat "/sys/module/$1/refcnt"; }
said() { dmesg | grep -qF -- "$1"; }
unsaid() { ! said "$1"; }
ended() { [ ! -e "/proc/$1" ] || grep -q "^State:.[ZX]" "/proc/$1/status"; }
asleep() { grep -q "^State:.[SD]" "/proc/$1/status"; }
within() { turns=$(($1 * 5)); shift; until "$@"; do
    turns=$((turns - 1)); [ $turns -gt 0 ] || { echo "not in time: $*"; return 1; }; sleep 0.2; done; }
"""
"""Words for shell lines: `dies CMD`, `gone MODULE`, `is MODULE STATE`, `said TEXT`, `within SECONDS CMD` …"""

RUNNER = """
import contextlib, io, json, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.cli.main import run
answers = []
for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(argv)
    answers.append([code, out.getvalue(), err.getvalue()])
json.dump(answers, sys.stdout)
"""
"""Several command lines in one interpreter: most of the time of one is its start."""


class Answer(NamedTuple):
    """What one lkm command said, and its exit code."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def object(self) -> dict[str, Any]:
        """The JSON object it printed."""
        try:
            parsed = json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"no JSON\n{self}") from None
        assert isinstance(parsed, dict), str(self)
        return parsed

    def __str__(self) -> str:
        return f"--- lkm {shlex.join(self.argv)} → {self.code}\n{self.stdout}\n{self.stderr}"


def prepare(
    guest: Guest, lines: Iterable[str], variables: Variables | None = None, timeout: float = 90
) -> dict[str, str]:
    """Run shell lines that must all succeed. What they print as `name=value` is known to later lines too."""
    known = dict(variables or {})
    script = "\n".join([WORDS, *_assignments(known), *(f"{line}\n[ $? = 0 ] || exit" for line in lines)])
    done = guest.run(["sh", "-c", script], timeout=timeout)
    output = f"{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}, {lines}\n{output}\n{_kernel_log(guest)}")
    known.update(re.findall(r"^(\w+)=(.*)$", output, re.MULTILINE))
    return known


def untrue(guest: Guest, lines: Iterable[str], variables: Variables | None = None) -> list[str]:
    """Those of the shell lines that do not hold."""
    checks = [f"({line}) >&2 || echo {shlex.quote(line)}" for line in lines]
    script = "\n".join([WORDS, *_assignments(variables or {}), *checks])
    done = guest.run(["sh", "-c", script], timeout=120)
    wrong = done.stdout.decode(errors="replace").splitlines()
    return [*wrong, done.stderr.decode(errors="replace"), _kernel_log(guest)] if wrong else []


def ask(guest: Guest, *commands: Iterable[str], timeout: float = 120) -> list[Answer]:
    """Run lkm command lines, one after the other, in one interpreter."""
    argvs = [tuple(command) for command in commands]
    answers = json.loads(run_python(guest, RUNNER, json.dumps(argvs), timeout=timeout))
    return [Answer(argv, *answer) for argv, answer in zip(argvs, answers)]


def run_python(guest: Guest, program: str, *arguments: str, timeout: float = 120) -> str:
    """Run a Python program in the guest, in which `lkm` can be imported; its output. It must not fail."""
    done = guest.run(["python3", "-sS", "-", *arguments], stdin=program.encode(), timeout=timeout)
    if done.returncode:
        raise AssertionError(f"{done.stdout.decode()}\n{done.stderr.decode()}\n{_kernel_log(guest)}")
    return done.stdout.decode()


def messages(guest: Guest) -> list[str]:
    """The kernel's messages since boot."""
    return guest.run(["dmesg"], timeout=60).stdout.decode(errors="replace").splitlines()


def fault_names(guest: Guest) -> list[str]:
    """The names of the modules in /share."""
    files = guest.run(["ls", "/share"]).stdout.decode().split()
    return [name[: -len(".ko")].replace("-", "_") for name in files if name.endswith(".ko")]


def _assignments(variables: Variables) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in variables.items()]


def _kernel_log(guest: Guest) -> str:
    return "--- the end of dmesg\n" + "\n".join(messages(guest)[-60:])
