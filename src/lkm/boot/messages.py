# SPDX-License-Identifier: MIT
"""What a boot with `initcall_debug` on the kernel's command line says, read out of its messages.

    calling  ext4_init_fs+0x0/0x2a0 @ 1                            trace_initcall_start_cb, init/main.c
    initcall ext4_init_fs+0x0/0x2a0 returned 0 after 812 usecs     trace_initcall_finish_cb
    initcall f+0x0/0x20 returned with preemption imbalance         do_one_initcall: a WARN
    initcall f blacklisted                                         initcall_blacklisted
    entering initcall level: fs                                    trace_initcall_level_cb (7.x)
    calling  5_async_f+0x0/0x80 @ 12                               async_run_entry_fn, kernel/async.c
    initcall 5_async_f+0x0/0x80 returned after 99 usecs
    probe of 0000:00:04.0 returned 0 after 28619 usecs             really_probe_debug, drivers/base/dd.c;
    probe of 00:04 with driver serial returned 0 after 5 usecs     since 6.11 with the driver
    Run /init as init process                                      run_init_process: the kernel's boot is over

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
    "Call",
    "Entering",
    "Event",
    "Message",
    "Probe",
    "Return",
    "Said",
    "last_boot",
    "parse_events",
    "parse_log",
]


class Message(NamedTuple):
    """One message of the kernel, and when, in seconds since boot."""

    time: float
    text: str


class Call(NamedTuple):
    """A function begins. `asynchronous` is the number that kernel/async.c gave it, 0 for an initcall."""

    time: float
    function: str
    module: str
    pid: int
    asynchronous: int


class Return(NamedTuple):
    """It has returned, after `usecs` by the kernel's clock. `result` is None for an asynchronous function."""

    time: float
    function: str
    module: str
    result: Optional[int]
    usecs: int
    asynchronous: int


class Probe(NamedTuple):
    """A driver has looked at a device; `driver` is "" where the kernel does not name it.

    `result`: 0 is bound and a number of either sign an errno, since 5.14; before, 1 is bound, 0 is not
    (really_probe, drivers/base/dd.c).
    """

    time: float
    device: str
    driver: str
    result: int
    usecs: int


class Entering(NamedTuple):
    """A level of initcalls begins."""

    time: float
    level: str


class Said(NamedTuple):
    """What is worth a place beside the calls: `about` is `warning` (with `function`), `blacklisted` (the same),
    `release` (`text` is it) or `init` (`text` is the program that the kernel's boot ends with)."""

    time: float
    about: str
    text: str
    function: str = ""


Event = Union[Call, Return, Probe, Entering, Said]

LONGEST = 4096
"""Characters of a message: printk's are cut at 1024 bytes, of which one may be written as four (`\\x1b`)."""
_STUB = re.compile(r"__initstub__kmod_\S+?__\d{1,9}_\d{1,9}_(?P<function>\S+?)(?:early|rootfs|con|[0-7]s?)")
_NUMBER = r"\d{1,15}"
_STAMP = re.compile(
    r"^(?:<\d+>)?(?:[a-z]+ *:[a-z]+ *: |[^\[]{1,120} kernel: )?"
    r"\[\s*(?P<time>\d{1,9}\.\d{1,9})(?: +<[ \d.]+>)?\]\s?(?:\[\s*[TC]\d+\]\s?)?(?:\S+ kernel: )?(?P<text>.*)$"
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
_LEVEL = re.compile(r"entering initcall level: (?P<level>\S+)")
_RELEASE = re.compile(r"Linux version (?P<release>\S+) ")
_INIT = re.compile(r"Run (?P<program>\S+) as init process")


def parse_log(text: str) -> list[Message]:
    """The messages of a log that have a time; other lines are left out."""
    found = []
    for line in text.splitlines():
        match = _STAMP.match(_COLOUR.sub("", line) if "\x1b" in line else line)
        if match:
            found.append(Message(float(match["time"]), match["text"]))
        elif ";" in line and line[:1].isdigit():
            try:
                record = parse_kmsg_record(line.encode())
            except KmsgError:
                continue
            found.append(Message(record.timestamp_us / 1e6, record.text))
    return found


def last_boot(messages: Sequence[Message]) -> tuple[Sequence[Message], int]:
    """The messages from the last "Linux version" on, and how many boots there are: a log may hold several."""
    starts = [place for place, message in enumerate(messages) if _RELEASE.match(message.text)]
    return (messages[starts[-1] :], len(starts)) if len(starts) > 1 else (messages, 1)


def parse_events(messages: Iterable[Message]) -> Iterator[Event]:
    """What `messages` say about initcalls and probes, in their order."""
    for time, text in messages:
        event = _event(time, text)
        if event:
            yield event


def _function(match: re.Match[str]) -> str:
    """The function of the source: with Clang's LTO each initcall is a stub, whose name is that of its variable
    (`__initcall_stub`, include/linux/init.h, 5.12)."""
    stub = _STUB.fullmatch(match["function"])
    return stub["function"] if stub else match["function"]


def _event(time: float, text: str) -> Event | None:
    if len(text) > LONGEST:
        return None
    if match := _CALL.fullmatch(text):
        return Call(
            time, _function(match), match["module"] or "", int(match["pid"]), int(match["number"] or 0)
        )
    if match := _RETURN.fullmatch(text):
        result = None if match["result"] is None else int(match["result"])
        number, usecs = int(match["number"] or 0), max(0, int(match["usecs"]))
        return Return(time, _function(match), match["module"] or "", result, usecs, number)
    if match := _PROBE.fullmatch(text):
        usecs = max(0, int(match["usecs"]))
        device, _, driver = match["who"].partition(" with driver ")
        return Probe(time, device, driver, int(match["result"]), usecs)
    if match := _LEVEL.fullmatch(text):
        return Entering(time, match["level"])
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
    return None
