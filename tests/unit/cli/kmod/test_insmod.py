# SPDX-License-Identifier: MIT
"""insmod against kmod's on a made-up machine."""

from __future__ import annotations

import errno
import gzip
import json
import lzma
from collections.abc import Iterator

import pytest

from lkm.cli.kmod.params import join_params
from tests.builders import make_module
from tests.machine.fake import Machine
from tests.property.tree.compare import a_machine, check_same


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as made:
        made.write("/demo.ko", make_module("demo", versions={"module_layout": 1}))
        made.write("/demo.ko.xz", lzma.compress(make_module("demo")))
        made.write("/short.ko", b"\x7fELF")
        made.write("/empty.ko", b"")
        yield made


@pytest.mark.parametrize(
    "argv",
    [
        ["demo.ko"],
        ["./demo.ko", "a=1", 'c="x y"', "flag", "d='x y'", "e="],
        ["-f", "demo.ko"],
        ["-f", "demo.ko.xz", "a=1"],
        ["demo.ko.xz"],
        ["none.ko"],
        ["."],
        ["/"],
        [""],
        ["short.ko"],
        ["empty.ko"],
        ["-"],
        [],
        ["-x"],
    ],
    ids=" ".join,
)
def test_as_kmod_does(machine: Machine, argv: list[str]) -> None:
    check_same(machine, "insmod", *argv)


def test_what_kmod_34_has_and_30_has_not(machine: Machine) -> None:
    """A value with spaces gets quotes, a long name for -f, and a file goes in as it is if the kernel takes it so."""
    assert machine.lkm("insmod", "demo.ko", "b=two words").calls == 'load demo [b="two words"] -> 0\n'
    assert machine.lkm("insmod", "--force", "demo.ko").calls == machine.kmod("insmod", "-f", "demo.ko").calls
    machine.write("/sys/module/compression", "xz\n")
    assert machine.lkm("insmod", "demo.ko.xz").calls == "load ? [] flags=4 -> 0\n"
    machine.write("/sys/module/compression", "gzip\n")
    assert machine.lkm("insmod", "demo.ko.xz").calls == "load demo [] -> 0\n"


def test_gzip_which_debian_s_kmod_does_not_read(machine: Machine) -> None:
    machine.write("/demo.ko.gz", gzip.compress(make_module("demo")))
    answer = machine.lkm("insmod", "demo.ko.gz")
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.parametrize("number", [errno.ENOEXEC, errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.EPERM, errno.EEXIST,
                                    errno.EBADMSG, errno.EKEYREJECTED, errno.ENODEV, errno.EBUSY])  # fmt: skip
def test_the_errors_of_the_kernel(machine: Machine, number: int) -> None:
    machine.results = f"demo={number}"
    assert check_same(machine, "insmod", "demo.ko").code == 1


def test_an_error_says_why(machine: Machine) -> None:
    machine.results = f"demo={errno.ENOEXEC}"
    lines = machine.lkm("insmod", "demo.ko").err.splitlines()
    assert lines[0] == "insmod: ERROR: could not insert module demo.ko: Invalid module format"
    assert lines[-1] == (
        "insmod: NOTICE: ENOEXEC (Exec format error): the file does not fit this kernel:"
        " format, architecture, vermagic, or CRC of module_layout"
    )
    machine.write("/cut.ko.xz", lzma.compress(make_module("demo"))[:-40])
    answer = machine.lkm("insmod", "cut.ko.xz")
    assert answer.code == 1
    assert "insmod: NOTICE: cut.ko.xz: xz stream ends early" in answer.err


def test_the_object(machine: Machine) -> None:
    answer = machine.lkm("insmod", "--json", "demo.ko")
    assert json.loads(answer.out) == {
        "schema": "lkm.insmod/1", "file": "demo.ko", "loaded": True, "errno": 0, "reasons": [],
    }  # fmt: skip
    machine.results = f"demo={errno.ENOENT}"
    answer = machine.lkm("insmod", "--json", "demo.ko")
    found = json.loads(answer.out)
    assert (found["loaded"], found["errno"], answer.code) == (False, errno.ENOENT, 1)
    assert found["reasons"][-1].startswith("ENOENT")


def test_parameters_are_quoted_as_the_kernel_reads_them() -> None:
    assert (
        join_params(["a=1 2", "b", "c='1 2'", "d=", 'e="1 2"', "f g"]) == 'a="1 2" b c=\'1 2\' d= e="1 2" f g'
    )
