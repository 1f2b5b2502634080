# SPDX-License-Identifier: MIT
"""What a boot with `initcall_debug` on the kernel's command line says, read out of its messages.

    calling  ext4_init_fs+0x0/0x2a0 @ 1                            trace_initcall_start_cb, init/main.c
    initcall ext4_init_fs+0x0/0x2a0 returned 0 after 812 usecs     trace_initcall_finish_cb
    initcall f+0x0/0x20 returned with preemption imbalance         do_one_initcall: a WARN
    initcall f blacklisted                                         initcall_blacklisted
    calling  5_async_f+0x0/0x80 @ 12                               async_run_entry_fn, kernel/async.c
    initcall 5_async_f+0x0/0x80 returned after 99 usecs
    probe of 0000:00:04.0 returned 0 after 28619 usecs             really_probe_debug, drivers/base/dd.c;
    probe of 00:04 with driver serial returned 0 after 5 usecs     7.3 with the driver, 7.2 without
    Run /init as init process                                      run_init_process: the kernel's boot is over
    ** 42 printk messages dropped **                               a console that was too slow (kernel/printk)

The functions are `%pS`: in a loadable module `[name]` follows. `dmesg` (also with -r, -x, -d, and colours),
`journalctl -k -o short-monotonic`, a kern.log that keeps the kernel's time and records of /dev/kmsg are read, also
where CONFIG_PRINTK_CALLER names the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional, Union

from lkm.formats.kmsg import KmsgError, parse_kmsg_record

__all__ = [
    "Call", "Event", "Message", "Probe", "Return", "Said", "last_boot", "parse_events", "parse_log", "untimed",
]  # fmt: skip


class Message(NamedTuple):
    """One message of the kernel, and when, in seconds since boot. `caller` is who said it, by CONFIG_PRINTK_CALLER:
    `T1` is the task 1, `C0` processor 0 outside of tasks; else ""."""

    time: float
    text: str
    caller: str = ""


class Call(NamedTuple):
    """A function begins. `asynchronous` is the number that kernel/async.c gave it, 0 for an initcall."""

    time: float
    function: str
    module: str
    pid: int
    asynchronous: int


class Return(NamedTuple):
    """It has returned, after `usecs` by the kernel's clock. `result` is None for an asynchronous function; `thread`
    the task that said it, None where the kernel does not tell."""

    time: float
    function: str
    module: str
    result: Optional[int]
    usecs: int
    asynchronous: int
    thread: Optional[int] = None


class Probe(NamedTuple):
    """A driver has looked at a device; `driver` is "" where the kernel does not name it, `thread` as in Return.

    `result`: 0 is bound and a number of either sign an errno, since 5.14; before, 1 is bound, 0 is not
    (really_probe, drivers/base/dd.c).
    """

    time: float
    device: str
    driver: str
    result: int
    usecs: int
    thread: Optional[int] = None


class Said(NamedTuple):
    """What is worth a place beside the calls: `about` is `warning` (with `function`), `blacklisted` (the same),
    `release` (`text` is it), `init` (`text` is the program that the kernel's boot ends with) or `dropped` (`text` is
    how many messages a console has left out)."""

    time: float
    about: str
    text: str
    function: str = ""


Event = Union[Call, Return, Probe, Said]

LONGEST = 4096
"""Characters of a message: printk's are cut at 1024 bytes, of which one may be written as four (`\\x1b`)."""
_STUB = re.compile(r"__initstub__kmod_\S+?__\d{1,9}_\d{1,9}_(?P<function>\S+?)(?:early|rootfs|con|[0-7]s?)")
_NUMBER = r"\d{1,15}"
_STAMP = re.compile(
    r"^(?:<\d+>)?(?:[a-z]+ *:[a-z]+ *: |[^\[]{1,120} kernel: )?"
    r"\[\s*(?P<time>\d{1,9}\.\d{1,9})(?: +<[ \d.]+>)?\]\s?(?:\[\s*(?P<caller>[TC]\d{1,10})\]\s?)?"
    r"(?:\S+ kernel: )?(?P<text>.*)$"
)
_COLOUR = re.compile(r"\x1b\[[\d;]{0,20}m")
_FUNCTION = (
    rf"(?:(?P<number>{_NUMBER})_)?(?P<function>[^\s+]+)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?"
    r"(?: \[(?P<module>[^\]]+)\])?"
)
_CALL = re.compile(rf"calling  {_FUNCTION} @ (?P<pid>{_NUMBER})")
_RETURN = re.compile(
    rf"initcall {_FUNCTION} returned(?: (?P<result>-?{_NUMBER}))? after (?P<usecs>-?{_NUMBER}) usecs"
)
_WARNING = re.compile(rf"initcall {_FUNCTION} returned with (?P<text>.*\S)\s*")
_BLACKLISTED = re.compile(r"initcall (?P<function>\S+) blacklisted")
_PROBE = re.compile(
    r"probe of (?P<who>.+) "
    rf"returned (?P<result>-?{_NUMBER}) after (?P<usecs>-?{_NUMBER}) usecs"
)
_RELEASE = re.compile(r"Linux version (?P<release>\S+) ")
_DROPPED = re.compile(r"\*\* (?P<count>\d{1,15}) printk messages dropped \*\*")
_OF_A_CALL = re.compile(r"calling  \S{1,500} @ \d+|initcall \S{1,500} returned .{0,40} usecs")
_FALL = 0.1
"""Seconds: by less do the clocks of two processors differ (kernel/sched/clock.c), by more those of two boots."""
_INIT = re.compile(r"Run (?P<program>\S+) as init process")


def parse_log(text: str) -> list[Message]:
    """The messages of a log that have a time; other lines are left out. What a console writes of dropped messages
    has none: it gets that of the one before."""
    found: list[Message] = []
    for line in text.splitlines():
        match = _STAMP.match(_COLOUR.sub("", line) if "\x1b" in line else line)
        if match:
            found.append(Message(float(match["time"]), match["text"], match["caller"] or ""))
        elif _DROPPED.fullmatch(line):
            found.append(Message(found[-1].time if found else 0.0, line))
        elif ";" in line and line[:1].isdigit():
            try:
                record = parse_kmsg_record(line.encode())
            except KmsgError:
                continue
            found.append(Message(record.timestamp_us / 1e6, record.text, record.caller))
    return found


def untimed(text: str) -> str:
    """The first line of a log that speaks of a call and does not have the kernel's own time; "" for none.

    `dmesg -T` and journals have the time of the day, to the second or when it was received: no durations are in that.
    """
    lines = (line for line in text.splitlines() if _OF_A_CALL.search(line[:LONGEST]))
    return next((line for line in lines if not parse_log(line)), "")


def last_boot(messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
    """The messages of the last boot, and how many boots there are: a log may hold several.

    One begins where the time falls, and at a second "Linux version".
    """
    begin, boots, named = 0, 1, False
    for place, message in enumerate(messages):
        names = bool(_RELEASE.match(message.text))
        if (place and messages[place - 1].time - message.time > _FALL) or (names and named):
            begin, boots, named = place, boots + 1, False
        named = named or names
    return messages[begin:], boots


def parse_events(messages: Iterable[Message]) -> Iterator[Event]:
    """What `messages` say about initcalls and probes, in their order."""
    for message in messages:
        event = _event(message)
        if event:
            yield event


def _function(match: re.Match[str]) -> str:
    """The function of the source: with Clang's LTO each initcall is a stub, whose name is that of its variable
    (`__initcall_stub`, include/linux/init.h, 5.12)."""
    stub = _STUB.fullmatch(match["function"])
    return stub["function"] if stub else match["function"]


def _event(message: Message) -> Event | None:
    time, text, caller = message
    if len(text) > LONGEST:
        return None
    thread = int(caller[1:]) if caller[:1] == "T" and caller[1:].isdecimal() else None
    if match := _CALL.fullmatch(text):
        return Call(
            time, _function(match), match["module"] or "", int(match["pid"]), int(match["number"] or 0)
        )
    if match := _RETURN.fullmatch(text):
        result = None if match["result"] is None else int(match["result"])
        number, usecs = int(match["number"] or 0), max(0, int(match["usecs"]))
        return Return(time, _function(match), match["module"] or "", result, usecs, number, thread)
    if match := _PROBE.fullmatch(text):
        usecs = max(0, int(match["usecs"]))
        device, _, driver = match["who"].partition(" with driver ")
        return Probe(time, device, driver, int(match["result"]), usecs, thread)
    return _said(time, text)


def _said(time: float, text: str) -> Said | None:
    if match := _WARNING.fullmatch(text):
        return Said(time, "warning", match["text"], _function(match))
    if match := _BLACKLISTED.fullmatch(text):
        return Said(time, "blacklisted", text, match["function"])
    if match := _RELEASE.match(text):
        return Said(time, "release", match["release"])
    if match := _INIT.fullmatch(text):
        return Said(time, "init", match["program"])
    if match := _DROPPED.fullmatch(text):
        return Said(time, "dropped", match["count"])
    return None
