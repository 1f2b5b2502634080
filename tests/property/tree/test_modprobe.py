# SPDX-License-Identifier: MIT
"""modprobe reads configuration and command line, looks names up, loads and removes as kmod's modprobe does."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake import Machine
from tests.property.tree.compare import a_machine, check_alike, examples
from tests.property.tree.configurations import command_lines, modprobe_d
from tests.property.tree.modules import NAMES, PATTERNS, Tree, spellings, trees

ALIASES = """\
fs-ext4
pci:v00008086d00000001sv1sd1bc1sc1i1
usb:v1p2d2
char-major-10-130
symbol:s0
symbol:s-4
alphx
a1
oka
bad[
off
unix
snd_built
snd-built
net-pf-1
nothing
al[p-r]ha-x
ab
abc
alpha.ko
""".splitlines()
queries = st.one_of(spellings, st.sampled_from(ALIASES), st.sampled_from(PATTERNS))
FLAGS = ("-b", "-i", "-q", "-v", "-n", "--first-time", "-s", "-a")
SHOWING = ("-D", "-R", "--show-depends", "--resolve-alias")


class Loaded(NamedTuple):
    """A module that /sys/module shows."""

    name: str
    refcnt: int
    state: str
    holders: tuple[str, ...]


loaded = st.lists(
    st.builds(
        Loaded,
        st.sampled_from([name.replace("-", "_") for name in NAMES]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from(["live", "live", "live", "coming", "going"]),
        st.lists(st.sampled_from([name.replace("-", "_") for name in NAMES]), max_size=1).map(tuple),
    ),
    max_size=3,
    unique_by=lambda module: module.name,
)


class Situation(NamedTuple):
    """All that a tool finds: see `furnish`."""

    tree: Tree
    configuration: dict[str, str]
    command_line: str
    loaded: list[Loaded]
    failure: str

    def furnish(self, machine: Machine) -> None:
        """A tree that kmod's depmod has indexed, a configuration, a command line, modules in the kernel."""
        self.tree.write(machine)
        assert machine.kmod("depmod").code in (0, 1)
        for name, text in self.configuration.items():
            machine.write(name, text)
        machine.write("/proc/cmdline", self.command_line)
        for module in self.loaded:
            machine.load(module.name, refcnt=module.refcnt, state=module.state, holders=module.holders)
        machine.results = self.failure


FAILURES = (
    "",
    "",
    "alpha=2",
    "beta=22",
    "gam_ma=8",
    "del_ta=1",
    "alpha=17",
    "x_y_z=3",
    "alpha=11",
    "beta=16",
)
at_rest = st.builds(Situation, trees(overlap=True), modprobe_d, command_lines, st.just([]), st.just(""))
situations = st.builds(Situation, trees(), modprobe_d, command_lines, loaded, st.sampled_from(FAILURES))
asked = st.lists(queries, min_size=1, max_size=2)


@examples(40)
@given(situation=at_rest)
def test_the_configuration_is_read_alike(situation: Situation) -> None:
    with a_machine() as machine:
        situation.furnish(machine)
        check_alike(machine, "modprobe", "-c")


@examples(50)
@given(
    situation=at_rest, asked=st.lists(st.tuples(st.sampled_from(SHOWING), queries), min_size=1, max_size=4)
)
def test_names_are_looked_up_alike(situation: Situation, asked: list[tuple[str, str]]) -> None:
    with a_machine() as machine:
        situation.furnish(machine)
        for option, name in asked:
            check_alike(machine, "modprobe", option, name)


@examples(60)
@given(
    situation=situations,
    flags=st.lists(st.sampled_from(FLAGS), max_size=2, unique=True),
    names=asked,
    parameters=st.lists(st.sampled_from(["debug=2", "text=a b", "n=1", "x", 'y="q r"']), max_size=2),
)
def test_modules_are_loaded_alike(
    situation: Situation, flags: list[str], names: list[str], parameters: list[str]
) -> None:
    with a_machine() as machine:
        situation.furnish(machine)
        check_alike(machine, "modprobe", *flags, *names, *parameters)


@examples(40)
@given(
    situation=situations,
    flags=st.lists(st.sampled_from([*FLAGS, "--remove-holders"]), max_size=2, unique=True),
    names=asked,
)
def test_modules_are_removed_alike(situation: Situation, flags: list[str], names: list[str]) -> None:
    with a_machine() as machine:
        situation.furnish(machine)
        check_alike(machine, "modprobe", "-r", *flags, *names)
        check_alike(machine, "rmmod", *names)
        check_alike(machine, "lsmod")
