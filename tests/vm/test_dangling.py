# SPDX-License-Identifier: MIT
"""What would dangle, on real kernels: each kind of object that a dead init leaves behind is found by the scan, named,
and gives the verdict `crash` with its event; what leaves nothing behind gives no false hit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm.lab.build import build_modules
from lkm.lab.vm import Guest
from tests.vm.look import look
from tests.vm.talk import prepare

# module → what a finding says of it, and a word of the event
LEFT = {
    "left_timer": ("timer left_tick", "comes due"),
    "left_workqueue": ("work left_run", "comes due"),
    "left_notifier": ("notifier reboot_notifier_list", "announced"),
    "left_debugfs": (" of entry", "'entry'"),
    "left_proc": ("proc-entry /proc/left_entry", "first look"),
    "left_irq": ("interrupt left-irq", "interrupt"),
    "left_chrdev": ("chrdev leftchr", "device node"),
    "left_misc": ("misc left-over", "misc device"),
    "left_misc_no_owner": ("misc left-no-owner", "misc device"),
    "left_fs": ("filesystem leftfs", "mount"),
    "left_crypto": ("crypto left-hash", "algorithm"),
    "left_platform": ("driver platform:left-plat", "driver"),
}
NAMELESS = ("6.1-arm64", "6.1-arm64-pauth")
"""Without CONFIG_KALLSYMS_ALL: what is live is told by its address, most tables cannot be walked."""
FEW = 4
"""Pointers of unknown owners that a clean module may have: ftrace's records, where its list has no name."""
CLEAN = ("bug_mod1", "none_exit", "decmod", "provider")


def possible(kernel: str) -> dict[str, tuple[str, str]]:
    """Those of `LEFT` that this kernel can have: on arm64 no interrupt line is free for left_irq."""
    return {name: words for name, words in LEFT.items() if name != "left_irq" or "arm64" not in kernel}


def test_what_a_dead_init_left_behind_is_found_and_named(guest: Guest, kernel: str) -> None:
    left = possible(kernel)
    prepare(guest, [f"dies insmod {name}.ko die=1" for name in left], timeout=300)
    answers = look(guest, list(left))
    for name, (words, event) in left.items():
        why, scan = answers[name]["why"], answers[name]["scan"]
        assert not scan["error"], scan
        live = [hit for hit in scan["hits"] if hit["found"] == "live"]
        assert live or kernel in NAMELESS, (name, scan["hits"])
        assert why["verdict"] == "crash", (name, why)
        if kernel in NAMELESS:
            assert any(finding["event"] for finding in why["findings"]), (name, why["findings"])
            continue
        events = [finding["event"] for finding in why["findings"] if words in finding["summary"]]
        assert events, (name, why["findings"])
        assert event in events[0], (name, events)


def test_what_leaves_nothing_behind_gives_no_false_hit(guest: Guest, kernel: str) -> None:
    loads = ["dies insmod bug_mod1.ko", *(f"insmod {name}.ko" for name in (*CLEAN[1:], "dependent"))]
    prepare(
        guest,
        loads
        + [line for name in possible(kernel) for line in (f"insmod {name}.ko die=0", f"rmmod {name}")],
        timeout=300,
    )  # fmt: skip
    answers = look(guest, list(CLEAN))
    for name in CLEAN:
        why, scan = answers[name]["why"], answers[name]["scan"]
        assert not scan["error"], scan
        assert [hit for hit in scan["hits"] if hit["found"] == "live"] == [], name
        assert sum(hit["found"] == "unknown" for hit in scan["hits"]) <= FEW, (name, scan["hits"])
        assert sum(hit["found"] == "expected" for hit in scan["hits"]) > 10, (name, scan["hits"])
        assert all(hit["reason"] for hit in scan["hits"] if hit["found"] == "expected")
        assert why["verdict"] in ("safe", "removable", "refuse"), (name, why)
    assert answers["provider"]["why"]["verdict"] == "refuse"


LEAST_NAMED = 0.9


@pytest.fixture
def planted(kernel: str) -> Iterator[Guest]:
    """A clone with the module that plants pointers in /share."""
    directory = os.path.dirname(build_modules(str(Path(__file__).parent / "plant"), kernel)[0])
    with Guest.clone(kernel, share=directory) as guest:
        yield guest


@pytest.mark.compiles
def test_planted_pointers_are_found_and_named(planted: Guest) -> None:
    prepare(planted, ["insmod plant.ko"])
    lines = planted.run(["cat", "/sys/module/plant/parameters/planted"]).stdout.decode().splitlines()
    places = {int(address, 16): kind for kind, address in (line.split() for line in lines if line)}
    assert len(places) == 15
    answer = look(planted, ["plant"])["plant"]
    hits = {int(hit["place"]["address"], 16): hit for hit in answer["scan"]["hits"]}
    (freed,) = (at for at, kind in places.items() if kind == "freed")
    assert hits.get(freed, {"found": "stale"})["found"] == "stale", hits[freed]
    del places[freed]
    named = {at for at, kind in places.items() if at in hits and hits[at]["place"]["kind"] == kind}
    missed = {hex(at): (kind, hits.get(at)) for at, kind in places.items() if at not in named}
    assert len(named) >= LEAST_NAMED * len(places), missed
    assert all(hits[at]["target"] == "plant_target" for at in named)
    stack = next(hits[at] for at in named if places[at] == "stack")
    assert stack["place"]["name"] == "plant-sleeper"
    assert stack["found"] == "unknown"
    waiting = [
        hit for hit in hits.values() if hit["place"]["name"] == "plant-waiter" and hit["found"] == "live"
    ]
    assert waiting, [hit for hit in hits.values() if hit["place"]["kind"] == "stack"]
    assert "as soon as it wakes" in waiting[0]["event"]
    prepare(planted, ["rmmod plant"])
