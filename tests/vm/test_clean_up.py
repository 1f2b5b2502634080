# SPDX-License-Identifier: MIT
"""Clean-up calls instead of an exit function: made in order, judged afterwards, and they may die or block."""

from __future__ import annotations

from lkm.lab.vm import Guest
from tests.vm.talk import ask, prepare, untrue

DEVICE = "--call=platform_device_unregister(*left_device)"
DRIVER = "--call=platform_driver_unregister(left_driver)"


def test_calls_take_away_what_would_crash(guest: Guest) -> None:
    prepare(guest, ["dies insmod left_platform.ko", "is left_platform coming"])
    (crash,) = ask(guest, ["rescue", "left_platform", "--json"])
    assert (crash.object["outcome"], crash.code) == ("refused", 3), crash
    (dry,) = ask(guest, ["rescue", "left_platform", DEVICE, DRIVER, "--dry-run", "--json"])
    assert dry.object["outcome"] == "planned", dry
    clean_up, removal = dry.object["plan"]["steps"]
    assert (clean_up["kind"], removal["kind"]) == ("clean-up", "remove"), dry
    assert [call["function"] for call in clean_up["before"]] == [
        "platform_device_unregister", "platform_driver_unregister",
    ], dry  # fmt: skip
    assert not untrue(guest, ["is left_platform coming", "ls -d /sys/bus/platform/drivers/left-plat"])
    (done,) = ask(guest, ["rescue", "left_platform", DEVICE, DRIVER, "--json"])
    assert (done.object["outcome"], done.code) == ("rescued", 0), done
    assert done.object["plan"] == dry.object["plan"]
    wrong = untrue(
        guest,
        [
            "gone left_platform",
            'said "left-plat left-plat: unbound"',
            "[ ! -e /sys/bus/platform/drivers/left-plat ]",
            '[ "$(dmesg | grep -c Oops:)" = 1 ]',
            "insmod left_platform.ko die=0",
            "rmmod left_platform",
        ],
    )
    assert not wrong, "\n".join(wrong)


def test_its_own_exit_runs_where_that_is_asked_for(guest: Guest) -> None:
    prepare(guest, ["dies insmod left_misc.ko", "ls /dev/left-over"])
    (done,) = ask(guest, ["rescue", "left_misc", "--run-exit", "--json"])
    assert (done.object["outcome"], done.code) == ("rescued", 0), done
    wrong = untrue(
        guest, ["gone left_misc", "[ ! -e /dev/left-over ]", "insmod left_misc.ko die=0", "rmmod left_misc"]
    )
    assert not wrong, "\n".join(wrong)


def test_an_armed_timer_is_cancelled(guest: Guest) -> None:
    prepare(guest, ["dies insmod left_hrtimer.ko"])
    refused, done = ask(
        guest,
        ["rescue", "left_hrtimer", "--json"],
        ["rescue", "left_hrtimer", "--call=hrtimer_cancel(left_clock)", "--json"],
    )
    assert refused.object["outcome"] == "refused", refused
    assert done.object["outcome"] == "rescued", done
    assert not untrue(guest, ["gone left_hrtimer", "! grep -q left_hrtimer /proc/timer_list"])


def test_a_call_that_dies_takes_its_helper_with_it_and_stops_the_rescue(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    (died,) = ask(guest, ["rescue", "bug_mod1", "--call=strlen(8)", "--json"])
    assert (died.object["outcome"], died.code) == ("stopped", 1), died
    assert "strlen died" in died.object["reason"], died
    assert "was removed" in died.object["reason"], died
    assert not untrue(guest, ["is bug_mod1 coming", "! grep -q lkm_helper /proc/modules"])
    (done,) = ask(guest, ["rescue", "bug_mod1", "--json"])
    assert done.object["outcome"] == "rescued", done
    assert not untrue(guest, ["gone bug_mod1", "insmod decmod.ko"])


def test_a_call_that_blocks_is_left_to_go_on(guest: Guest) -> None:
    prepare(guest, ["dies insmod bug_mod1.ko"])
    (blocks,) = ask(guest, ["rescue", "bug_mod1", "--call=msleep(4000)", "--exit-wait=1", "--json"])
    assert (blocks.object["outcome"], blocks.code) == ("stopped", 1), blocks
    assert "msleep did not come back" in blocks.object["reason"], blocks
    assert not untrue(guest, ["is bug_mod1 coming", "within 10 eval '! grep -q lkm_helper /proc/modules'"])
    (done,) = ask(guest, ["rescue", "bug_mod1", "--json"])
    assert done.object["outcome"] == "rescued", done


UNSURE = (
    ("no_such_function(1)", 3, "not in /proc/kallsyms"),
    ("left_device(1)", 3, "no function"),
    ("platform_device_unregister(*no_such_symbol)", 3, "not in /proc/kallsyms"),
    ("modalias_show(1)", 3, "ambiguous"),
    ("provider:provided()", 3, "not in /proc/kallsyms"),
    ("printk", 2, "no call"),
    ("f(1,)", 2, "last comma"),
    ("f(1,2,3,4,5,6,7)", 2, "at most 6"),
)


def test_what_is_not_certain_is_refused(guest: Guest) -> None:
    prepare(guest, ["dies insmod left_platform.ko"])
    answers = ask(guest, *(["rescue", "left_platform", f"--call={call}", "--json"] for call, _, _ in UNSURE))
    for answer, (_, code, words) in zip(answers, UNSURE):
        assert answer.code == code, answer
        assert words in answer.stdout + answer.stderr, answer
    assert not untrue(guest, ["is left_platform coming", '[ "$(dmesg | grep -c Oops:)" = 1 ]'])
