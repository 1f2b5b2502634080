# SPDX-License-Identifier: MIT
"""Command lines, against the C library's own getopt_long: the same options, operands and messages."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys

import pytest

from lkm.cli.kmod.options import Arguments, OptionError

SHORT = "abC:d"
LONG = {
    "all": "a", "alert": "L", "blank": "b", "config=": "C", "conform": "f", "show": "n", "showconfig": "c",
    "show-config": "c", "show-depends": "D", "wait=": "w",
}  # fmt: skip
WORDS = [
    "-a", "-ab", "-abx", "-C", "-Cfile", "-aCfile", "-Ca", "-", "--", "x", "y=1", "--all", "--al", "--a", "--bl",
    "--config", "--config=f", "--conf=f", "--conf", "--con", "--show", "--sho", "--showc", "--show-", "--show=1",
    "--wait", "--w=3", "--w", "--nothing", "--nothing=3", "--b=", "--wait=", "-:", "-dC", "", "-a-",
]  # fmt: skip

ORACLE = r"""
import ctypes, json, os, sys
class Option(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("has_arg", ctypes.c_int),
                ("flag", ctypes.c_void_p), ("val", ctypes.c_int)]
libc = ctypes.CDLL(None)
short, long, lines = json.load(sys.stdin)
rows = [Option(name.rstrip("=").encode(), int(name.endswith("=")), None, ord(key)) for name, key in long.items()]
table = (Option * (len(rows) + 1))(*rows)
optind, optarg = ctypes.c_int.in_dll(libc, "optind"), ctypes.c_char_p.in_dll(libc, "optarg")
for line in lines:
    words = [b"prog", *(word.encode() for word in line)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    keep, file = os.dup(2), os.memfd_create("messages")
    os.dup2(file, 2)
    optind.value, found, failed = 0, [], False
    while True:
        key = libc.getopt_long(len(words), argv, short.encode(), table, None)
        if key == -1:
            break
        if key == ord("?"):
            failed = True
            break
        found.append([chr(key), (optarg.value or b"").decode()])
    libc.fflush(None)
    os.dup2(keep, 2)
    text = os.pread(file, 4096, 0).decode()
    os.close(keep), os.close(file)
    rest = [] if failed else [argv[i].decode() for i in range(optind.value, len(words))]
    print(json.dumps([found, rest, text]))
"""


def ours(line: list[str], short: str = SHORT) -> list[object]:
    arguments = Arguments(line, short, LONG)
    found: list[list[str]] = []
    try:
        found += ([key, value] for key, value in arguments)
    except OptionError as error:
        return [found, [], f"prog: {error}\n"]
    return [found, arguments.operands, ""]


def theirs(lines: list[list[str]], short: str = SHORT, **environment: str) -> list[list[object]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ORACLE],
        input=json.dumps([short, LONG, lines]),
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C", **environment},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("short", [SHORT, "+" + SHORT])
def test_as_glibc_reads_them(short: str) -> None:
    chance = random.Random(1)
    lines = [list(line) for n in (0, 1, 2) for line in itertools.product(WORDS, repeat=n)]
    lines += [chance.choices(WORDS, k=chance.randint(3, 6)) for _ in range(2000)]
    for line, expected in zip(lines, theirs(lines, short)):
        assert ours(line, short) == expected, line


def test_posixly_correct_stops_at_the_first_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [["-a", "x", "-b"], ["x", "--all"], ["--", "-a"]]
    monkeypatch.setenv("POSIXLY_CORRECT", "1")
    assert [ours(line) for line in lines] == theirs(lines, POSIXLY_CORRECT="1")
    assert ours(lines[0]) == [[["a", ""]], ["x", "-b"], ""]


def test_options_of_our_own_are_known_in_full_only() -> None:
    """So `--sho` still means what it meant."""
    own = {"shorter": "s", "json": "json", "root=": "root"}
    assert list(Arguments(["--shorter", "--json", "--root", "x", "--root=y"], SHORT, LONG, own)) == [
        ("s", ""), ("json", ""), ("root", "x"), ("root", "y"),
    ]  # fmt: skip
    with pytest.raises(OptionError, match="unrecognized option '--js'"):
        list(Arguments(["--js"], SHORT, LONG, own))
    with pytest.raises(OptionError, match="option '--json' doesn't allow an argument"):
        list(Arguments(["--json=1"], SHORT, LONG, own))
