# SPDX-License-Identifier: MIT
"""Who uses the trace events of modules, out of tracefs."""

from __future__ import annotations

import pytest

from lkm.diagnosis.activity import Activity
from lkm.diagnosis.findings import Certainty
from lkm.diagnosis.references import reference_findings
from lkm.errors import LkmError
from lkm.system.owners import Owners
from lkm.system.snapshot import LoadedModule, Registration
from lkm.system.tables.trace_events import read_trace_events
from tests.snapshots import make_snapshot
from tests.unit.system.kernel import MODULES, FakeKernel
from tests.unit.system.tables.world import DEMO, OTHER
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


def users(kernel: FakeKernel, tree: Tree, module: LoadedModule = BUSY) -> list[Registration]:
    return list(read_trace_events(tree.root, kernel.memory(), Owners([module])))


def test_nobody_uses_it(kernel: FakeKernel, tracing: Tree) -> None:
    assert users(kernel, tracing) == []


@pytest.mark.parametrize("trigger", [
    "enable_event:demo:begun:unlimited", "enable_hist:demo:begun:unlimited",
    "disable_event:demo:begun:count=3 if prev_pid > 0",
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


def test_a_trigger_of_an_instance(kernel: FakeKernel, tracing: Tree) -> None:
    path = f"{TRACING}/instances/mine/events/sched/sched_switch/trigger"
    tracing.write(path, "enable_event:demo:begun:unlimited\n")
    assert [each.source for each in users(kernel, tracing)] == [path]


def test_of_two_modules_with_an_event_of_that_name_each_may_be_meant(
    kernel: FakeKernel, tracing: Tree
) -> None:
    other = OTHER._replace(refcnt=1)
    kernel.module_symbols.append((MODULES + 0x4100, "__traceiter_begun", "other"))
    tracing.write("/sys/module/other/sections/_ftrace_events", "0x1\n")
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    found = read_trace_events(tracing.root, kernel.memory(), Owners([BUSY, other]))
    assert [(each.module, each.certain) for each in found] == [("demo", False), ("other", False)]


def test_what_a_module_imports_is_not_its_own(kernel: FakeKernel, tracing: Tree) -> None:
    kernel.module_symbols[-1] = (0, "__traceiter_begun", "demo")
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    assert users(kernel, tracing) == []


def test_a_machine_without_tracefs_is_said(kernel: FakeKernel, tree: Tree) -> None:
    kernel.module_symbols.append((MODULES + 0x100, "__traceiter_begun", "demo"))
    tree.write("/sys/module/demo/sections/_ftrace_events", "0x1\n")
    with pytest.raises(LkmError, match="trace events cannot be read"):
        users(kernel, tree)


def test_one_reference_that_leaks_beside_a_user_is_unexplained(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    twice = DEMO._replace(refcnt=2)
    snapshot = make_snapshot(twice)._replace(registrations=tuple(users(kernel, tracing)))
    codes = [each.code.value for each in reference_findings(snapshot, twice, Activity(()))]
    assert codes == ["referenced", "unexplained-references"]


def test_a_module_without_references_is_not_looked_at(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    assert users(kernel, tracing, DEMO) == []


def test_the_holder_says_how_to_let_go(kernel: FakeKernel, tracing: Tree) -> None:
    tracing.write(f"{TRACING}/dynamic_events", "e:probes/mine demo.begun\n")
    snapshot = make_snapshot(BUSY)._replace(registrations=tuple(users(kernel, tracing)))
    (finding,) = reference_findings(snapshot, BUSY, Activity(()))
    assert finding.holders[0].name == f"the trace event demo:begun is used by {TRACING}/dynamic_events"
    assert finding.certainty is Certainty.CERTAIN
    assert finding.remedy == f"echo '-:probes/mine' >> {TRACING}/dynamic_events"
