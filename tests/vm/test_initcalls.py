# SPDX-License-Identifier: MIT
"""A boot with initcall_debug: each call is a row of the table, in its level and order; names are what they are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lkm.boot.initcall import FIRST_OF_TABLE, Initcall, Level
from lkm.boot.layout import plan_memory, total_of
from lkm.boot.life import release_of
from lkm.boot.messages import parse_events, parse_log
from lkm.boot.modules_of import with_modules
from lkm.boot.source import read_image_initcalls
from lkm.boot.symbols import BootSymbol, initcalls_of_symbols
from lkm.boot.timeline import TICK, Outcome, Timeline, make_timeline, total
from lkm.cli.main import run
from lkm.formats.module import parse_module
from lkm.lab.build import build_modules
from lkm.lab.vm import Guest
from lkm.names import module_name_from_path
from lkm.root import Root

NAMES_ONLY_IN_THE_IMAGE = "6.1-arm64"
"""Has no CONFIG_KALLSYMS_ALL, so that its symbols are functions."""

SECURITY = {Level.EARLY_SECURITY, Level.SECURITY}


class Boot:
    """A guest that booted with initcall_debug, what it said, and its initcalls by the image on the host."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.log = guest.run(["busybox", "dmesg", "-r"]).stdout.decode("utf-8", "backslashreplace")
        root = Root("/nonexistent", guest.kernel.release)
        self.table = read_image_initcalls(root, guest.kernel.file("vmlinuz")).initcalls
        self.timeline: Timeline = make_timeline(parse_events(parse_log(self.log)), self.table)

    def json(self, *argv: str) -> Any:
        done = self.guest.run(["lkm", *argv, "--json"], timeout=240)
        assert not done.stderr, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def boot(kernel: str) -> Iterator[Boot]:
    with Guest.boot(kernel, append="initcall_debug") as guest:
        yield Boot(guest)


def kallsyms(guest: Guest) -> list[BootSymbol]:
    """The kernel's own symbols, by a reader that is not lkm's."""
    rows = (line.split() for line in guest.get("/proc/kallsyms").decode().splitlines())
    return [BootSymbol(int(row[0], 16), row[1], row[2]) for row in rows if len(row) == 3]


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "7.3", NAMES_ONLY_IN_THE_IMAGE])
def test_every_call_of_a_boot_is_in_the_table_and_names_are_told(boot: Boot, kernel: str) -> None:
    check_that_each_call_has_its_row(boot)
    check_the_order_of_the_levels(boot)
    check_the_sums(boot)
    check_the_probes(boot, kernel)
    if kernel != NAMES_ONLY_IN_THE_IMAGE:
        check_that_kallsyms_says_what_the_image_says(boot)
        check_where(boot, kernel)
        check_the_memory_of_what_is_loaded(boot)
    if kernel in {"6.1", "6.12"}:
        check_what_is_concluded_from_names(boot)


def check_that_each_call_has_its_row(boot: Boot) -> None:
    """Nothing is unmatched, nothing was called out of order, nothing in the table was not called."""
    made = boot.timeline
    called = re.findall(r"\] calling  (\S+?)\+0x\S+ @ \d+$", boot.log, re.MULTILINE)
    rows = [call.function for call in boot.table if call.level not in SECURITY]
    assert len(called) > 400
    assert called == rows
    assert (made.unmatched, made.disordered, made.uncalled, made.blacklisted) == ((), (), (), ())
    initcalls = [run for run in made.runs if run.kind == "initcall"]
    assert [run.initcall.function for run in initcalls if run.initcall] == called
    assert [run.function for run in made.runs if run.outcome is Outcome.UNFINISHED] == []


def check_the_order_of_the_levels(boot: Boot) -> None:
    """By what is known of each level: its marks in the log (7.x), and functions that are always in one."""
    levels = {call.function: call.level for call in boot.table}
    assert levels["con_init" if "con_init" in levels else "hvc_console_init"] is Level.CONSOLE
    assert levels["spawn_ksoftirqd"] is Level.EARLY
    assert levels["init_elf_binfmt"] is Level.CORE
    assert levels["ext4_init_fs"] is Level.DEVICE
    assert levels["deferred_probe_initcall"] is Level.LATE
    marked: dict[str, list[str]] = {}
    current = ""
    for line in boot.log.splitlines():
        if entering := re.search(r"entering initcall level: (\w+)", line):
            current = entering[1]
        elif (call := re.search(r"\] calling  (\S+?)\+0x\S+ @ \d+$", line)) and current:
            marked.setdefault(current, []).append(call[1])
    for name, functions in marked.items():
        group = {Level(name), *([Level.ROOTFS] if name == "fs" else [])}
        assert functions == [call.function for call in boot.table if call.level in group]


def check_the_sums(boot: Boot) -> None:
    """Against sums that were made from the lines as systemd-analyze would: with no table and no pairing."""
    sums = total(boot.timeline)
    took = re.findall(r"initcall (\S+?)\+0x\S+ returned -?\d+ after (\d+) usecs$", boot.log, re.MULTILINE)
    spans = spans_of(boot.log)
    expected = sum(int(usecs) or spans[index] for index, (_, usecs) in enumerate(took))
    assert sums.calls == len(took)
    assert sums.initcalls == sum(sums.levels.values()) == expected
    started = re.search(r"\[ *([\d.]+)\] Run /init as init process", boot.log)
    assert started
    assert sums.kernel == round(float(started[1]) * 1e6)
    assert sums.initcalls + sums.outside <= sums.kernel + 5000
    assert sum(sums.outcomes.values()) == sums.calls
    failed = [
        run.function for run in boot.timeline.runs if run.outcome is Outcome.FAILED and run.kind == "initcall"
    ]
    assert failed == [
        name
        for name, result in re.findall(r"initcall (\S+?)\+0x\S+ returned (-\d+) after", boot.log)
        if int(result) not in {-19, -517}
    ]


def check_the_probes(boot: Boot, kernel: str) -> None:
    """Each line is one; what it is laid on was open all that time; no thread is named (CONFIG_PRINTK_CALLER)."""
    made = boot.timeline
    lines = re.findall(r"probe of .+ returned (-?\d+) after (\d+) usecs$", boot.log, re.MULTILINE)
    assert [(probe.result, probe.usecs) for probe in made.probes] == [
        (int(one), int(two)) for one, two in lines
    ]
    assert {probe.by for probe in made.probes} == {"time"}
    assert all(bool(probe.driver) == (kernel == "7.3") for probe in made.probes)
    laid = [(probe, made.runs[probe.run]) for probe in made.probes if probe.run is not None]
    assert laid
    for probe, call in laid:
        assert call.start <= probe.start + TICK
        assert call.end is not None
        assert probe.end <= call.end
        assert (probe.within, probe.candidates > 0) == (call.function, True)


def spans_of(log: str) -> list[int]:
    """Microseconds from each initcall's call to its return; initcalls do not nest."""
    calls = re.findall(r"\[ *([\d.]+)\] calling  \S+?\+0x\S+ @ \d+$", log, re.MULTILINE)
    returns = re.findall(
        r"\[ *([\d.]+)\] initcall \S+?\+0x\S+ returned -?\d+ after \d+ usecs$", log, re.MULTILINE
    )
    return [max(0, round((float(end) - float(start)) * 1e6)) for start, end in zip(calls, returns)]


def check_that_kallsyms_says_what_the_image_says(boot: Boot) -> None:
    """Moved by KASLR; module and line where the symbols have them."""
    live = initcalls_of_symbols(kallsyms(boot.guest))
    (moved,) = {
        (call.entry or 0) - (row.entry or 0)
        for call, row in zip(live, boot.table)
        if call.level not in FIRST_OF_TABLE
    }
    assert len(live) == len(boot.table)
    for call, row in zip(live, boot.table):
        assert (call.level, call.order, call.sync) == (row.level, row.order, row.sync)
        assert call.function in ("", row.function)
        assert (call.module, call.line) == (row.module, row.line)
        assert call.address in (None, (row.address or 0) + moved)
    assert {"selinux", "apparmor"} <= {call.module for call in live if call.level is Level.SECURITY}


def check_what_is_concluded_from_names(boot: Boot) -> None:
    """Where symbols tell the truth: about nine in ten conclusions are right, and three in four are made."""
    text = boot.guest.get(f"/lib/modules/{boot.guest.kernel.release}/modules.builtin").decode()
    names = [module_name_from_path(line) for line in text.split()]
    truth = [call for call in boot.table if call.level not in SECURITY]
    made = with_modules([call._replace(module="", module_from="") for call in truth], names)
    concluded = [(call.module, row.module) for call, row in zip(made, truth) if call.module]
    right = sum(guess == fact for guess, fact in concluded)
    assert right >= 0.85 * len(concluded)
    assert right >= 0.7 * sum(row.module in names for row in truth)


def check_where(boot: Boot, kernel: str) -> None:
    """What is built in, with its initcall as the boot called it; and one that can be loaded."""
    for name, function in (("binfmt_elf", "init_elf_binfmt"), ("ext4", "ext4_init_fs")):
        (module,) = boot.json("where", name)["modules"]
        assert "initcalls" in module["builtin_by"]
        assert (module["state"], module["path"]) == ("", "")
        (call,) = module["initcalls"]
        (row,) = [row for row in boot.table if row.function == function]
        assert (call["function"], call["level"], call["order"]) == (function, row.level.value, row.order)
        assert call["module_from"] == ("name" if kernel == "5.10" else "symbol")
    (module,) = boot.json("where", "loop")["modules"]
    assert module["path"].split(".ko")[0].endswith(f"{boot.guest.kernel.release}/kernel/drivers/block/loop")
    assert (module["state"], module["builtin_by"], module["initcalls"]) == ("", [], [])
    (module,) = boot.json("where", "kvm")["modules"]  # built-in code of x86 has its KBUILD_MODNAME
    assert not (module["path"] and module["builtin_by"])


def check_the_memory_of_what_is_loaded(boot: Boot) -> None:
    """To the byte what the file lets expect. (On arm64 the loader adds trampolines.)"""
    script = 'for size in /sys/module/*/coresize; do basename "${size%/*}"; cat "$size"; done'
    words = boot.guest.run(["sh", "-c", script]).stdout.decode().split()
    loaded = {name: int(size) for name, size in zip(words[::2], words[1::2])}
    assert "virtio_blk" in loaded
    for name, size in loaded.items():
        path = boot.guest.run(["modinfo", "-n", name]).stdout.decode().strip()
        elf = parse_module(boot.guest.get(path), name=path).elf
        memory = plan_memory(elf, release_of(boot.guest.kernel.release))
        assert (name, total_of(memory, init=False)) == (name, size)


@pytest.mark.parametrize("kernel", ["6.1"])
def test_a_running_kernel_tells_its_own_boot(boot: Boot) -> None:
    check_the_life_of_a_loaded_and_of_a_built_in_module(boot)
    check_the_timeline_of_the_running_kernel(boot)


def check_the_life_of_a_loaded_and_of_a_built_in_module(boot: Boot) -> None:
    """What their inits returned, and when, is in the messages of this boot."""
    found = boot.json("life", "virtio_blk")
    (run,) = [run for run in boot.timeline.runs if run.module == "virtio_blk" and run.kind == "module"]
    now = found["now"]
    assert (found["init"]["function"], now["state"]) == (run.function, "live")
    assert (now["init_result"], now["init_usecs"], now["init_at"]) == (0, run.usecs, run.start)
    assert now["core_size"] == sum(
        each["size"] for each in found["memory"] if not each["type"].startswith("init_")
    )
    assert found["transitions"][0]["obstacle"].startswith("its refcnt is")
    built_in = boot.json("life", "ext4")
    (ran,) = [run for run in boot.timeline.runs if run.function == "ext4_init_fs"]
    (step,) = [step for step in built_in["steps"] if step["title"] == "its initcalls are called"]
    assert step["lines"][1].split() == [
        "called", "at", f"{ran.start:.6f}", "s,", "returned", "0", "after", str(ran.usecs), "µs",
    ]  # fmt: skip


def check_the_timeline_of_the_running_kernel(boot: Boot) -> None:
    """By /dev/kmsg and /proc/kallsyms, in the guest itself: it says what its log says on the host."""
    found = boot.json("initcalls", "--timeline")
    assert found["totals"]["initcalls"] == total(boot.timeline).initcalls
    assert (found["unmatched"], found["disordered"], found["uncalled"]) == ([], [], [])
    modules = [run["module"] for run in found["runs"] if run["kind"] == "module"]
    assert "virtio_blk" in modules
    elf = boot.json("initcalls", "--module", "binfmt_elf")["initcalls"]
    assert [(call["function"], call["level"]) for call in elf] == [("init_elf_binfmt", "core")]


def test_a_boot_in_the_lab_by_one_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """5.10, whose symbols do not name modules: these are concluded by the guest's tree."""
    page = tmp_path / "boot.html"
    assert run(["initcalls", "--lab", "5.10", "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["unmatched"], found["disordered"], found["uncalled"]) == ([], [], [])
    modules = {row["function"]: row["module"] for row in found["runs"]}
    assert (modules["init_elf_binfmt"], modules["ext4_init_fs"]) == ("binfmt_elf", "ext4")
    assert found["totals"]["initcalls"] > 0
    assert page.read_text(encoding="utf-8").count("<tr class=") == len(found["runs"])


def test_a_function_that_is_left_out_at_boot() -> None:
    """initcall_blacklist= is told apart from what the boot has lost."""
    with Guest.boot("6.1", append="initcall_debug initcall_blacklist=cmos_init") as guest:
        boot = Boot(guest)
        (where,) = boot.json("where", "rtc_cmos")["modules"]
        life = boot.json("life", "rtc_cmos")
    assert (where["initcall_blacklist"], len(where["initcalls"])) == (["cmos_init"], 1)
    (step,) = [step for step in life["steps"] if step["title"] == "its initcalls are called"]
    assert "not called: initcall_blacklist=" in step["lines"][1]
    assert boot.timeline.blacklisted == ("cmos_init",)
    assert boot.timeline.uncalled == ()


def test_names_without_addresses_are_still_in_their_order() -> None:
    """Any user may ask: addresses read as zero, and the order of the lines is that of the table."""
    with Guest.clone("6.1") as guest:
        guest.run(["sysctl", "kernel.kptr_restrict=2"])
        calls = json.loads(guest.run(["lkm", "initcalls", "--json"], timeout=240).stdout)
        hidden = initcalls_of_symbols(kallsyms(guest))
    assert calls["note"].startswith("addresses are hidden")
    assert {call.address for call in hidden} == {None}
    table: list[Initcall] = hidden
    assert [(call["level"], call["function"]) for call in calls["initcalls"]] == [
        (call.level.value, call.function) for call in table
    ]
    assert ("core", "init_elf_binfmt") in {(call["level"], call["function"]) for call in calls["initcalls"]}


UNTIDY = """\
// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/preempt.h>
static int __init untidy_init(void) { preempt_disable(); local_irq_disable(); return 0; }
static void __exit untidy_exit(void) { }
module_init(untidy_init);
module_exit(untidy_exit);
MODULE_LICENSE("GPL");
"""


def test_an_init_that_leaves_things_disabled_has_the_kernels_warning(tmp_path: Path) -> None:
    """As do_one_initcall writes it, after the message that the init has returned."""
    (tmp_path / "untidy.c").write_text(UNTIDY, encoding="utf-8")
    (module,) = build_modules(str(tmp_path), "6.1")
    with Guest.boot("6.1", append="initcall_debug", share=os.path.dirname(module)) as guest:
        assert guest.run(["insmod", "untidy.ko"]).returncode == 0
        log = guest.run(["busybox", "dmesg", "-r"]).stdout.decode("utf-8", "backslashreplace")
    made = make_timeline(parse_events(parse_log(log)), ())
    (untidy,) = [run for run in made.runs if run.function == "untidy_init"]
    assert (untidy.kind, untidy.module, untidy.result) == ("module", "untidy", 0)
    assert untidy.warnings == ("preemption imbalance disabled interrupts",)
