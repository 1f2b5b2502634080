# SPDX-License-Identifier: MIT
"""A boot's messages become a timeline: each call with its row of the table, what went wrong, sums, a picture."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import pytest

from lkm.boot.compare import compare
from lkm.boot.initcall import Initcall, Level
from lkm.boot.messages import Call, Message, Return, last_boot, parse_events, parse_log, untimed
from lkm.boot.page import render_html
from lkm.boot.picture import milliseconds, render_svg
from lkm.boot.timeline import Outcome, Run, Timeline, make_timeline, total
from tests.boots import LOG, TABLE


def timeline_of(log: str = LOG, table: tuple[Initcall, ...] = TABLE) -> Timeline:
    return make_timeline(parse_events(parse_log(log)), table)


def run_of(timeline: Timeline, function: str, number: int = 0) -> Run:
    return [run for run in timeline.runs if run.function == function][number]


def test_each_call_has_its_row_of_the_table() -> None:
    made = timeline_of()
    found = [run.initcall.order for run in made.runs if run.initcall]
    assert found == [1, 1, 2, 3, 4, 5, 6, 7]
    assert (made.unmatched, made.disordered, made.uncalled) == ((), (), ())
    assert made.blacklisted == ("left_out",)
    assert (made.release, made.init, made.init_at) == ("7.3.4-test", "/init", 1.0)


def test_of_two_functions_of_one_name_each_has_its_own_row() -> None:
    made = timeline_of()
    assert [run_of(made, "xenbus_init", number).module for number in (0, 1)] == [
        "xenbus", "xenbus_dev_frontend",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "number", "outcome", "usecs"),
    [
        ("acpi_init", 0, Outcome.OK, 332000),
        ("init_real_mode", 0, Outcome.OK, 4000),  # its clock stood still: by the messages' own
        ("xenbus_init", 0, Outcome.ABSENT, 12),
        ("xenbus_init", 1, Outcome.DEFERRED, 8),
        ("esrt_sysfs_init", 0, Outcome.FAILED, 19),
    ],
)
def test_what_became_of_a_call(function: str, number: int, outcome: Outcome, usecs: int) -> None:
    run = run_of(timeline_of(), function, number)
    assert (run.outcome, run.usecs) == (outcome, usecs)


def test_a_warning_belongs_to_its_function() -> None:
    made = timeline_of()
    assert run_of(made, "late_device").warnings == ("preemption imbalance disabled interrupts",)
    assert [run.function for run in made.runs if run.warnings] == ["late_device"]


def test_what_is_no_initcall_is_told_apart() -> None:
    made = timeline_of()
    assert {run.kind for run in made.runs} == {"initcall", "module", "async"}
    module = run_of(made, "virtio_blk_init")
    assert (module.kind, module.module, module.initcall) == ("module", "virtio_blk", None)
    later = run_of(made, "probe_later")
    assert (later.kind, later.pid, later.usecs, later.result) == ("async", 77, 239000, None)


def test_probes_are_within_their_initcall() -> None:
    serial, other = timeline_of().probes
    assert (serial.device, serial.driver, serial.within) == ("00:02", "serial", "serial8250_init")
    assert serial.start == pytest.approx(0.700764)
    assert (serial.outcome, other.outcome) == (Outcome.OK, Outcome.DEFERRED)


def test_up_to_5_13_a_probe_that_binds_returns_1() -> None:
    log = """\
[    1.970066] probe of 00:04 returned 1 after 4805 usecs
[    3.372532] probe of PNP0103:00 returned 0 after 886 usecs
[    3.489730] probe of 00:05 returned -517 after 21 usecs
"""
    assert [probe.outcome for probe in timeline_of(log).probes] == [
        Outcome.OK, Outcome.ABSENT, Outcome.DEFERRED,
    ]  # fmt: skip


def test_a_boot_that_hangs_names_what_it_hangs_in() -> None:
    made = timeline_of(LOG[: LOG.index("<7>[    0.948764]")])
    assert [run.function for run in made.runs if run.outcome is Outcome.UNFINISHED] == [
        "serial8250_init", "probe_later",
    ]  # fmt: skip
    assert "did not return" in render_svg(made)


def test_what_the_table_does_not_have_and_what_did_not_run() -> None:
    made = timeline_of(table=(*TABLE[:4], *TABLE[5:], Initcall(Level.LATE, 9, "never")))
    assert made.unmatched == ("xenbus_init",)
    assert made.uncalled == ("never",)


def test_calls_out_of_order_are_told() -> None:
    swapped = (TABLE[0], TABLE[3], TABLE[2], *TABLE[4:])
    assert timeline_of(table=swapped).disordered == ("acpi_init",)


def test_without_a_table_there_are_no_levels() -> None:
    made = timeline_of(table=())
    assert made.unmatched == made.uncalled == ()
    assert total(made).levels == {"": total(made).initcalls}


def test_the_sums() -> None:
    sums = total(timeline_of())
    assert sums.calls == 8
    assert sums.initcalls == 1000 + 4000 + 332000 + 12 + 249900 + 8 + 500 + 19
    assert sums.levels["device"] == 249900 + 8 + 500
    assert sums.modules["8250"] == 249900
    assert sums.outside == 880030 - (sums.initcalls - 1000)
    assert (sums.kernel, sums.probes, sums.probe_usecs) == (1000000, 2, 248010)
    assert sums.outcomes == {"ok": 5, "no-device": 1, "deferred": 1, "failed": 1}


FORMS = {
    "dmesg -x": "kern  :debug : [    1.000000] calling  f+0x0/0x10 @ 1",
    "dmesg -d": "[    1.000000 <    0.000010>] calling  f+0x0/0x10 @ 1",
    "dmesg -L": "\x1b[32m[    1.000000] \x1b[0mcalling  f+0x0/0x10 @ 1",
    "kern.log": "Nov 22 10:00:00 host kernel: [    1.000000] calling  f+0x0/0x10 @ 1",
    "kern.log, RFC 3339": "2026-11-22T10:00:00.123456+00:00 host kernel: [    1.000000] calling  f+0x0/0x10 @ 1",
    "dmesg": "[    1.000000] calling  f+0x0/0x10 @ 1",
    "dmesg with callers": "[    1.000000][    T1] calling  f+0x0/0x10 @ 1",
    "raw": "<7>[    1.000000] calling  f+0x0/0x10 @ 1",
    "journal": "[    1.000000] host kernel: calling  f+0x0/0x10 @ 1",
    "kmsg": "7,12,1000000,-;calling  f+0x0/0x10 @ 1",
    "a stub of LTO": "[    1.000000] calling  f @ 1",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_log_in_each_form(form: str) -> None:
    (run,) = timeline_of(f"noise\n{FORMS[form]}\n;\n7;\n").runs
    assert (run.function, run.start, run.pid) == ("f", 1.0, 1)


def test_a_comparison_has_the_greatest_change_first() -> None:
    later = LOG.replace("332000 usecs", "32000 usecs").replace("-38 after 19", "0 after 19")
    later = later.replace("serial8250_init+0x0/0x1f0", "serial_other_init+0x0/0x1f0")
    rows = compare(timeline_of(), timeline_of(later))
    assert [(row.function, row.change) for row in rows[:3]] == [
        ("acpi_init", -300000),
        ("serial8250_init", -249900),
        ("serial_other_init", 249900),
    ]
    assert (rows[1].after, rows[2].before) == (None, None)
    assert [(row.new, row.gone) for row in rows[:3]] == [(False, False), (False, True), (True, False)]
    (esrt,) = [row for row in rows if row.function == "esrt_sysfs_init"]
    assert (esrt.result_before, esrt.result_after) == (-38, 0)


def test_a_call_that_never_returned_is_neither_new_nor_gone() -> None:
    cut = "".join(line for line in LOG.splitlines(keepends=True) if "initcall acpi_init" not in line)
    for rows in (compare(timeline_of(), timeline_of(cut)), compare(timeline_of(cut), timeline_of())):
        (row,) = [row for row in rows if row.function == "acpi_init"]
        assert (row.new, row.gone, row.before is None or row.after is None) == (False, False, True)


def test_the_picture_shows_the_longest_and_all_that_failed() -> None:
    svg = ElementTree.fromstring(render_svg(timeline_of(), count=2))
    bars = [each for each in svg.iter("{http://www.w3.org/2000/svg}rect") if "run" in each.get("class", "")]
    assert {each.get("class") for each in bars} == {
        "run ok", "run failed", "run deferred",
    }  # fmt: skip
    assert len(bars) == 5  # the two longest, the failed, the deferred, the one with a warning
    words = "".join(svg.itertext())
    assert "virtio_blk_init [virtio_blk]  400 ms" in words
    assert "acpi_init [acpi]  332 ms" in words
    assert "serial8250_init" not in words
    assert "probe of 00:02 by serial: 248 ms, ok" in render_svg(timeline_of(), count=3)


def test_bars_lie_where_their_times_are() -> None:
    svg = ElementTree.fromstring(render_svg(timeline_of(), count=99))
    bars = {
        title.text.split()[0]: bar
        for bar in svg.iter("{http://www.w3.org/2000/svg}rect")
        if (title := bar.find("{http://www.w3.org/2000/svg}title")) is not None and title.text
    }
    pixels = (1200 - 40) / 1.9  # from 0 s to the last return
    bar = bars["serial8250_init"]
    assert float(bar.get("x", 0)) == pytest.approx(20 + 0.7 * pixels, abs=0.01)
    assert float(bar.get("width", 0)) == pytest.approx(0.25 * pixels, abs=0.01)


def test_a_name_from_a_log_is_only_text() -> None:
    log = LOG.replace("acpi_init", "<script>alert(1)</script>&\x1b[31m")
    page = render_html(timeline_of(log))
    assert "<script>alert" not in page
    assert "\x1b" not in page + render_svg(timeline_of(log))
    ElementTree.fromstring(render_svg(timeline_of(log)))


def test_the_page_has_every_call_and_fetches_nothing() -> None:
    page = render_html(timeline_of())
    assert page.count("<tr class=") == len(timeline_of().runs)
    assert re.findall(r"(?:src|href)=|url\(|@import", page) == []
    assert set(re.findall(r"https?://[^\"]*", page)) <= {"http://www.w3.org/2000/svg"}


def test_an_empty_timeline_is_still_a_picture() -> None:
    assert ElementTree.fromstring(render_svg(timeline_of("")))[0].text == "kernel: 0 initcalls, 0 ms"


def test_three_digits_count() -> None:
    assert [milliseconds(usecs) for usecs in (0, 42, 12345, 1234567)] == [
        "0 ms", "0.042 ms", "12.3 ms", "1235 ms",
    ]  # fmt: skip


@pytest.mark.parametrize("stamp", [10**400, 10**23, 10**20, -1])
def test_a_record_of_no_possible_time_is_none(stamp: int) -> None:
    assert parse_log(f"6,1,{stamp},-;calling  f+0x0/0x1 @ 1") == []


@pytest.mark.parametrize("times", [(0.0, 0.0), (0.0, 1e-6), (9.2e12, 9.2e12 + 0.02), (5e12, 5e12)])
def test_the_axis_has_an_end_at_any_time(times: tuple[float, float]) -> None:
    call = Call(times[0], "f", "", 1, 0)
    made = make_timeline([call, Return(times[1], "f", "", 0, 0, 0)], ())
    assert render_svg(made).count("<line ") <= 16


def test_a_probe_of_a_log_is_only_text() -> None:
    log = LOG.replace("probe of 00:02", "probe of 00:\x01\x1b2")
    assert timeline_of(log).probes[0].device == "00:\x01\x1b2"
    ElementTree.fromstring(render_svg(timeline_of(log)))


PROBES = """\
[    0.1] probe of a returned 0 after 5 usecs
[    0.2] probe of b returned 1 after 5 usecs
[    0.3] probe of c returned 6 after 5 usecs
[    0.4] probe of d returned 19 after 5 usecs
"""


@pytest.mark.parametrize(
    "head", ["", "[    0.0] Linux version 5.14.0 (x)\n", "[    0.0] Linux version 6.12.0 (x)\n"]
)
def test_since_5_14_a_probe_returns_a_positive_errno(head: str) -> None:
    assert [probe.outcome for probe in timeline_of(head + PROBES).probes] == [
        Outcome.OK, Outcome.FAILED, Outcome.ABSENT, Outcome.ABSENT,
    ]  # fmt: skip


def test_the_release_decides_and_not_the_results() -> None:
    log = "[    0.0] Linux version 6.12.0 (x)\n" + PROBES[: PROBES.index("[    0.3]")]
    assert [probe.outcome for probe in timeline_of(log).probes] == [Outcome.OK, Outcome.FAILED]
    log = log.replace("6.12.0", "5.10.0")
    assert [probe.outcome for probe in timeline_of(log).probes] == [Outcome.ABSENT, Outcome.OK]


def test_a_probe_is_within_what_it_began_in() -> None:
    """Not an asynchronous one that only ends there; one of a module's init is within that."""
    made = timeline_of("""\
[    3.900000] calling  b_init+0x0/0x1 @ 1
[    4.000000] probe of 0:0:0:0 with driver sd returned 0 after 3000000 usecs
[    4.100000] initcall b_init+0x0/0x1 returned 0 after 200000 usecs
[    4.900000] calling  b_init+0x0/0x1 @ 1
[    5.000000] calling  e1000_init_module+0x0/0x1 [e1000] @ 200
[    6.0] probe of 0000:00:03.0 with driver e1000 returned 0 after 900000 usecs
[    6.1] initcall e1000_init_module+0x0/0x1 [e1000] returned 0 after 1100000 usecs
[    7.0] probe of late returned 0 after 5 usecs
""")
    assert [(probe.within, probe.run) for probe in made.probes] == [
        ("", None), ("e1000_init_module", 2), ("", None),
    ]  # fmt: skip
    assert render_svg(made).count('class="probe"') == 1


def test_with_lto_a_stub_is_called() -> None:
    stub = "__initstub__kmod_acpi__1_2_acpi_init4"
    made = timeline_of(LOG.replace("acpi_init+", f"{stub}+"))
    assert made == timeline_of()


@pytest.mark.parametrize(
    "text",
    [
        "initcall f returned with " + " " * 200_000,
        "probe of " + "a returned 0 with driver " * 8_000,
        "probe of " + "a with driver " * 200,
    ],
)
def test_a_long_line_takes_no_long_time(text: str) -> None:
    started = time.process_time()
    assert timeline_of(f"[    0.1] {text}\n" * 10).probes == ()
    assert time.process_time() - started < 1


def test_many_calls_of_one_name_are_compared_in_no_long_time() -> None:
    made = timeline_of("[    0.1] calling  f @ 1\n" * 20_000)
    started = time.process_time()
    assert len(compare(made, made)) == 20_000
    assert time.process_time() - started < 2


def test_a_call_whose_begin_is_lost_is_known_by_its_end() -> None:
    made = timeline_of(LOG.replace("<7>[    0.200000] calling  acpi_init+0x0/0x5a0 @ 1\n", ""))
    run = run_of(made, "acpi_init")
    assert run.start == pytest.approx(0.2)
    assert (run.usecs, run.pid) == (332000, 0)
    assert run.initcall == TABLE[3]
    assert (made.uncalled, made.disordered) == ((), ())


THREADS = """\
[    1.000000][    T1] calling  driver_init+0x0/0x1 @ 1
[    1.050000][   T77] calling  4___driver_attach_async_helper+0x0/0x1 @ 77
[    1.100000][   T88] probe of deferred with driver worker returned 0 after 10000 usecs
[    1.200000][   T77] probe of slow with driver disk returned 0 after 100000 usecs
[    1.300000][    T1] probe of near with driver disk returned 0 after 900000 usecs
[    1.400000][   T77] initcall 4___driver_attach_async_helper+0x0/0x1 returned after 340000 usecs
[    1.500000][    T1] initcall driver_init+0x0/0x1 returned 0 after 500000 usecs
[    1.600000][   T77] probe of later with driver disk returned 0 after 5 usecs
"""


def where_probed(log: str) -> dict[str, tuple[str, str, int]]:
    return {probe.device: (probe.within, probe.by, probe.candidates) for probe in timeline_of(log).probes}


def test_a_probe_is_of_the_call_that_its_thread_is_in() -> None:
    """CONFIG_PRINTK_CALLER names the thread: whatever else is open, and whatever the clocks say."""
    assert where_probed(THREADS) == {
        "deferred": ("", "thread", 0),
        "slow": ("__driver_attach_async_helper", "thread", 1),
        "near": ("driver_init", "thread", 1),
        "later": ("", "thread", 0),
    }


def test_without_threads_a_probe_is_laid_by_its_time_and_doubt_is_told() -> None:
    log = re.sub(r"\[ +T\d+\]", "", THREADS)
    assert where_probed(log) == {
        "deferred": ("__driver_attach_async_helper", "time", 2),
        "slow": ("__driver_attach_async_helper", "time", 2),
        "near": ("", "time", 0),
        "later": ("", "time", 0),
    }
    assert "by time alone, 2 calls were open" in render_svg(timeline_of(log))
    assert "by time alone" not in render_svg(timeline_of(THREADS))


def test_an_asynchronous_function_of_a_module_ends_as_well() -> None:
    made = timeline_of("""\
[    1.0] calling  7_scan+0x0/0x1 [usb] @ 5
[    1.1] initcall 7_scan+0x0/0x1 [usb] returned after 100000 usecs
""")
    assert [(run.kind, run.module, run.outcome) for run in made.runs] == [("async", "usb", Outcome.OK)]


def test_an_asynchronous_function_that_probes_nothing_is_no_candidate() -> None:
    assert where_probed(LOG)["00:02"] == ("serial8250_init", "time", 1)


def test_a_clock_that_ticks_does_not_move_a_probe_out_of_its_call() -> None:
    log = """\
[    0.100000] calling  early_driver_init+0x0/0x1 @ 1
[    0.101000] probe of ticking returned 0 after 4000 usecs
[    0.101500] probe of precise returned 0 after 4001 usecs
[    0.102000] initcall early_driver_init+0x0/0x1 returned 0 after 4000 usecs
"""
    assert where_probed(log) == {"ticking": ("early_driver_init", "time", 1), "precise": ("", "time", 0)}


def test_records_of_kmsg_name_the_caller_as_well() -> None:
    log = "7,1,1000,-,caller=T9;calling  f+0x0/0x1 @ 9\n7,2,3000,-,caller=C1;x\n7,3,3000,-;y\n"
    assert [message.caller for message in parse_log(log)] == ["T9", "C1", ""]


LOST = """\
[    0.100000] calling  first_init+0x0/0x1 @ 1
** 42 printk messages dropped **
[    0.300000][    T1] initcall second_init+0x0/0x1 returned 0 after 50000 usecs
** 1 printk messages dropped **
[    0.400000] calling  third_init+0x0/0x1 @ 1
[    0.500000] calling  one_init+0x0/0x1 [one] @ 200
[    0.600000] calling  two_init+0x0/0x1 [two] @ 200
[    0.700000] Run /init as init process
[    0.800000] calling  three_init+0x0/0x1 [three] @ 201
"""


def test_what_the_console_dropped_is_counted_and_its_calls_are_told() -> None:
    """A thread that goes on has returned from what it called: only the message is lost."""
    made = timeline_of(LOST)
    assert made.dropped == 43
    assert {run.function: run.outcome.value for run in made.runs} == {
        "first_init": "lost", "second_init": "ok", "third_init": "lost", "one_init": "lost",
        "two_init": "unfinished", "three_init": "unfinished",
    }  # fmt: skip
    assert [(run.function, run.pid) for run in made.runs if not run.called] == [("second_init", 1)]
    assert run_of(made, "first_init").end is None


def test_a_lost_return_takes_no_probe_that_comes_later() -> None:
    later = (
        "[    0.65] probe of d returned 0 after 5 usecs\n"
        "[    0.66] initcall two_init+0x0/0x1 [two] returned 0 after 5 usecs"
    )
    log = LOST.replace("[    0.700000]", f"{later}\n[    0.700000]")
    assert where_probed(log)["d"][0] == "two_init"
    log += "[    0.9][    T1] probe of e returned 0 after 5 usecs\n"
    assert where_probed(log)["e"] == ("", "thread", 0)


def test_a_lost_return_is_drawn_where_it_began_and_no_longer() -> None:
    svg = ElementTree.fromstring(render_svg(timeline_of(LOST)))
    bars = [each for each in svg.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") == "run lost"]
    assert [float(bar.get("width", 0)) for bar in bars] == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    "line",
    [
        "[Sun Nov 22 09:59:30 2026] calling  f+0x0/0x10 @ 1",
        "[Sun Nov  2 09:59:30 2026] initcall f+0x0/0x10 returned 0 after 5 usecs",
        "2026-11-22T09:59:30,123456+00:00 calling  f+0x0/0x10 @ 1",
        "2026-11-22T09:59:30.123456+00:00 host kernel: calling  f+0x0/0x10 @ 1",
        "Nov 22 09:59:30 host kernel: calling  f+0x0/0x10 @ 1",
        "[  +0.000010] calling  f+0x0/0x10 @ 1",
        "[<    0.000010>] calling  f+0x0/0x10 @ 1",
        "<7>calling  f+0x0/0x10 @ 1",
        "calling  f+0x0/0x10 @ 1",
    ],
)
def test_messages_without_the_kernels_own_time_are_known_as_such(line: str) -> None:
    assert parse_log(line) == []
    assert untimed(f"noise\n{line}\n") == line
    assert untimed("calling all cars\n") == ""


def messages(*times: float) -> list[Message]:
    return [Message(time, "Linux version 6.1.0 (x)" if time == 0 else "text") for time in times]


@pytest.mark.parametrize(
    ("times", "count", "first"),
    [
        ((0, 1, 2, 0, 1), 2, 0),
        ((5, 6, 0.5, 1), 2, 0.5),  # neither boot has its first message
        ((5, 6, 0.001, 0, 1), 2, 0.001),  # arm64 says on which processor it boots before its version
        ((0, 1, 0.99, 2), 1, 0),  # processors' clocks differ
        ((0, 0, 1), 2, 0),
        ((), 1, None),
    ],
)
def test_a_boot_begins_where_the_time_falls(
    times: tuple[float, ...], count: int, first: float | None
) -> None:
    last, boots = last_boot(messages(*times))
    assert (boots, last[0].time if last else None) == (count, first)


def test_probes_of_two_boots_are_compared() -> None:
    later = LOG.replace("after 248000 usecs", "after 1000 usecs").replace("probe of 00:03", "probe of 00:04")
    rows = {row.function: row for row in compare(timeline_of(), timeline_of(later)) if row.kind == "probe"}
    assert (rows["00:02"].change, rows["00:02"].module, rows["00:02"].level) == (-247000, "serial", "")
    assert (rows["00:03"].after, rows["00:04"].before) == (None, None)


def test_probes_are_compared_with_those_of_a_kernel_that_names_no_drivers() -> None:
    rows = compare(
        timeline_of(LOG.replace(" with driver serial", "").replace(" with driver other", "")), timeline_of()
    )
    assert {row.change for row in rows} == {0}
