# SPDX-License-Identifier: MIT
"""`lkm load` and `lkm unload`: outcomes, exit codes, the kernel's own words and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import ask, prepare, run_python, untrue

BREAK = """
import struct
whole = open("/share/decmod.ko", "rb").read()
def write(name, data):
    open(f"/tmp/{name}.ko", "wb").write(data)
write("empty", b"")
write("text", b"not a module\\n")
write("short", whole[:64])
write("half", whole[: len(whole) // 2])
write("cut", whole[:-100])
foreign = bytearray(whole); struct.pack_into("<H", foreign, 18, 22); write("foreign", bytes(foreign))
narrow = bytearray(whole); narrow[4] = 1; write("narrow", bytes(narrow))
wild = bytearray(whole); struct.pack_into("<Q", wild, 40, 1 << 40); write("wild", bytes(wild))
other = open("/share/none_exit.ko", "rb").read()
at = other.index(b" SMP", other.index(b"vermagic="))
write("other", other[:at] + b" UMP" + other[at + 4 :])
"""


@dataclass(frozen=True)
class Load:
    """A load, and what is said of it. `errors`: it ends with one line on standard error."""

    name: str
    arguments: tuple[str, ...]
    code: int
    outcome: str = ""
    words: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


LOADS = (
    Load("healthy", ("decmod.ko",), 0, "loaded", ("decmod: loaded",), ("is decmod live",)),
    Load(
        "parameters",
        ("dash-name.ko", "level=7"),
        0,
        "loaded",
        ("dash_name: loaded, level 7",),
        ("is dash_name live",),
    ),
    Load(
        "a parameter it has not",
        ("leak_ref.ko", "cuont=2"),
        0,
        "loaded",
        ("unknown parameter 'cuont' ignored",),
    ),
    Load(
        "a value that does not fit",
        ("positive_init.ko",),
        0,
        "loaded",
        ("returned 7", "taken as success"),
        ("is positive_init live",),
    ),
    Load(
        "a bad value",
        ("put_too_many.ko", "count=many"),
        1,
        "failed",
        ("EINVAL", "count"),
        ("gone put_too_many",),
    ),
    Load(
        "init fails",
        ("failing_init.ko",),
        1,
        "failed",
        ("its init ran and returned -ENODEV",),
        ("gone failing_init",),
    ),
    Load(
        "init fails by choice",
        ("failing_init.ko", "code=-12"),
        1,
        "failed",
        ("its init ran and returned -ENOMEM",),
    ),
    Load("one shot, not announced", ("one_shot.ko",), 1, "failed", ("its init ran and returned -ECANCELED",)),
    Load(
        "one shot",
        ("one_shot.ko", "--one-shot"),
        0,
        "one-shot",
        ("as intended", "one_shot: done"),
        ("gone one_shot",),
    ),
    Load(
        "one shot that was not run", ("put_too_many.ko", "count=many", "--one-shot"), 1, "failed", ("EINVAL",)
    ),
    Load(
        "a symbol is missing",
        ("dependent.ko",),
        1,
        "failed",
        ("ENOENT", "provider_answer"),
        ("gone dependent",),
    ),
    Load(
        "init dies",
        ("bug_mod1.ko",),
        1,
        "died",
        ("lkm why bug_mod1", "NULL pointer"),
        ("is bug_mod1 coming",),
    ),
    Load("another configuration", ("/tmp/other.ko",), 1, "failed", ("ENOEXEC",), ("gone none_exit",)),
)

BROKEN = {
    "/tmp/empty.ko": "empty",
    "/tmp/text.ko": "ELF",
    "/tmp/short.ko": "",
    "/tmp/half.ko": "",
    "/tmp/cut.ko": "",
    "/tmp/foreign.ko": "s390",
    "/tmp/narrow.ko": "",
    "/tmp/wild.ko": "",
    "/tmp/absent.ko": "cannot be read",
    "/tmp": "cannot be read",
    "/dev/null": "",
}


def test_loads_end_as_they_should(guest: Guest) -> None:
    run_python(guest, BREAK)
    prepare(guest, ["echo 7 >/proc/sys/kernel/printk"])
    answers = ask(guest, *(["load", *_at(load.arguments), "--json"] for load in LOADS), timeout=240)
    for load, answer in zip(LOADS, answers):
        result = answer.object
        assert result["schema"] == "lkm.load/1", answer
        assert (result["outcome"], answer.code) == (load.outcome, load.code), f"{load}\n{answer}"
        for word in load.words:
            assert word in answer.stdout, f"{load}: {word!r} is not said\n{answer}"
    wrong = untrue(guest, [line for load in LOADS for line in load.after])
    assert not wrong, "\n".join(wrong)


def test_files_that_are_no_module_are_told_in_one_line(guest: Guest) -> None:
    run_python(guest, BREAK)
    for answer, word in zip(ask(guest, *(["load", path] for path in BROKEN), timeout=240), BROKEN.values()):
        assert answer.code == (2 if word == "cannot be read" else 1), answer
        assert len(answer.stderr.strip().splitlines()) == 1, answer
        assert answer.stderr.startswith("lkm: "), answer
        assert word in answer.stderr, answer
    assert not untrue(guest, ["gone decmod", 'unsaid "decmod"'])


def test_the_same_again_and_the_words_for_people(guest: Guest) -> None:
    prepare(guest, ["echo 3 >/proc/sys/kernel/printk"])
    first, again = ask(guest, ["load", "/share/decmod.ko"], ["load", "/share/decmod.ko"])
    assert (first.code, again.code) == (0, 1)
    assert "kernel: decmod: loaded" in first.stdout, first
    assert "the console shows levels below 3" in first.stdout, first
    assert "EEXIST" in again.stdout, again
    assert "decmod" in again.stdout, again


def test_a_load_that_outlives_its_wait_goes_on(guest: Guest) -> None:
    load, why = ask(
        guest,
        ["load", "/share/slow_init.ko", "seconds=12", "--init-wait", "1", "--json"],
        ["why", "slow_init", "--json"],
    )
    assert (load.object["outcome"], load.code) == ("running", 1), load
    assert "lkm why slow_init" in load.stdout, load
    assert "init-running" in why.stdout, why
    prepare(guest, ["within 30 is slow_init live"])


def test_unload_waits_for_a_holder_to_go(guest: Guest) -> None:
    prepare(guest, ["insmod left_holder.ko die=0", "sleep 12 </dev/holdme & sleep 0.5"])
    at_once, waited = ask(
        guest, ["unload", "left_holder", "--json"], ["unload", "left_holder", "--wait", "60", "--json"]
    )
    assert (at_once.object["outcome"], at_once.code) == ("refused", 1), at_once
    assert "/dev/holdme" in at_once.stdout, at_once
    assert (waited.object["outcome"], waited.code) == ("removed", 0), waited
    assert not untrue(guest, ["gone left_holder"])


UNLOADS = (
    ("decmod", (), 1, "not-loaded"),
    ("put_too_many", ("insmod put_too_many.ko",), 3, "refused"),
    ("bug_mod2", ("insmod bug_mod2.ko",), 1, "refused"),
    ("exit_oops", ("insmod exit_oops.ko",), 1, "died"),
    ("exit_block", ("insmod exit_block.ko",), 1, "running"),
    ("provider", ("insmod provider.ko", "insmod dependent.ko"), 1, "refused"),
)


def test_unloads_end_as_they_should(guest: Guest) -> None:
    prepare(guest, [step for _, steps, _, _ in UNLOADS for step in steps])
    commands = (["unload", name, "--exit-wait", "2", "--json"] for name, *_ in UNLOADS)
    for (name, _, code, outcome), answer in zip(UNLOADS, ask(guest, *commands, timeout=240)):
        assert answer.object["schema"] == "lkm.unload/1", answer
        assert (answer.object["outcome"], answer.code) == (outcome, code), f"{name}\n{answer}"
    after = ["is put_too_many live", "is provider live", "is exit_oops going", "is exit_block going"]
    wrong = untrue(guest, after)
    assert not wrong, "\n".join(wrong)


def _at(arguments: tuple[str, ...]) -> list[str]:
    file, *rest = arguments
    return [file if file.startswith("/") else f"/share/{file}", *rest]


@pytest.mark.parametrize("option", ["--wait", "--exit-wait"])
def test_wrong_usage_is_told_by_code_2(guest: Guest, option: str) -> None:
    (answer,) = ask(guest, ["unload", "decmod", option, "soon"])
    assert answer.code == 2, answer
