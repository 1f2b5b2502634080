# SPDX-License-Identifier: MIT
"""modinfo against kmod's on made-up modules: many files a call, as a call is what costs."""

from __future__ import annotations

import json
import lzma
import random
import zlib
from collections.abc import Iterator

import pytest

from lkm.cli.kmod.main import run
from tests.machine.fake import RELEASE, Machine
from tests.machine.modules import Layout, ModuleFile, make_module_file
from tests.property.tree.compare import a_machine, check_same, without_library, without_notes

LAYOUTS = [Layout(), Layout(64, ">", 21), Layout(32, "<", 3), Layout(32, ">", 20)]
KEYS = [b"license", b"alias", b"depends", b"author", b"parm", b"parmtype", b"sig_id", b"name",
        b"filename", b"x" * 15, b""]  # fmt: skip
VALUES = [b"GPL", b"", b"a=b", b"count:how many", b"count:int", b"level:uint", b"level:", b":odd", b"no colon",
          b"caf\xc3\xa9", b"\xff\xfe", b"two words", b"line\nbreak", b"tab\there"]  # fmt: skip
OPTIONS = [[], ["-0"], ["-p"], ["-F", "parm"], ["-F", "alias"], ["-F", "name"], ["-F", "filename"], ["-a"], ["-d"],
           ["-l"], ["-n"], ["-F", "none"], ["-F", ""], ["-p", "-0"], ["-F", "parmtype"]]  # fmt: skip


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as made:
        yield made


def make_modules(machine: Machine, count: int, chance: random.Random) -> list[str]:
    """Files with all kinds of entries, in all layouts."""
    names = []
    for number in range(count):
        keys = chance.choices(KEYS, k=chance.randint(0, 8))
        entries = tuple(key + b"=" + chance.choice(VALUES) if chance.random() < 0.8 else key for key in keys)
        module = ModuleFile(
            modinfo=entries, layout=LAYOUTS[number % 4], exports=(("a_symbol", 1),) * (number % 2)
        )
        data = make_module_file(module)
        name = f"m-{number}.ko"
        if number % 5 == 4:
            name, data = name + ".xz", lzma.compress(data)
        machine.write(f"/{name}", data)
        names.append(name)
    return names


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_as_kmod_prints_them(machine: Machine, options: list[str]) -> None:
    check_same(machine, "modinfo", *options, *make_modules(machine, 120, random.Random(7)))


def test_damaged_files(machine: Machine) -> None:
    """What kmod refuses with a message, lkm does, and goes on; and says what is wrong."""
    chance = random.Random(11)
    whole = make_module_file(ModuleFile(modinfo=(b"license=GPL", b"depends=")))
    names = []
    for number in range(200):
        data = bytearray(whole)
        if number % 2:
            for _ in range(chance.randint(1, 4)):  # in the header, or in the table of sections
                # Not in the last header: what the section of names is called itself, 34 looks at and 30 does not.
                at = chance.choice(
                    [chance.randrange(64), chance.randrange(len(data) - 64 * 8, len(data) - 64)]
                )
                data[at] = chance.choice([0, 1, 0x7F, 0xFF])
        else:
            del data[chance.randrange(len(data)) :]
        names.append(f"d{number}.ko")
        machine.write(f"/{names[-1]}", bytes(data))
    refused = 0
    for name in names:
        expected = without_library(machine.kmod("modinfo", name))
        found = machine.lkm("modinfo", name)
        if expected.code >= 0:
            said = expected.err.replace("No such file or directory", "No data available")  # 30, as 34 has it
            assert without_notes(found) == expected._replace(err=said), name
        else:  # kmod 30 gives up by abort() where the names of sections are missing
            assert found.code == 1
        refused += found.code
        assert found.err.count("NOTICE") == found.err.count("ERROR: could not get modinfo") == found.code
    assert 20 < refused < 190


def test_a_corrupt_stream(machine: Machine) -> None:
    data = lzma.compress(make_module_file(ModuleFile(modinfo=(b"license=GPL",))))
    machine.write("/cut.ko.xz", data[:-20])
    machine.write("/flipped.ko.xz", data[:60] + bytes([data[60] ^ 1]) + data[61:])
    for name in ("cut.ko.xz", "flipped.ko.xz"):
        expected = without_library(machine.kmod("modinfo", name))
        assert without_notes(machine.lkm("modinfo", name)) == expected
        assert expected.code == 1


def test_gzip_which_debian_s_kmod_does_not_read(machine: Machine) -> None:
    module = make_module_file(ModuleFile(modinfo=(b"license=GPL",)))
    squeeze = zlib.compressobj(wbits=31)
    machine.write("/a.ko.gz", squeeze.compress(module) + squeeze.flush())
    assert machine.lkm("modinfo", "-F", "license", "a.ko.gz") == (0, "GPL\n", "", "")


def test_names_and_aliases_of_a_tree(machine: Machine) -> None:
    for name, entries in {
        "one-two": (b"alias=pci:v1*", b"license=GPL"),
        "three": (b"alias=pci:v1*", b"alias=fs-three", b"depends=one-two"),
    }.items():
        module = ModuleFile(modinfo=entries, exports=((f"{name.replace('-', '_')}_symbol", 1),))
        machine.write(f"/lib/modules/{RELEASE}/kernel/{name}.ko", make_module_file(module))
    machine.write(f"/lib/modules/{RELEASE}/modules.builtin", "kernel/fixed-in.ko\nkernel/silent.ko\n")
    told = (
        b"fixed_in.license=GPL\0fixed_in.alias=net-fixed\0fixed_in.parm=a:b\0other.a=b\0fixed_in.alias=late\0"
    )
    machine.write(f"/lib/modules/{RELEASE}/modules.builtin.modinfo", told)
    assert machine.kmod("depmod").code == 0
    for argv in (
        ["one_two"],
        ["one-two", "three", "none"],
        ["pci:v1d2"],
        ["fs-three"],
        ["-m", "fs-three"],
        ["-m", "one-two", "fixed-in"],
        ["fixed_in"],
        ["net-fixed"],
        ["-F", "name", "fixed-in"],
        ["-F", "filename", "fixed-in"],
        ["-0", "fixed-in"],
        ["symbol:three_symbol"],
        ["a[b"],
        ["-m", "a[b"],
        ["-k", "5.0", "three"],
        ["-b", "/nowhere", "three"],
        ["-b", ".", "three"],
        ["-b", f"{machine.top}/", "-k", RELEASE, "three"],
    ):
        check_same(machine, "modinfo", *argv)
    (found,) = json.loads(machine.lkm("modinfo", "--json", "fixed_in").out)["modules"]
    assert (found["builtin"], found["fields"]["alias"]) == (True, ["net-fixed", "late"])
    machine.path(f"/lib/modules/{RELEASE}/modules.builtin.modinfo").unlink()
    check_same(machine, "modinfo", "fixed-in")
    machine.path(f"/lib/modules/{RELEASE}/kernel/three.ko").unlink()
    check_same(machine, "modinfo", "three", "one-two")


def test_what_kmod_34_has_and_30_has_not(machine: Machine) -> None:
    """A long key has its value right behind it; a built-in module that says nothing is no error."""
    machine.write("/a.ko", make_module_file(ModuleFile(modinfo=(b"a_key_of_more_than_15=x",))))
    assert machine.lkm("modinfo", "a.ko").out.splitlines()[1] == "a_key_of_more_than_15:x"
    machine.write(f"/lib/modules/{RELEASE}/modules.builtin", "kernel/silent.ko\n")
    machine.write(f"/lib/modules/{RELEASE}/modules.builtin.modinfo", b"other.license=X\0")
    assert machine.kmod("depmod").code == 0
    assert machine.lkm("modinfo", "silent") == (
        0,
        "name:           silent\nfilename:       (builtin)\n",
        "",
        "",
    )


def test_what_is_no_file_of_a_module(machine: Machine) -> None:
    machine.write("/plain", b"")
    machine.path("/folder.ko").mkdir()
    for name in ("plain", "folder.ko", "none.ko", ""):
        check_same(machine, "modinfo", name)


def test_wrong_usage(machine: Machine) -> None:
    for argv in ([], ["-F"], ["-q", "x"], ["--null=1", "x"], ["--f", "x"]):
        check_same(machine, "modinfo", *argv)


def test_the_object(machine: Machine) -> None:
    entries = (b"license=GPL", b"alias=a", b"alias=b", b"parm=x:how", b"parmtype=x:int", b"parmtype=y:uint")
    machine.write("/a-b.ko", make_module_file(ModuleFile(modinfo=entries)))
    answer = machine.lkm("modinfo", "--json", "a-b.ko", "none")
    assert answer.code == 1
    assert json.loads(answer.out) == {
        "schema": "lkm.modinfo/1",
        "modules": [
            {
                "name": "a_b",
                "filename": f"{machine.top}/a-b.ko",
                "builtin": False,
                "fields": {"license": ["GPL"], "alias": ["a", "b"]},
                "parameters": [
                    {"name": "x", "description": "how", "type": "int"},
                    {"name": "y", "description": None, "type": "uint"},
                ],
                "signature": None,
            }
        ],
    }


def test_many_files_are_read_by_several_processes(
    machine: Machine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And come out as from one, messages included."""
    names = make_modules(machine, 40, random.Random(3))
    machine.write("/empty.ko", b"")
    paths = [f"{machine.top}/{name}" for name in [*names, "empty.ko", "none.ko", *names] * 3]
    answers = []
    for count in (1, 3):
        monkeypatch.setattr("lkm.cli.kmod.modinfo.processors", lambda count=count: count)
        assert run("modinfo", paths) == 1
        answers.append(capfdbinary.readouterr())
    assert answers[0] == answers[1]
    assert answers[0].out.count(b"filename:       /") == 3 * 81
