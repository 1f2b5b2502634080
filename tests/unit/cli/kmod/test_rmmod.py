# SPDX-License-Identifier: MIT
"""rmmod against kmod's on a made-up machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine.fake import Machine
from tests.property.tree.compare import a_machine, check_same, without_library, without_notes


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as made:
        made.load("plain")
        made.load("used", refcnt=2)
        made.load("needed", refcnt=2, holders=("used", "other"))
        made.load("going", refcnt=-1, state="going")
        made.load("early", state="coming")
        yield made


@pytest.mark.parametrize(
    "argv",
    [
        ["plain"],
        ["used"],
        ["needed"],
        ["going"],
        ["early"],
        ["none"],
        ["none", "used", "plain"],
        ["-f", "used"],
        ["-f", "none"],
        ["--force", "needed", "plain"],
        ["pl-ain.ko", "/no/such/file.ko"],
        ["plain.ko"],
        [],
        ["-x"],
        ["-s", "used"],
        ["a/b"],
        ["a.b.c"],
    ],
    ids=" ".join,
)
def test_as_kmod_does(machine: Machine, argv: list[str]) -> None:
    expected = without_library(machine.kmod("rmmod", *argv))
    assert without_notes(machine.lkm("rmmod", *argv)) == expected


@pytest.mark.parametrize("errno", [1, 11, 16, 2, 38])
def test_what_the_kernel_refuses(machine: Machine, errno: int) -> None:
    machine.results = f"plain={errno}"
    expected = without_library(machine.kmod("rmmod", "plain"))
    assert expected.code == 1
    assert without_notes(machine.lkm("rmmod", "plain")) == expected


def test_a_file_stands_for_its_module(machine: Machine) -> None:
    machine.write("/some/plain.ko", b"")
    assert check_same(machine, "rmmod", "some/plain.ko").code == 0


@pytest.mark.parametrize("operand", ["/", "/tmp/", ""])
def test_what_names_no_module(machine: Machine, operand: str) -> None:
    """kmod stops there, 30 with the code 0; here what comes after it is removed all the same."""
    answer = machine.lkm("rmmod", operand, "plain")
    assert (answer.code, answer.err) == (
        1, f"rmmod: ERROR: could not use module {operand}: No such file or directory\n",
    )  # fmt: skip
    assert answer.calls == "remove plain flags=2048 -> 0\n"


def test_a_built_in_module(machine: Machine) -> None:
    machine.write("/lib/modules/6.1.0-test/modules.builtin", "kernel/drivers/base/fixed-in.ko\n")
    assert machine.kmod("depmod").code == 0
    answer = check_same(machine, "rmmod", "fixed-in")
    assert answer.err == "rmmod: ERROR: Module fixed_in is builtin.\n"


def test_a_module_that_the_kernel_does_not_count(machine: Machine) -> None:
    (machine.path("/sys/module/plain/refcnt")).unlink()
    answer = check_same(machine, "rmmod", "plain")
    assert answer.err == "rmmod: ERROR: Module unloading is not supported\n"


def test_what_is_in_the_way_comes_with_a_way_on(machine: Machine) -> None:
    err = machine.lkm("rmmod", "used", "going", "needed", "none").err.splitlines()
    assert err[0] == "rmmod: ERROR: Module used is in use"
    assert err[1] == "rmmod: NOTICE: lkm why used says what is in the way"
    assert err[2] == (
        "rmmod: NOTICE: Module going has the reference count -1;"
        " going is going, not live; lkm why going says what is in the way"
    )
    assert err[3].startswith("rmmod: ERROR: Module needed is in use by: ")
    assert err[4].endswith("or all with modprobe -r --remove-holders needed")
    assert err[5:] == ["rmmod: ERROR: Module none is not currently loaded"]


def test_the_object(machine: Machine) -> None:
    answer = machine.lkm("rmmod", "--json", "plain", "none", "going")
    assert answer.code == 1
    assert json.loads(answer.out) == {
        "schema": "lkm.rmmod/1",
        "modules": [
            {"name": "plain", "removed": True, "error": "", "holders": []},
            {"name": "none", "removed": False, "error": "Module none is not currently loaded", "holders": []},
            {
                "name": "going",
                "removed": False,
                "error": "Module going has the reference count -1;"
                " going is going, not live; lkm why going says what is in the way",
                "holders": [],
            },
        ],
    }
