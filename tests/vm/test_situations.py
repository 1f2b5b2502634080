# SPDX-License-Identifier: MIT
"""What `lkm why` says and `lkm rescue` does in each situation that a module can be in, on real kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lkm.lab.vm import Guest
from tests.vm.conftest import MAIN
from tests.vm.held import HELD
from tests.vm.left_behind import LEFT_BEHIND, REGISTERED, left_by_death
from tests.vm.situation import Situation, check_diagnosis, play
from tests.vm.situations import SITUATIONS
from tests.vm.talk import Answer, ask, prepare, untrue

NO_VARIABLES = ("6.1-arm64", "6.1-arm64-pauth")
"""Kernels without CONFIG_KALLSYMS_ALL."""


@pytest.mark.parametrize("situation", [*SITUATIONS, *HELD, *LEFT_BEHIND], ids=str)
def test_situation(
    guest: Guest,
    column: str,
    situation: Situation,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    if column in NO_VARIABLES and "asynchronous" in str(situation):
        why = "its kallsyms has no variables, so the list of asynchronous calls is not found"
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    record_property("row", str(situation))
    record_property("expected", situation.expected)
    record_property("column", column)
    play(guest, situation, ask_why=column == MAIN)


def test_what_a_dead_init_left_behind_is_named_and_stays(guest: Guest) -> None:
    moments = {module: left_by_death(module) for module in _registered(guest)}
    prepare(guest, [step for moment in moments.values() for step in moment.steps])
    for module, answer in _why(guest).items() if _has_tables(guest) else ():
        check_diagnosis(answer.object, moments[module], {}, answer)
        assert answer.code == 1, answer
    for answer in ask(guest, *(["rescue", module, "--json"] for module in moments), timeout=480):
        assert (answer.object["outcome"], answer.code) == ("refused", 3), answer
    wrong = untrue(guest, [line for moment in moments.values() for line in moment.after])
    assert not wrong, "\n".join(wrong)


def test_what_an_exit_takes_away_is_no_obstacle(guest: Guest) -> None:
    modules = _registered(guest)
    prepare(guest, [f"insmod {module}.ko die=0" for module in modules])
    for module, answer in _why(guest).items():
        assert (answer.object["verdict"], answer.code) == ("removable", 0), answer
        for thing in REGISTERED[module] if _has_tables(guest) else ():
            assert thing in answer.stdout, f"{thing!r} is not said\n{answer}"
    for answer in ask(guest, *(["unload", module, "--json"] for module in modules), timeout=480):
        assert (answer.object["outcome"], answer.code) == ("removed", 0), answer
    wrong = untrue(guest, [*(f"gone {module}" for module in modules), 'unsaid "Oops"', 'unsaid "BUG:"'])
    assert not wrong, "\n".join(wrong)


def _registered(guest: Guest) -> list[str]:
    """The modules that leave something in a table. arm64's machine has no interrupt line that a test may share."""
    arm64 = guest.kernel.series.architecture == "arm64"
    return [module for module in REGISTERED if not (arm64 and module == "left_irq")]


def _has_tables(guest: Guest) -> bool:
    """Whether the kernel's tables can be found; elsewhere the scan alone knows what is left behind."""
    return guest.kernel.series.name not in NO_VARIABLES


def _why(guest: Guest) -> dict[str, Answer]:
    """What `lkm why` says of all of them, by one snapshot."""
    modules = _registered(guest)
    commands = (["why", module, "--snapshot", "/tmp/snapshot", "--json"] for module in modules)
    _, *answers = ask(guest, ["snapshot", "-o", "/tmp/snapshot"], *commands)
    return dict(zip(modules, answers))


TRACER = """
import ctypes, os, sys, time
PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40
go, write_end = os.pipe()
loader = os.fork()
if loader == 0:
    os.read(go, 1)
    os.execv("/usr/sbin/insmod", ["insmod", "/share/bug_mod1.ko"])
words = (ctypes.c_long(word) for word in (PTRACE_SEIZE, loader, 0, PTRACE_O_TRACEEXIT))
assert ctypes.CDLL(None).ptrace(*words) == 0
os.write(write_end, b"x")
while (os.waitpid(loader, 0)[1] >> 16) != 6:  # PTRACE_EVENT_EXIT
    pass
time.sleep(600)  # a tracer that ends would let it go on
"""


def test_a_dead_loader_that_its_tracer_holds_is_dead(guest: Guest) -> None:
    guest.run(["python3", "-sS", "-c", TRACER], background=True)
    prepare(
        guest, ["within 20 is bug_mod1 coming", "within 10 grep -q 't (tracing stop)' /proc/[0-9]*/status"]
    )
    (answer,) = ask(guest, ["rescue", "bug_mod1", "--json"])
    assert (answer.object["outcome"], answer.code) == ("rescued", 0), answer
    assert not untrue(guest, ["gone bug_mod1", "grep -q 't (tracing stop)' /proc/[0-9]*/status"])


HELD_OUT_OF_SIGHT = (
    "modprobe tcp_htcp",
    "echo htcp >/proc/sys/net/ipv4/tcp_congestion_control",
    '[ "$(count_of tcp_htcp)" = 1 ]',
)


def test_a_reference_held_out_of_sight_is_no_leak(guest: Guest) -> None:
    """The kernel's setting holds it: freed, the next TCP socket would call freed code."""
    prepare(guest, HELD_OUT_OF_SIGHT)
    why, dry = ask(guest, ["why", "tcp_htcp", "--json"], ["rescue", "tcp_htcp", "--dry-run", "--json"])
    assert why.object["verdict"] != "safe", why
    assert dry.object["outcome"] == "refused", dry
