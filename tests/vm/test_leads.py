# SPDX-License-Identifier: MIT
"""Objects of the general caches, on real kernels: what the kernel finds from somewhere is live, and named by that;
what the kernel keeps of a module and takes away by itself is expected, however much there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.lab.build import build_modules
from lkm.lab.vm import Guest
from tests.vm.look import look
from tests.vm.oopses import stray_oopses
from tests.vm.talk import ask, messages, prepare

pytestmark = pytest.mark.compiles
NAMELESS = ("6.1-arm64", "6.1-arm64-pauth")
"""Without CONFIG_KALLSYMS_ALL: what variables lead to is not looked at."""

# module → what the finding says of it, and a word of the event
REACHED = {
    "reach_hook": ("init_net", "init_net"),
    "reach_table": ("/proc/sys/dev/reach/reach_value", "first look"),
    "reach_family": ("genl_fam_idr", "next look-up"),
    "reach_element": ("ptype_base", "ptype_base"),
}


@pytest.fixture
def guest(kernel: str) -> Iterator[Guest]:
    """A clone with the modules of `reached` in /share."""
    directory = os.path.dirname(build_modules(str(Path(__file__).parent / "reached"), kernel)[0])
    with Guest.clone(kernel, share=directory) as clone:
        yield clone


def live(scan: dict[str, Any]) -> list[dict[str, Any]]:
    """The hits that a removal would leave to be followed."""
    return [hit for hit in scan["hits"] if hit["found"] == "live"]


def test_what_the_kernel_finds_from_somewhere_is_live(guest: Guest, kernel: str) -> None:
    prepare(guest, [f"dies insmod {name}.ko die=1" for name in REACHED])
    answers = look(guest, REACHED)
    for name, (words, event) in REACHED.items():
        why, scan = answers[name]["why"], answers[name]["scan"]
        if kernel in NAMELESS and name != "reach_table":
            assert any("from _sdata on" in note for note in scan["notes"]), scan["notes"]
            continue
        assert live(scan), (name, scan["hits"])
        assert why["verdict"] == "crash", (name, why)
        events = [finding["event"] for finding in why["findings"] if words in finding["summary"]]
        assert events, (name, why["findings"])
        assert event in events[0], (name, events)


def test_where_the_exit_runs_it_takes_that_away(guest: Guest, kernel: str) -> None:
    prepare(guest, [f"insmod {name}.ko" for name in REACHED])
    answers = look(guest, REACHED)
    for name in REACHED:
        assert live(answers[name]["scan"]) or kernel in NAMELESS, name
        assert answers[name]["why"]["verdict"] == "removable", (name, answers[name]["why"])
    for answer in ask(guest, *(["unload", name] for name in REACHED)):
        assert answer.code == 0, answer
    assert stray_oopses(messages(guest), []) == []


def test_trace_events_are_taken_away_by_the_removal(guest: Guest, kernel: str) -> None:
    prepare(
        guest, ["dies insmod reach_events.ko die=1", "grep -q reach: /sys/kernel/tracing/available_events"]
    )
    answer = look(guest, ["reach_events"])["reach_events"]
    reasons = {hit["reason"].split(" ")[0] for hit in answer["scan"]["hits"]}
    assert {"trace_module_remove_events", "jump_label_del_module"} <= reasons
    if kernel not in NAMELESS:
        assert live(answer["scan"]) == []
        assert [hit for hit in answer["scan"]["hits"] if hit["found"] == "unknown"] == []
        lists = {"tracepoint_module_going", "ddebug_remove_module", "remove_module_kprobe_blacklist"}
        assert lists <= reasons
    assert answer["why"]["verdict"] == "safe", answer["why"]
    (rescued,) = ask(guest, ["rescue", "reach_events", "--json"])
    assert rescued.object["outcome"] == "rescued", rescued
    events = guest.run(["cat", "/sys/kernel/tracing/available_events"]).stdout.decode()
    assert "sched:sched_switch" in events
    assert "reach:" not in events
    prepare(
        guest,
        ["echo 1 > /sys/kernel/tracing/events/sched/enable", "cat /sys/kernel/tracing/trace >/dev/null"],
    )
    prepare(guest, ["insmod reach_events.ko", "rmmod reach_events"])
    assert stray_oopses(messages(guest), ["reach_events"]) == []


PERF = """
import ctypes, struct, sys, time
number = int(open("/sys/kernel/tracing/events/reach/reach_begun/id").read())
attributes = struct.pack("<IIQ", 2, 112, number).ljust(112, b"\\0")  # PERF_TYPE_TRACEPOINT, sizeof(perf_event_attr)
call = {"x86_64": 298, "aarch64": 241}[__import__("os").uname().machine]
assert ctypes.CDLL(None, use_errno=True).syscall(call, attributes, 0, -1, -1, 0) >= 0, ctypes.get_errno()
time.sleep(1000)
"""


def test_an_event_that_perf_counts_holds_the_module(guest: Guest) -> None:
    """The reference is in no file, and to reset the count would let perf call freed code."""
    guest.run(["sh", "-c", "cat > /tmp/perf.py"], stdin=PERF.encode())
    prepare(guest, [
        "insmod reach_events.ko", "python3 -sS /tmp/perf.py & echo holder=$!",
        "within 10 sh -c '[ $(cat /sys/module/reach_events/refcnt) -gt 0 ]'",
    ])  # fmt: skip
    (answer,) = ask(guest, ["rescue", "reach_events", "--json"])
    assert answer.object["outcome"] == "refused", answer
    found = [each["summary"] for each in answer.object["before"]["findings"]]
    assert any("perf_event.tp_event" in summary for summary in found), found
    assert answer.object["before"]["verdict"] == "crash"


USERS = {
    "echo enable_event:reach:reach_begun > sched/sched_process_exit/trigger": "!enable_event:",
    "echo 'e:probes/reached reach.reach_begun' >> ../dynamic_events": "-:probes/reached",
}


def test_users_of_trace_events_are_holders(guest: Guest, kernel: str) -> None:
    """A trigger, and an event probe (since 5.15)."""
    for command, release in list(USERS.items())[: 1 if kernel == "5.10" else 2]:
        prepare(guest, [
            "insmod reach_events.ko", "cd /sys/kernel/tracing/events", command, "[ $(count_of reach_events) = 1 ]",
        ])  # fmt: skip
        (answer,) = ask(guest, ["why", "reach_events", "--json"])
        assert answer.object["verdict"] == "refuse"
        (finding,) = [each for each in answer.object["findings"] if each["code"] == "referenced"]
        (holder,) = finding["holders"]
        assert "reach:reach_begun" in holder["name"]
        assert release in holder["release"]
        prepare(guest, [holder["release"]])
        assert ask(guest, ["unload", "reach_events"])[0].code == 0


def test_a_driver_of_the_kernel_with_hundreds_of_events(guest: Guest) -> None:
    prepare(guest, ["modprobe xfs"])
    answer = look(guest, ["xfs"])["xfs"]
    kept = [hit for hit in answer["scan"]["hits"] if "trace_module_remove_events" in hit["reason"]]
    assert len(kept) > 1000
    assert [hit["target"] for hit in live(answer["scan"]) if hit["target"].startswith("event_")] == []
    table = [finding for finding in answer["why"]["findings"] if "/proc/sys/fs/xfs/" in finding["summary"]]
    assert table
