# SPDX-License-Identifier: MIT
"""lsmod, insmod and rmmod of lkm beside kmod's on a real kernel, and the reasons that kmod does not give."""

from __future__ import annotations

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import ask, prepare, untrue

FAILURES = (
    (("dependent.ko",), "Unknown symbol in module", "provider_answer is exported by nobody who is loaded"),
    (
        ("put_too_many.ko", "count=many"),
        "Invalid parameters",
        "the value many does not fit the parameter count",
    ),
    (("failing_init.ko",), "No such device", "most likely what its own init returned"),
    (("/tmp/cut.ko",), "Invalid module format", "the file does not fit this kernel"),
)


def test_a_failed_load_says_why(guest: Guest) -> None:
    prepare(guest, ["head -c 3000 decmod.ko > /tmp/cut.ko"])
    commands = [["insmod", *_at(arguments)] for arguments, _, _ in FAILURES]
    kmod = prepare_answers(guest, commands)
    for (arguments, text, reason), theirs, answer in zip(FAILURES, kmod, ask(guest, *commands)):
        lines = answer.stderr.splitlines()
        assert answer.code == 1, answer
        assert lines[0] == theirs, answer
        assert lines[0].endswith(f"could not insert module {_at(arguments)[0]}: {text}"), answer
        assert all(line.startswith("insmod: NOTICE: ") for line in lines[1:]), answer
        assert reason in answer.stderr, answer
    assert not untrue(guest, ["gone dependent", "gone put_too_many", "gone failing_init"])


def prepare_answers(guest: Guest, commands: list[list[str]]) -> list[str]:
    """What kmod says to each, its first line."""
    return [guest.run(command).stderr.decode().splitlines()[0] for command in commands]


def _at(arguments: tuple[str, ...]) -> list[str]:
    file, *rest = arguments
    return [file if file.startswith("/") else f"/share/{file}", *rest]


REMOVALS = (
    ("leak_ref", "Module leak_ref is in use", "lkm why leak_ref says what is in the way"),
    ("provider", "Module provider is in use by: dependent", "remove dependent first"),
    ("none_exit", "could not remove module none_exit: Device or resource busy", "lkm why none_exit says"),
    ("bug_mod1", "Module bug_mod1 is in use", "bug_mod1 is coming, not live; lkm why bug_mod1 says"),
    ("nothing", "Module nothing is not currently loaded", ""),
)


def test_what_cannot_be_removed_comes_with_a_way_on(guest: Guest) -> None:
    loads = ("leak_ref.ko count=2", "provider.ko", "dependent.ko", "none_exit.ko")
    prepare(guest, [*(f"insmod {load}" for load in loads), "dies insmod bug_mod1.ko"])
    names = [name for name, _, _ in REMOVALS]
    theirs = guest.run(["rmmod", *names]).stderr.decode().splitlines()
    for (_, text, reason), answer in zip(REMOVALS, ask(guest, *(["rmmod", name] for name in names))):
        lines = answer.stderr.splitlines()
        assert answer.code == 1, answer
        assert lines[0] == f"rmmod: ERROR: {text}", answer
        assert lines[0] in theirs, answer
        assert [line.startswith(f"rmmod: NOTICE: {reason}") for line in lines[1:]] == [True] * bool(reason), (
            answer
        )
    (answer,) = ask(guest, ["rmmod", "nothing", "dependent", "provider"])
    assert answer.code == 1, answer
    assert not untrue(guest, ["gone dependent", "gone provider", "is leak_ref live"])


@pytest.mark.parametrize("options", [[], ["--state", "--taints"]], ids=["plain", "more"])
def test_the_list_is_kmod_s(guest: Guest, options: list[str]) -> None:
    prepare(guest, ["insmod provider.ko", "insmod dependent.ko", "insmod leak_ref.ko count=2"])
    (answer,) = ask(guest, ["lsmod", *options])
    theirs = guest.run(["lsmod"]).stdout.decode()
    if options:
        assert [line.split()[2:4] for line in answer.stdout.splitlines()[1:4]] == [["live", "OE"]] * 3, answer
    else:
        assert answer.stdout == theirs


def test_the_links_are_the_tools_there(guest: Guest) -> None:
    made = guest.run(["lkm", "links", "/usr/local/sbin"])
    assert made.returncode == 0, made
    assert guest.run(["/usr/local/sbin/lsmod"]).stdout == guest.run(["lsmod"]).stdout
    assert guest.run(["/usr/local/sbin/insmod", "/share/decmod.ko"]).returncode == 0
    assert not untrue(guest, ["is decmod live"])
    assert guest.run(["/usr/local/sbin/rmmod", "decmod"]).returncode == 0
    assert not untrue(guest, ["gone decmod"])
