# SPDX-License-Identifier: MIT
"""modprobe against kmod's on a made-up machine, and what it has beyond."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.cli.kmod.modprobe import split_environment
from lkm.cli.kmod.modprobe_job import Job
from lkm.tree.probe import Candidate
from tests.builders import make_module
from tests.indexes import make_tree
from tests.machine.fake import RELEASE, Answer, Machine
from tests.machine.modules import Exports, Layout, ModuleFile, make_module_file
from tests.property.tree.compare import a_machine, check_same, without_notes

SOURCE = Path(__file__).parents[4] / "src"
TOO_HEAVY = {"argparse", "ctypes", "dataclasses", "enum", "json", "pathlib", "re", "subprocess", "typing"}

MODULES = {
    "kernel/top.ko": ["kernel/middle.ko", "kernel/low.ko"],
    "kernel/middle.ko": ["kernel/low.ko"],
    "kernel/low.ko": [],
    "kernel/soft.ko": ["kernel/soft-dep.ko"],
    "kernel/soft-dep.ko": [],
    "kernel/after.ko": [],
    "kernel/with-cmd.ko": ["kernel/low.ko"],
    "kernel/lone.ko": [],
}
CONF = """\
alias my-top top
alias two* low
alias two* lone
options top a=1
options my_top b=2
options low "x=1 2"
softdep middle pre: soft post: after unknown
softdep middle pre: lone
install with_cmd echo installing $MODPROBE_MODULE $CMDLINE_OPTS $MODPROBE_OPTIONS; test -z "$FAIL"
remove with_cmd echo removing $MODPROBE_MODULE; test -z "$FAIL"
install only-cmd true
blacklist lone
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with a_machine() as made:
        shutil.rmtree(made.tree)
        make_tree(
            made.top,
            release=RELEASE,
            modules=MODULES,
            aliases=[("pci:v1*", "top"), ("pci:v12*", "lone")],
            symbols=[("sym", "low")],
            builtin=["inside"],
            builtin_aliases=[("net_pf_9", "inside")],
            files={"etc/modprobe.d/a.conf": CONF, "proc/cmdline": "top.c=3 modprobe.blacklist=soft\n"},
        )
        for path in MODULES:
            name = path.rpartition("/")[2].partition(".")[0].replace("-", "_")
            (made.tree / path).write_bytes(make_module(name))
        yield made


def load_all(machine: Machine) -> None:
    """As after `modprobe top`."""
    machine.load("low", refcnt=2, holders=("middle", "top"))
    machine.load("middle", refcnt=1, holders=("top",))
    for name in ("top", "soft", "soft_dep", "after"):
        machine.load(name)


LOADS = """\
top
my-top x=1 y=a\\ b
-v top
-a top lone nothing
nothing
-q nothing
-a nothing low
-v pci:v1
-v pci:v12
-vb lone
-v lone
-b soft
-v two-fold
symbol:sym
-v inside
net-pf-9
with-cmd p=1
-C /etc/modprobe.d/a.conf -q with-cmd
-vi with-cmd
only-cmd
-vi only-cmd
-nv top
-n top
--first-time top
-f low
--force-vermagic -v low
--force-modversion low
bad[name

-w
-w x -r low
-x
--show
-S 1.2.3 low
-d /nowhere low
""".splitlines()


def words_of(line: str) -> list[str]:
    return [word.replace("\0", " ") for word in line.replace("\\ ", "\0").split()]


@pytest.mark.parametrize("line", LOADS)
def test_it_loads_as_kmod_does(machine: Machine, line: str) -> None:
    check_same(machine, "modprobe", *words_of(line))


@pytest.mark.parametrize("option", ["-D", "-R", "-Dq", "-Da", "-Ra", "-Di", "-Db"])
def test_it_shows_what_kmod_does(machine: Machine, option: str) -> None:
    for name in (
        "top",
        "my_top",
        "pci:v12",
        "two",
        "with_cmd",
        "only_cmd",
        "inside",
        "net_pf_9",
        "soft",
        "-",
    ):
        check_same(machine, "modprobe", option, name, "x=1")


@pytest.mark.parametrize("errno", [1, 2, 3, 8, 11, 12, 16, 17, 22, 110])
@pytest.mark.parametrize("name", ["low", "top", "soft_dep", "soft", "after"])
def test_what_the_kernel_refuses_is_told_as_by_kmod(machine: Machine, name: str, errno: int) -> None:
    machine.results = f"{name}={errno}"
    check_same(machine, "modprobe", "-v", "top")


def test_what_is_there_is_not_loaded_again(machine: Machine) -> None:
    machine.load("low")
    machine.load("middle", state="coming")
    assert check_same(machine, "modprobe", "-v", "low").out == ""
    assert check_same(machine, "modprobe", "--first-time", "low").code == 1
    check_same(machine, "modprobe", "-v", "top")
    check_same(machine, "modprobe", "--first-time", "-a", "middle", "low", "top")
    assert check_same(machine, "modprobe", "--first-time", "inside").code == 1


def test_a_command_that_fails(machine: Machine) -> None:
    assert check_same(machine, "modprobe", "with_cmd", FAIL="1").code == 1
    machine.load("with_cmd")
    assert check_same(machine, "modprobe", "-r", "with_cmd", FAIL="1").code == 1


def test_a_dependency_without_its_file(machine: Machine) -> None:
    """kmod says why with an address of its memory, and loads the module without any dependency."""
    (machine.tree / "kernel/low.ko").unlink()
    expected, found = machine.kmod("modprobe", "-D", "top"), machine.lkm("modprobe", "-D", "top")
    assert (found.code, found.out) == (expected.code, expected.out)
    path = f"/lib/modules/{RELEASE}/kernel/low.ko"
    assert f"dependency of top: path={path} error=No such file or directory" in found.err
    assert f"path={path} error=No such file or directory" in expected.err


REMOVALS = """\
top
-v top
-v middle
-va middle top
-q middle
-nv top
-f -v middle
-v --remove-holders middle
--remove-holders low
--remove-dependencies -v middle
-v -w 1 middle
--first-time lone
--first-time -a lone inside
lone
nothing
-a nothing after
-q nothing after
inside
-a inside
-v with_cmd
-vi with_cmd
-v pci:v1
bad[
-v after soft
""".splitlines()


@pytest.mark.parametrize("line", REMOVALS)
def test_it_removes_as_kmod_does(machine: Machine, line: str) -> None:
    load_all(machine)
    machine.load("with_cmd")
    check_same(machine, "modprobe", "-r", *words_of(line))


@pytest.mark.parametrize("errno", [1, 2, 11, 16, 17, 38])
def test_what_the_kernel_keeps(machine: Machine, errno: int) -> None:
    load_all(machine)
    machine.results = f"top={errno}"
    check_same(machine, "modprobe", "-rv", "top")
    check_same(machine, "modprobe", "-rv", "--first-time", "top")


def test_a_path_is_loaded_with_what_it_needs(machine: Machine) -> None:
    """Since kmod 33. A name without a slash in front is a name."""
    answer = machine.lkm("modprobe", f"/lib/modules/{RELEASE}/kernel/middle.ko")
    assert [line.split()[1] for line in answer.calls.splitlines()] == [
        "low",
        "soft_dep",
        "soft",
        "middle",
        "after",
    ]
    answer = machine.lkm("modprobe", "-v", f"./lib/modules/{RELEASE}/kernel/lone.ko", "a=b")
    assert answer.out == f"insmod {machine.top}/./lib/modules/{RELEASE}/kernel/lone.ko a=b\n"
    answer = machine.lkm("modprobe", "./nowhere.ko")
    assert answer == Answer(
        1, "", "modprobe: FATAL: Failed to get module from path ./nowhere.ko: No such file or directory\n"
    )
    assert "not found in directory" in machine.lkm("modprobe", "lib/low.ko").err


def test_steps_and_what_commands_print_come_in_order(machine: Machine) -> None:
    """kmod's own lines come last where they do not go to a terminal."""
    expected, found = (run("modprobe", "-v", "with-cmd") for run in (machine.kmod, machine.lkm))
    assert sorted(found.out.splitlines()) == sorted(expected.out.splitlines())
    assert [line.split()[0] for line in found.out.splitlines()] == ["insmod", "install", "installing"]


def test_waiting_in_vain_is_a_failure(machine: Machine) -> None:
    """kmod ends with 0 when its time is over."""
    load_all(machine)
    machine.results = "top=11"
    answer = machine.lkm("modprobe", "-r", "-w", "300", "top")
    assert answer.err == "modprobe: ERROR: could not remove 'top': Resource temporarily unavailable\n"
    assert answer.code == 1
    assert 3 <= len(answer.calls.splitlines()) <= 12  # after 0, 1, 3, 7, 15, 31, 63, 127, 255, 300 ms
    machine.results = "top=16"
    assert len(machine.lkm("modprobe", "-r", "-w", "20", "top").calls.splitlines()) == 1


def test_softdeps_in_a_circle_are_removed_once_each(machine: Machine) -> None:
    machine.write("/etc/modprobe.d/b.conf", "softdep soft_dep post: after\nsoftdep after post: soft_dep\n")
    load_all(machine)
    assert machine.lkm("modprobe", "-rv", "after").out == "rmmod soft_dep\nrmmod after\n"


def test_a_softdep_whose_alias_leads_back_is_no_endless_removal(machine: Machine) -> None:
    machine.write("/etc/modprobe.d/b.conf", "alias after soft-dep\nsoftdep soft_dep pre: after\n")
    load_all(machine)
    assert machine.lkm("modprobe", "-rv", "after").out == "rmmod soft_dep\n"


def test_the_configuration_is_printed_as_by_kmod(machine: Machine) -> None:
    machine.write("/etc/modprobe.d/b.conf", "nonsense\nweakdep a b\n")
    machine.write(f"/lib/modules/{RELEASE}/modules.softdep", "softdep low pre: a b post: c\n")
    expected, found = machine.kmod("modprobe", "-c"), machine.lkm("modprobe", "-c")
    lines = [line for line in found.out.splitlines() if not line.startswith("weakdep ")]  # since kmod 33
    assert lines == [line for line in expected.out.splitlines() if not line.startswith("weakdep ")]
    assert "weakdep a b" in found.out.splitlines()
    assert (
        "modprobe: ERROR: /etc/modprobe.d/b.conf line 1: ignoring bad line starting with 'nonsense'"
        in found.err
    )


A_KO, NONE_KO, ODD_KO = (f"/lib/modules/{RELEASE}/{name}.ko" for name in ("a", "none", "odd"))


@pytest.mark.parametrize("option", ["--show-modversions", "--dump-modversions", "--show-exports"])
def test_symbols_of_a_file_are_printed_as_by_kmod(machine: Machine, option: str) -> None:
    machine.write(
        A_KO, make_module("a", versions={"_printk": 0xABC, "x": 0x12345678}, exports={"e": 1, "f": 2})
    )
    assert check_same(machine, "modprobe", option, A_KO).out
    check_same(machine, "modprobe", option, "/nowhere.ko")
    machine.write(NONE_KO, make_module("none"))
    answer = machine.lkm("modprobe", option, NONE_KO)
    assert (answer.code, "none.ko: No data available" in answer.err) == (1, True)
    machine.write(ODD_KO, b"no module")
    assert machine.lkm("modprobe", option, ODD_KO).code == machine.kmod("modprobe", option, ODD_KO).code == 1


LAYOUTS = [
    Layout(bits, order, machine)
    for bits, order, machine in ((64, "<", 62), (64, ">", 21), (32, "<", 3), (32, ">", 8))
]


@pytest.mark.parametrize("style", Exports)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_symbols_of_every_kind_of_file(machine: Machine, layout: Layout, style: Exports) -> None:
    """Either word size and byte order, CRCs as values, in sections, or none; torn tables."""
    module = ModuleFile(
        modinfo=(b"name=x",),
        exports=(("one", 0x1234ABCD), ("two", 7)),
        versions=(("_printk", 0xFFFFFFFF), (".dot", 2)),
        style=style,
        layout=layout,
    )
    machine.write(A_KO, make_module_file(module))
    assert (
        check_same(machine, "modprobe", "--show-modversions", A_KO).out
        == "0xffffffff\t_printk\n0x00000002\tdot\n"
    )
    assert len(check_same(machine, "modprobe", "--show-exports", A_KO).out.splitlines()) == 2
    torn = ModuleFile(modinfo=(b"name=x",), sections=(("__versions", b"1234567"),), layout=layout)
    machine.write(A_KO, make_module_file(torn))
    assert machine.kmod("modprobe", "--show-modversions", A_KO).code == 1
    answer = machine.lkm("modprobe", "--show-modversions", A_KO)
    assert (answer.code, answer.out) == (1, "")
    assert "__versions: expected a multiple of 64 bytes, found 7" in answer.err


def test_options_come_from_the_environment_too(machine: Machine) -> None:
    assert check_same(machine, "modprobe", "top", MODPROBE_OPTIONS="-D -q").out
    machine.write("/etc/modprobe.d/a b", "options low from=here\n")
    assert (
        "from=here"
        in check_same(machine, "modprobe", "-D", "low", MODPROBE_OPTIONS="-C '/etc/modprobe.d/a b'").out
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  -v   -q ", ["-v", "-q"]),
        ("-C '/a b' \"x y\"", ["-C", "/a b", "x y"]),
        ("-C'/a b'/c", ["-C/a b/c"]),
        ("a '' b", ["a", "", "b"]),
        ("it's", ["it's"]),
    ],
)
def test_the_environment_is_split_at_blanks_that_are_not_quoted(text: str, words: list[str]) -> None:
    assert split_environment(text) == words


def test_a_look_up_imports_nothing_heavy(machine: Machine) -> None:
    """The kernel starts modprobe for each module that it asks for."""
    script = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); before = set(sys.modules)\n"
        "from lkm.__main__ import main\nassert main() == 0\nsys.stdout.flush()\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    argv = ["modprobe", "-d", str(machine.top), "-S", RELEASE, "-D", "top"]
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.argv = {argv!r}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert done.stdout.count("insmod") == 3
    assert "lkm.tree.probe" in loaded
    assert loaded & TOO_HEAVY == set()


def test_without_standard_streams_it_still_works(machine: Machine) -> None:
    """As the kernel starts it."""
    conf = machine.write("/etc/modprobe.d/z.conf", f"install low echo there > {machine.top}/done\nnonsense\n")
    tool = [
        sys.executable,
        "-m",
        "lkm",
        "modprobe",
        "-q",
        "-d",
        str(machine.top),
        "-S",
        RELEASE,
        "-C",
        str(conf),
    ]
    environment = {"PYTHONPATH": str(SOURCE), "PATH": "/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *tool, "--", "low"], env=environment, check=False
    )
    assert done.returncode == 0
    assert machine.path("/done").read_text(encoding="utf-8") == "there\n"


# Beyond kmod


def forbid(machine: Machine, *names: str) -> None:
    machine.write("/etc/modprobe.d/no.conf", "".join(f"forbid {name}\n" for name in names))


WHERE = "is forbidden by /etc/modprobe.d/no.conf line 1"


@pytest.mark.parametrize(
    ("name", "forbidden", "said"),
    [
        ("low", "low", f"Module low {WHERE}"),
        ("symbol:sym", "low", f"Module low {WHERE}"),
        ("my-top", "top", f"Module top {WHERE}"),
        ("my-top", "my-top", f"Module top {WHERE}"),
        ("pci:v1", "pci:*", f"Module top {WHERE}"),
        ("top", "lo?", f"Module low, wanted by top, {WHERE}"),
        ("with-cmd", "with-cmd", f"Module with_cmd {WHERE}"),
        ("/lib/modules/6.1.0-test/kernel/lone.ko", "lone", f"Module lone {WHERE}"),
    ],
)
def test_what_is_forbidden_is_not_loaded_whatever_asks_for_it(
    machine: Machine, name: str, forbidden: str, said: str
) -> None:
    forbid(machine, forbidden)
    answer = machine.lkm("modprobe", name)
    (error, refused) = answer.err.splitlines()
    assert error == f"modprobe: ERROR: {said}"
    assert refused.endswith(": Operation not permitted")
    assert (answer.code, answer.out, answer.calls) == (1, "", "")
    assert machine.lkm("modprobe", "-q", name) == Answer(1, "", "")
    shown = machine.lkm("modprobe", "-D", name)
    assert (shown.code, shown.out) == (1, "")


@pytest.mark.parametrize(("forbidden", "wanted_by"), [("soft", "middle"), ("soft-dep", "soft")])
def test_a_softdep_that_is_forbidden_is_left_out(machine: Machine, forbidden: str, wanted_by: str) -> None:
    forbid(machine, forbidden)
    answer = machine.lkm("modprobe", "top")
    name = forbidden.replace("-", "_")
    assert answer.err == f"modprobe: WARNING: Module {name}, wanted by {wanted_by}, {WHERE}\n"
    assert answer.code == 0
    assert [line.split()[1] for line in answer.calls.splitlines()] == ["low", "middle", "after", "top"]


def test_a_forbidden_name_leads_nowhere_where_a_pattern_is_its_alias(machine: Machine) -> None:
    forbid(machine, "char-major-10-200")
    machine.write("/etc/modprobe.d/alias.conf", "alias char-major-10-* low\n")
    assert machine.lkm("modprobe", "-D", "char-major-10-200").code == 1
    assert machine.lkm("modprobe", "-D", "char-major-10-201").code == 0


def test_every_name_of_a_line_is_forbidden(machine: Machine) -> None:
    forbid(machine, "lone\tlow  # for good")
    for name in ("lone", "low"):
        assert f"Module {name} {WHERE}" in machine.lkm("modprobe", name).err


def test_a_forbidden_module_is_known_by_its_own_name(machine: Machine) -> None:
    forbid(machine, "lone")
    path = f"/lib/modules/{RELEASE}/other.ko"
    machine.path(path).write_bytes(make_module("lone"))
    answer = machine.lkm("modprobe", path)
    assert f"Module other {WHERE}" in answer.err
    assert answer.calls == ""


def test_a_forbidden_softdep_that_is_there_is_not_told(machine: Machine) -> None:
    forbid(machine, "soft")
    machine.load("soft")
    assert "forbidden" not in machine.lkm("modprobe", "top").err


@pytest.mark.parametrize("path", ["./", "/"])
def test_a_path_without_a_name_is_no_module(machine: Machine, path: str) -> None:
    answer = machine.lkm("modprobe", "-D", path)
    assert (answer.code, answer.out) == (1, "")


@pytest.mark.parametrize("value", ["1_0", "0b11", "0o7", "+0b1"])
def test_a_wait_is_a_number_as_c_has_them(machine: Machine, value: str) -> None:
    answer = machine.lkm("modprobe", "-r", "-w", value, "low")
    assert f"unexpected wait value '{value}'." in answer.err
    assert answer.code == 1


def test_a_command_ends_of_a_closed_pipe(machine: Machine) -> None:
    machine.write("/etc/modprobe.d/yes.conf", "install lone yes | head -n1\n")
    check_same(machine, "modprobe", "lone")


def test_a_command_has_its_exit_code_where_children_are_not_told_of() -> None:
    """A program may be started with SIGCHLD ignored; the command gets it as it was meant."""
    candidate = Candidate("lone", "", None, builtin=False)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert [Job.run_command(Job.__new__(Job), candidate, f"exit {code}") for code in (0, 3)] == [0, 3]
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_is_there_already_or_built_in_is_not_forbidden(machine: Machine) -> None:
    forbid(machine, "low", "inside")
    machine.load("low")
    assert without_notes(machine.lkm("modprobe", "-v", "middle")).err == ""
    assert machine.lkm("modprobe", "low").code == 0
    assert machine.lkm("modprobe", "inside").code == 0
    assert machine.lkm("modprobe", "-D", "inside").out == "builtin inside\n"


def test_kmod_warns_about_the_line(machine: Machine) -> None:
    forbid(machine, "low")
    answer = machine.kmod("modprobe", "low")
    assert "line 1: ignoring bad line starting with 'forbid'" in answer.err
    assert answer.code == 0


def test_every_softdep_counts_if_asked_for(machine: Machine) -> None:
    shown = machine.lkm("modprobe", "-D", "--all-softdeps", "middle").out.splitlines()
    names = [line.split("/")[-1].split(".")[0] for line in shown]
    assert names == ["low", "soft-dep", "soft", "lone", "middle", "after"]


def json_of(machine: Machine, *argv: str) -> Any:
    answer = machine.lkm("modprobe", "--json", *argv)
    assert answer.code == 0
    return json.loads(answer.out)


def test_json_has_each_step(machine: Machine) -> None:
    path = f"/lib/modules/{RELEASE}/kernel/with-cmd.ko"
    steps = [
        {
            "action": "insmod",
            "module": "low",
            "path": f"/lib/modules/{RELEASE}/kernel/low.ko",
            "options": '"x=1 2" ',
        },
        {"action": "insmod", "module": "with_cmd", "path": path, "options": "p=1"},
    ]
    assert json_of(machine, "-Di", "with_cmd", "p=1") == {"schema": "lkm.modprobe/1", "actions": steps}
    install = json_of(machine, "-D", "with_cmd")["actions"][-1]
    assert (install["action"], install["command"].split()[0]) == ("install", "echo")
    assert json_of(machine, "-D", "inside")["actions"] == [{"action": "builtin", "module": "inside"}]
    assert [row["module"] for row in json_of(machine, "-R", "two")["actions"]] == ["low", "lone"]
    machine.load("lone")
    assert json_of(machine, "-r", "lone")["actions"] == [{"action": "rmmod", "module": "lone"}]


def test_json_has_the_configuration_with_its_places(machine: Machine) -> None:
    found = json_of(machine, "-c")
    assert found["blacklist"] == [
        {"name": "lone", "value": "", "where": "/etc/modprobe.d/a.conf line 12"},
        {"name": "soft", "value": "", "where": "/proc/cmdline"},
    ]
    assert {"alias": "pci:v1*", "module": "top"} in found["module_aliases"]
    assert found["symbols"] == [{"symbol": "sym", "module": "low"}]


def test_a_failure_comes_with_what_it_means(machine: Machine) -> None:
    machine.results = "low=8"
    err = machine.lkm("modprobe", "low").err.splitlines()
    assert err[0] == "modprobe: ERROR: could not insert 'low': Exec format error"
    assert err[1].startswith("modprobe: NOTICE: ")


def test_what_is_wrong_with_the_whole_tree_is_told(machine: Machine) -> None:
    err = machine.lkm("modprobe", "nothing").err
    assert err == f"modprobe: FATAL: Module nothing not found in directory /lib/modules/{RELEASE}\n"
    err = machine.lkm("modprobe", "-S", "9.9.9", "low").err.splitlines()[1]
    assert err.startswith(
        "modprobe: NOTICE: /lib/modules/9.9.9: No such file or directory: are this kernel's modules"
    )
    for path in machine.tree.glob("modules.dep*"):
        path.unlink()
    err = machine.lkm("modprobe", "low").err.splitlines()[1]
    assert err == f"modprobe: NOTICE: there is no modules.dep in /lib/modules/{RELEASE}: run depmod"
    assert machine.lkm("modprobe", "-q", "low") == Answer(1, "", "")


def test_what_is_in_use_comes_with_a_way_on(machine: Machine) -> None:
    load_all(machine)
    assert machine.lkm("modprobe", "-r", "low").err.splitlines() == [
        "modprobe: FATAL: Module low is in use.",
        "modprobe: NOTICE: lkm why low says what is in the way",
    ]


def test_a_damaged_index_is_told_and_its_text_read(machine: Machine) -> None:
    (machine.tree / "modules.dep.bin").write_bytes(b"hello, index")
    machine.write(f"/lib/modules/{RELEASE}/modules.dep", "kernel/low.ko:\n")
    answer = machine.lkm("modprobe", "-D", "low")
    assert answer.out == f'insmod /lib/modules/{RELEASE}/kernel/low.ko "x=1 2" \n'
    assert "modules.dep.bin: at 0: expected the magic" in answer.err
