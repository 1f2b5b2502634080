# SPDX-License-Identifier: MIT
"""Standard output as callers leave it: closed, or for another character set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def ask(*argv: str, closed: int = 0, **variables: str) -> subprocess.CompletedProcess[bytes]:
    redirect = f" {closed}>&-" if closed else ""
    command = ["sh", "-c", f'exec "$0" -m lkm "$@"{redirect}', sys.executable, *argv]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=False)


@pytest.mark.parametrize("argv", [("--help",), ("where", "--help"), ("where", "--root", "/nowhere", "ext4")])
@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_output_is_no_traceback(argv: tuple[str, ...], closed: int) -> None:
    done = ask(*argv, closed=closed)
    assert done.returncode == ask(*argv).returncode
    assert b"Traceback" not in done.stdout + done.stderr


def test_a_character_that_the_output_does_not_have_is_told_as_its_number() -> None:
    done = ask("--help", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"usage: lkm COMMAND \\u2026" in done.stdout


def test_a_full_device_is_told_by_its_name() -> None:
    command = ["sh", "-c", 'exec "$0" -m lkm --help >/dev/full', sys.executable]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"lkm: standard output, or another open file: No space left on device\n"
