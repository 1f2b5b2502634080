# SPDX-License-Identifier: MIT
"""What is damaged, hostile or odd: the tools say what and where, end and go on as kmod's do, without a trace."""

from __future__ import annotations

import lzma
import os
import random
from collections.abc import Iterator

import pytest
import zstandard

from tests.machine.fake import RELEASE, Answer, Machine
from tests.machine.modules import Exports, Layout, ModuleFile, make_module_file
from tests.property.tree.compare import a_machine

PLAIN = ModuleFile()
TOP = f"/lib/modules/{RELEASE}"


def a_module(name: str, *info: bytes, like: ModuleFile = PLAIN) -> bytes:
    """A module of that name, otherwise as `like`."""
    modinfo = (b"license=GPL", *info, b"name=" + name.encode())
    return make_module_file(like._replace(name=name, modinfo=modinfo))


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


WHOLE = a_module("bad", b"alias=bad-alias")
BAD_FILES = {
    "empty.ko": b"",
    "text.ko": b"this is no module\n" * 10,
    "five.ko": WHOLE[:5],
    "header.ko": WHOLE[:64],
    "cut.ko": WHOLE[: len(WHOLE) // 2],
    "no_sections.ko": changed(WHOLE, 60, b"\0\0"),
    "far_table.ko": changed(WHOLE, 40, b"\xff" * 7 + b"\x0f"),
    "names_of_none.ko": changed(WHOLE, 62, b"\xff\xff"),
    "another_class.ko": changed(WHOLE, 4, b"\x07"),
    "another_order.ko": changed(WHOLE, 5, b"\x02"),
    "torn.ko.xz": lzma.compress(WHOLE)[:-20],
    "no_xz.ko.xz": b"\xfd7zXZ\0" + b"rubbish" * 9,
    "torn.ko.zst": zstandard.compress(WHOLE)[:-9],
    "plain.ko.xz": a_module("plain"),
    "xz_inside.ko": lzma.compress(a_module("xz_inside")),
    "behind.ko.xz": lzma.compress(a_module("behind")) + b"rubbish",
}
READABLE = {"plain.ko.xz", "xz_inside.ko"}
"""How a file is compressed its first bytes tell, not its name."""

LAYOUTS = {"little32": Layout(32, "<", 3), "big32": Layout(32, ">", 20), "big64": Layout(64, ">", 22)}


@pytest.fixture
def machine() -> Iterator[Machine]:
    """With two good modules."""
    with a_machine() as machine:
        machine.write(
            f"{TOP}/kernel/good.ko", a_module("good", b"alias=good-*", like=ModuleFile(exports=(("g", 1),)))
        )
        machine.write(f"{TOP}/kernel/user.ko", a_module("user", like=ModuleFile(imports=("g",))))
        yield machine


def sound(answer: Answer) -> Answer:
    """An answer of lkm that is none of a broken program."""
    assert "Traceback" not in answer.err
    assert answer.code in (0, 1), answer
    return answer


def files_of(machine: Machine) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in machine.tree.glob("modules.*")}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_module(machine: Machine, name: str) -> None:
    """depmod goes on and gives the others; whoever is asked about the bad one ends as kmod does."""
    machine.write(f"{TOP}/kernel/{name}", BAD_FILES[name])
    expected, dep = machine.kmod("depmod"), machine.tree / "modules.dep"
    found = sound(machine.lkm("depmod"))
    assert (f"kernel/{name}" in found.err) == (name not in READABLE)
    assert "kernel/user.ko: kernel/good.ko\n" in dep.read_text()
    if expected.code < 0:  # an assertion of kmod 30
        return
    text = dep.read_text()
    machine.kmod("depmod")
    assert (found.code, text) == (expected.code, dep.read_text())
    module, path = name.partition(".")[0], str(machine.tree / "kernel" / name)
    for argv in (
        ("modinfo", path), ("modinfo", module), ("modprobe", "-D", module), ("modprobe", "--show-exports", path),
        ("modprobe", "user"),
    ):  # fmt: skip
        assert sound(machine.lkm(*argv)).code == machine.kmod(*argv).code, argv


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("style", Exports)
def test_a_module_of_another_architecture(machine: Machine, layout: str, style: Exports) -> None:
    odd = ModuleFile(exports=(("o", 7),), imports=("g",), style=style, layout=LAYOUTS[layout])
    uses = ModuleFile(imports=("o",), layout=LAYOUTS[layout])
    machine.write(f"{TOP}/kernel/odd.ko", a_module("odd", like=odd))
    machine.write(f"{TOP}/kernel/uses.ko", a_module("uses", like=uses))
    machine.kmod("depmod")
    expected = (machine.tree / "modules.dep").read_bytes()
    assert b"kernel/uses.ko: kernel/odd.ko kernel/good.ko" in expected
    assert sound(machine.lkm("depmod")).code == 0
    assert (machine.tree / "modules.dep").read_bytes() == expected


def test_what_is_named_like_a_module_and_is_none(machine: Machine) -> None:
    """A directory, a FIFO (to open it would wait for ever), links to nothing, to themselves and to above."""
    (machine.tree / "kernel/dir.ko").mkdir()
    os.mkfifo(machine.tree / "kernel/fifo.ko")
    for name, target in (("gone.ko", "nowhere"), ("self.ko", "self.ko"), ("linked.ko", "good.ko")):
        (machine.tree / "kernel" / name).symlink_to(target)
    expected = machine.kmod("depmod")
    text = (machine.tree / "modules.dep").read_text()
    assert "linked.ko" in text
    found = sound(machine.lkm("depmod"))
    assert (found.code, (machine.tree / "modules.dep").read_text()) == (expected.code, text)
    assert "fifo.ko" in found.err
    (machine.tree / "kernel/above").symlink_to("..")
    assert sound(machine.lkm("depmod")).code == 0


def test_an_alias_of_a_megabyte(machine: Machine) -> None:
    """kmod's modules.alias has it; no index can be asked for it."""
    machine.write(f"{TOP}/kernel/long.ko", a_module("long", b"alias=" + b"a" * (1 << 20), b"alias=short"))
    expected, text = machine.kmod("depmod"), (machine.tree / "modules.alias").read_bytes()
    found = sound(machine.lkm("depmod"))
    assert found.code == expected.code
    assert (machine.tree / "modules.alias").read_bytes() == text
    assert sound(machine.lkm("modprobe", "-R", "short")).out == "long\n"
    assert sound(machine.lkm("modinfo", "-F", "alias", "long")).out.splitlines()[1] == "short"


@pytest.mark.parametrize("name", ["modules.dep.bin", "modules.alias.bin", "modules.symbols.bin"])
def test_an_index_cut_anywhere(machine: Machine, name: str) -> None:
    """The text answers instead."""
    machine.kmod("depmod")
    path = machine.tree / name
    data = path.read_bytes()
    for size in {*range(1, 20), *range(20, len(data), max(1, len(data) // 12))}:
        path.write_bytes(data[:size])
        answer = sound(machine.lkm("modprobe", "-D", "good-one" if "alias" in name else "user"))
        assert answer.code == 0
        assert answer.out.startswith(f"insmod {TOP}/kernel/good.ko")
        assert name in answer.err or name == "modules.symbols.bin"  # that one nobody asks


def test_an_index_with_a_bit_flipped(machine: Machine) -> None:
    """It may answer wrongly: it has no checksum. It must answer."""
    machine.kmod("depmod")
    chance = random.Random(1)
    for name in ("modules.dep.bin", "modules.alias.bin"):
        path = machine.tree / name
        data = path.read_bytes()
        for _ in range(12):
            at = chance.randrange(len(data))
            path.write_bytes(changed(data, at, bytes([data[at] ^ 1 << chance.randrange(8)])))
            for argv in (("-D", "user"), ("-R", "good-one"), ("-c",)):
                sound(machine.lkm("modprobe", *argv))
        path.write_bytes(data)


CONFIGURATION = {
    "nul": b"options good a=1\0b=2\noptions user x=1\n",
    "binary": bytes(range(1, 256)) * 8,
    "latin-1": "options good text=M\xfcller\n".encode("latin-1"),
    "a megabyte": b"options good " + b"x" * (1 << 20) + b"\noptions user x=1\n",
    "no end": b"options user x=1",
    "carriage returns": b"options user x=1\r\nblacklist good\r\n",
    "thousands of continuations": b"options user \\\n" * 5000 + b"x=1\n",
}


@pytest.mark.parametrize("kind", CONFIGURATION)
def test_a_bad_configuration_file(machine: Machine, kind: str) -> None:
    machine.kmod("depmod")
    machine.write("/etc/modprobe.d/a.conf", CONFIGURATION[kind])
    machine.write("/etc/modprobe.d/b.conf", "options user z=1\n")
    for argv in (("-D", "user"), ("-c",), ("-v", "user")):
        expected, found = machine.kmod("modprobe", *argv), sound(machine.lkm("modprobe", *argv))
        assert found.code == expected.code
        assert found.out.splitlines()[-1] == expected.out.splitlines()[-1]


def test_configuration_that_is_a_directory_or_a_link_to_nothing(machine: Machine) -> None:
    machine.kmod("depmod")
    machine.path("/etc/modprobe.d/dir.conf").mkdir(parents=True)
    machine.path("/etc/modprobe.d/gone.conf").symlink_to("nowhere")
    machine.write("/etc/modprobe.d/z.conf", "options user z=1\n")
    assert sound(machine.lkm("modprobe", "-D", "user")).out == machine.kmod("modprobe", "-D", "user").out


def test_what_may_not_be_read(machine: Machine) -> None:
    """A directory of modules, a module, a configuration file: told, and the rest is done."""
    machine.write(f"{TOP}/secret/hidden.ko", a_module("hidden"))
    closed = machine.write(f"{TOP}/kernel/closed.ko", a_module("closed"))
    machine.kmod("depmod")
    configuration = machine.write("/etc/modprobe.d/a.conf", "options user a=1\n")
    machine.write("/etc/modprobe.d/z.conf", "options user z=1\n")
    machine.top.chmod(0o755)
    machine.tree.chmod(0o777)
    for path in (machine.tree / "secret", closed, configuration):
        path.chmod(0)
    machine.nobody = True
    try:
        for argv in (
            ("depmod", "-n"), ("modprobe", "-D", "user"), ("modprobe", "-v", "closed"), ("modinfo", "closed"),
            ("modinfo", "hidden"), ("insmod", str(closed)),
        ):  # fmt: skip
            expected, found = machine.kmod(*argv), sound(machine.lkm(*argv))
            assert found.code == expected.code, (argv, expected, found)
            assert found.out.replace("\n", "")[:60] == expected.out.replace("\n", "")[:60], argv
        assert "secret" in machine.lkm("depmod", "-n").err
        assert "closed.ko" in machine.lkm("depmod", "-n").err
    finally:
        (machine.tree / "secret").chmod(0o755)


def test_a_disk_that_is_full(machine: Machine) -> None:
    """No file is left half-written, and the old ones are as they were."""
    assert machine.lkm("depmod").code == 0
    before = files_of(machine)
    for number in range(40):
        machine.write(f"{TOP}/kernel/more{number}.ko", a_module(f"more{number}", b"alias=more-%d" % number))
    answer = sound(machine.lkm_alone("depmod", file_size=600))
    assert answer.code == 1
    assert "modules." in answer.err
    assert files_of(machine) == before
    assert not [path.name for path in machine.tree.iterdir() if path.name.startswith(".")]


def test_standard_output_that_is_full(machine: Machine) -> None:
    machine.kmod("depmod")
    for argv in (("modinfo", "good"), ("modprobe", "-c"), ("depmod", "-n"), ("lsmod",)):
        answer = sound(machine.lkm_alone(*argv, output="/dev/full"))
        assert answer.code == 1
        assert "No space left on device" in answer.err
