# SPDX-License-Identifier: MIT
"""Who uses the trace events of modules, out of tracefs."""

from __future__ import annotations

import pytest

from lkm.diagnosis.activity import Activity
from lkm.diagnosis.references import reference_findings
from lkm.system.owners import Owners
from lkm.system.snapshot import Registration
from lkm.system.tables.trace_events import read_trace_events
from tests.snapshots import make_snapshot
from tests.unit.system.kernel import MODULES, FakeKernel
from tests.unit.system.tables.world import DEMO
from tests.unit.system.trees import Tree

TRACING = "/sys/kernel/tracing"
EVENTS = f"{TRACING}/events"
HELP = "# Available triggers:\n# traceon traceoff snapshot stacktrace enable_event disable_event hist\n"
BUSY = DEMO._replace(refcnt=1)


@pytest.fixture
def tracing(kernel: FakeKernel, tree: Tree) -> Tree:
    """The module has the event demo:begun."""
    kernel.module_symbols.append((MODULES + 0x100, "__traceiter_begun", "demo"))
    tree.write("/sys/module/demo/sections/_ftrace_events", f"{MODULES + 0x100:#x}\n")
    tree.write(f"{TRACING}/trace_clock", "[local]\n")
    tree.write(f"{TRACING}/dynamic_events", "")
    tree.write(f"{EVENTS}/demo/begun/trigger", HELP)
    tree.write(f"{EVENTS}/sched/sched_switch/trigger", HELP)
    return tree


def users(kernel: FakeKernel, tree: Tree, module: object = BUSY) -> list[Registration]:
    return list(read_trace_events(tree.root, kernel.memory(), Owners([module])))  # type: ignore[list-item]


def test_nobody_uses_it(kernel: FakeKernel, tracing: Tree) -> None:
    assert users(kernel, tracing) == []


@pytest.mark.parametrize("trigger", [
    "enable_event:demo:begun:unlimited", "disable_event:demo:begun:count=3 if prev_pid > 0",
])  # fmt: skip
def test_a_trigger_that_switches_it(kernel: FakeKernel, tracing: Tree, trigger: str) -> None:
    tracing.write(f"{EVENTS}/sched/sched_switch/trigger", f"stacktrace:unlimited\n{trigger}\n")
    (found,) = users(kernel, tracing)
    assert (found.name, found.module, found.users) == ("demo:begun", "demo", 1)
    command = ":".join(trigger.split(":")[:3])
    assert found.detail == f"echo '!{command}' > {EVENTS}/sched/sched_switch/trigger"


def test_a_trigger_on_it_holds_nothing(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(
        f"{EVENTS}/demo/begun/trigger", "stacktrace:unlimited\nenable_event:sched:sched_switch:unlimited\n"
    )
    assert users(kernel, tracing) == []


@pytest.mark.parametrize("line", ["e:probes/mine demo.begun number=$number", "e:probes/mine demo/begun"])
def test_an_event_probe(kernel: FakeKernel, tracing: Tree, line: str) -> None:
    tracing.write(f"{TRACING}/dynamic_events", f"p:kprobes/other do_exit\n{line}\n")
    (found,) = users(kernel, tracing)
    assert (found.name, found.detail) == ("demo:begun", f"echo '-:probes/mine' >> {TRACING}/dynamic_events")


def test_a_module_without_references_is_not_looked_at(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    assert users(kernel, tracing, DEMO) == []


def test_the_holder_says_how_to_let_go(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    snapshot = make_snapshot(BUSY)._replace(registrations=tuple(users(kernel, tracing)))
    (finding,) = reference_findings(snapshot, BUSY, Activity(()))
    assert finding.holders[0].name == "1 user of the trace-event demo:begun"
    assert finding.remedy == f"echo '-:probes/mine' >> {TRACING}/dynamic_events"
