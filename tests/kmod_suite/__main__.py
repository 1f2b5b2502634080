# SPDX-License-Identifier: MIT
"""Run kmod's test suite: `python -m tests.kmod_suite`. First as it is, then against lkm's tools.

Exit code 1 if a test that applies does not pass with lkm's tools.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lkm.errors import LabError
from tests.kmod_suite.build import make_root, make_suite, use_kmod, use_lkm

INAPPLICABLE = Path(__file__).with_name("inapplicable.txt")
DEADLINE = 30.0
"""Seconds for one test; its own limit is 2."""


def read_inapplicable() -> dict[str, str]:
    """Program, or `program:test` → why it says nothing about the tools."""
    text = INAPPLICABLE.read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w:-]+)\s+(\S.*)$", text, re.MULTILINE))


def find_tests(top: Path) -> Iterator[tuple[Path, str]]:
    """Every test of the suite: its program, and its name."""
    for program in sorted((top / "testsuite").glob("test-*")):
        if program.is_file() and os.access(program, os.X_OK):
            listed = subprocess.run([program, "-l"], capture_output=True, text=True, check=True)
            yield from ((program, name) for name in re.findall(r"^\t(\w+), ", listed.stdout, re.MULTILINE))


def run_test(program: Path, name: str) -> tuple[bool, str]:
    """Whether it passes, and all that it says.

    The exit code alone does not tell: it is the low byte of the tool's wait status, 0 for any exit (kmod 34). With
    it, a signal is the death that was expected.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LKM_", "PYTHON"))}
    done = subprocess.run(
        [program, name],
        env={**environment, "LC_ALL": "C"},
        cwd=program.parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    told = re.search(rf"(PASSED|EXPECTED FAIL): {name}$|'{name}' \[\d+\] terminated by", said, re.MULTILINE)
    return done.returncode == 0 and told is not None, said


def run_all(top: Path, tests: list[tuple[Path, str]], tools: str) -> int:
    """Run the tests, print one line each and what a failed one said; the number of failures."""
    make_root(top)
    failures = 0
    for program, name in tests:
        passed, said = run_test(program, name)
        failures += not passed
        print(f"{'pass' if passed else 'FAIL'}  {program.name}:{name}", flush=True)
        if not passed:
            print("".join(f"      {line}\n" for line in said.splitlines()), end="")
    print(f"{tools}: {len(tests) - failures} of {len(tests)} pass")
    return failures


def main() -> int:
    """The suite as it is, then that part of it that speaks about the tools, with lkm's."""
    try:
        top = make_suite(lambda line: print(f"-- {line}", flush=True))
    except LabError as error:
        print(f"{error}\n{error.remedy}", file=sys.stderr)
        return 1
    inapplicable = read_inapplicable()
    tests = list(find_tests(top))
    known = {program.name for program, _ in tests} | {f"{program.name}:{name}" for program, name in tests}
    unknown = inapplicable.keys() - known
    apply = [
        (program, name)
        for program, name in tests
        if not {program.name, f"{program.name}:{name}"} & inapplicable.keys()
    ]
    use_kmod(top)
    failures = run_all(top, tests, "kmod's own tools")
    use_lkm(top)
    failures += run_all(top, apply, "lkm's tools")
    print(f"{len(tests) - len(apply)} tests do not apply: {INAPPLICABLE.name} has the reasons")
    if unknown:
        print(f"{INAPPLICABLE.name} names what is not there: {', '.join(sorted(unknown))}")
    return 1 if failures or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
