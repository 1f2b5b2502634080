# SPDX-License-Identifier: MIT
"""`lkm initcalls --timeline`: when each initcall ran, what it took and returned; as text, JSON, SVG, HTML."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from lkm.boot.compare import Difference, compare
from lkm.boot.initcall import Initcall
from lkm.boot.messages import Call, Message, Return, last_boot, parse_events, parse_log, untimed
from lkm.boot.source import read_initcalls
from lkm.boot.timeline import Outcome, Run, Timeline, make_timeline, total
from lkm.cli.boot_source import root_of, source_of
from lkm.cli.chosen_kernel import running_release
from lkm.cli.files import read_named_bytes
from lkm.cli.render import plain, styled, table, wants_colour
from lkm.errors import LkmError, UsageError
from lkm.root import Root

__all__ = ["configure", "is_wanted", "run"]

SCHEMA = "lkm.timeline/1"
DMESG = "dmesg"
MOST_NAMES = 12
REMEDY = "boot with initcall_debug log_buf_len=16M, then dmesg > FILE"
REMEDY_OF_TIME = (
    "dmesg > FILE without -T, -t, -e and --time-format, or journalctl -k -o short-monotonic > FILE"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `--timeline`."""
    group = parser.add_argument_group("timeline")
    group.add_argument(
        "--timeline",
        nargs="?",
        const=DMESG,
        metavar="FILE",
        help="when each ran, by the messages of a boot with initcall_debug: a file, - for standard input, or dmesg",
    )
    group.add_argument("--lab", metavar="KERNEL", help="the timeline of a boot in the lab")
    group.add_argument("--compare", metavar="FILE", help="the messages of an earlier boot: what has changed")
    group.add_argument("--svg", metavar="FILE", help="write a picture")
    group.add_argument("--html", metavar="FILE", help="write a page: the picture and all calls")
    group.add_argument(
        "--top",
        type=_count,
        metavar="N",
        help="show the N longest (20, in a picture 60; 0: all, in their order)",
    )


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether the timeline is asked for. UsageError for what only goes with it."""
    wanted = arguments.timeline is not None or bool(arguments.lab)
    for name in ("module", "level", "function") if wanted else ("compare", "svg", "html", "top"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} {'does not go' if wanted else 'goes'} with --timeline or --lab")
    if arguments.lab:
        given = {
            "timeline": arguments.timeline is not None,
            "image": bool(arguments.image),
            "kernel": bool(arguments.kernel),
            "root": arguments.root != "/",
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise UsageError(f"--{name} does not go with --lab, which boots a kernel of its own")
    return wanted


def run(arguments: argparse.Namespace) -> int:
    """Print a boot's timeline, write its pictures. 1: a call did not return, or is not in the table."""
    from lkm.boot.page import render_html
    from lkm.boot.picture import render_svg

    if arguments.lab:
        made, note = _of_lab(arguments.lab)
    else:
        messages = _messages(arguments.timeline, arguments)
        made, note = _of_messages(messages, arguments, running=arguments.timeline == DMESG)
    if not made.runs:
        raise LkmError("no initcall in these messages", remedy=REMEDY)
    if note:
        print(f"lkm: {note}", file=sys.stderr)
    top = 20 if arguments.top is None else arguments.top
    drawn = len(made.runs) if top == 0 else arguments.top or 60
    if arguments.svg:
        _write(arguments.svg, render_svg(made, count=drawn))
    if arguments.html:
        _write(arguments.html, render_html(made, count=drawn))
    earlier = None
    if arguments.compare:
        earlier = compare(_of_earlier_boot(arguments), made)
    if arguments.json:
        import json

        print(json.dumps(as_json(made, note, earlier), indent=1))
    elif earlier is not None:
        print("\n".join(_render_comparison(earlier, top)))
    else:
        print("\n".join(_render(made, top, colour=wants_colour(sys.stdout))))
    return 1 if made.unmatched or any(run.outcome is Outcome.UNFINISHED for run in made.runs) else 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _of_earlier_boot(arguments: argparse.Namespace) -> Timeline:
    """By its own kernel's table: --image and --kernel are of the boot that it is compared with."""
    own = argparse.Namespace(**{**vars(arguments), "image": "", "kernel": ""})
    made, note = _of_messages(_read(arguments.compare), own, running=False)
    if not made.runs:
        raise LkmError(f"no initcall in {arguments.compare}", remedy=REMEDY)
    if note:
        print(f"lkm: {arguments.compare}: {note}", file=sys.stderr)
    return made


def _of_messages(
    messages: Sequence[Message], arguments: argparse.Namespace, *, running: bool
) -> tuple[Timeline, str]:
    """The timeline of `messages`, with the table of their kernel where that can be read; `running`: they are of
    the kernel that runs, also where they do not say so."""
    messages, boots = last_boot(messages)
    made, note = _of_boot(messages, arguments, running=running)
    several = f"of {boots} boots in these messages, the last" if boots > 1 else ""
    return made, "; ".join(each for each in (several, note) if each)


def _of_boot(
    messages: Sequence[Message], arguments: argparse.Namespace, *, running: bool
) -> tuple[Timeline, str]:
    bare = make_timeline(parse_events(messages), ())
    if not (bare.release or running or arguments.image or arguments.kernel):
        return (
            bare,
            "calls have no levels: the messages do not say of which kernel they are (--kernel, --image)",
        )
    known, note = _table_for(bare.release, arguments)
    return make_timeline(parse_events(messages), known), note


def _table_for(release: str, arguments: argparse.Namespace) -> tuple[Sequence[Initcall], str]:
    try:
        if release and not arguments.image and not arguments.kernel:
            here = release == running_release(arguments.root)
            found = read_initcalls(Root(arguments.root, release), running=here)
        else:
            found = source_of(arguments)
    except LkmError as error:
        return (), f"calls have no levels: {error}"
    return found.initcalls, ""


def _of_lab(kernel: str) -> tuple[Timeline, str]:
    """Boots a guest with initcall_debug; the table is that of the image it booted from, modules that of its tree."""
    import tempfile

    from lkm.boot.source import read_image_initcalls
    from lkm.lab.vm import Guest
    from lkm.root import Root

    booted = Guest.boot(kernel, append="initcall_debug", progress=_progress)
    with tempfile.TemporaryDirectory(prefix="lkm-timeline-") as top, booted as guest:
        text = guest.run(["busybox", "dmesg", "-r"]).stdout.decode("utf-8", "backslashreplace")
        root = Root(top, guest.kernel.release)
        os.makedirs(root.modules_dir)
        for name in ("modules.builtin", "modules.builtin.modinfo"):
            with open(os.path.join(root.modules_dir, name), "wb") as stream:
                stream.write(guest.get(f"/lib/modules/{root.release}/{name}"))
        found = read_image_initcalls(root, guest.kernel.file("vmlinuz"))
    return make_timeline(parse_events(parse_log(text)), found.initcalls), ""


def _progress(line: str) -> None:
    print(f"lab: {line}", file=sys.stderr, flush=True)


def _messages(source: str, arguments: argparse.Namespace) -> Sequence[Message]:
    if source != DMESG:
        return _read(source)
    from lkm.system.kmsg import read_all

    lines, note = read_all(root_of(arguments))
    if note:
        print(f"lkm: {note}", file=sys.stderr)
    return [Message(line.timestamp, line.text, line.caller) for line in lines]


def _read(path: str) -> Sequence[Message]:
    """LkmError where the lines that count have a time, and it is not the kernel's."""
    data = sys.stdin.buffer.read() if path == "-" else read_named_bytes(path, remedy=REMEDY)
    text = data.decode("utf-8", "backslashreplace")
    messages = parse_log(text)
    if not any(isinstance(event, (Call, Return)) for event in parse_events(messages)) and (
        line := untimed(text)
    ):
        raise LkmError(
            f"{path}: these messages have not the kernel's own time: {line[:120]}", remedy=REMEDY_OF_TIME
        )
    return messages


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise LkmError(f"{path} cannot be written: {error.strerror}") from error


def as_json(made: Timeline, note: str, earlier: Sequence[Difference] | None) -> dict[str, Any]:
    """The timeline as the JSON contract has it."""
    from lkm.values import encode

    return {
        "schema": SCHEMA,
        "note": note,
        "totals": encode(total(made)),
        **encode(made),
        "comparison": None if earlier is None else [{**encode(row), "change": row.change} for row in earlier],
    }


def _render(made: Timeline, top: int, *, colour: bool) -> list[str]:
    runs: Sequence[Run] = made.runs
    if top:
        runs = sorted(made.runs, key=lambda run: -(run.usecs or 0))[:top]
    rows = [
        (
            f"{run.start:.6f}",
            _milliseconds(run.usecs),
            run.initcall.level_text if run.initcall else run.kind,
            run.function,
            run.module or "-",
            "-" if run.result is None else str(run.result),
            ", ".join([*([run.outcome.value] if run.outcome is not Outcome.OK else []), *run.warnings]),
        )
        for run in runs
    ]
    header = ("At (s)", "Took (ms)", "Level", "Function", "Module", "Returned", "")
    head, *lines = table(rows, header=header, right=(0, 1, 5))
    return [styled(head, "bold", colour=colour), *lines, "", *_render_totals(made), *_render_troubles(made)]


def _milliseconds(usecs: int | None) -> str:
    return "-" if usecs is None else f"{usecs / 1000:.3f}"


def _render_totals(made: Timeline) -> list[str]:
    sums = total(made)
    lines = [f"{sums.calls} initcalls took {_milliseconds(sums.initcalls)} ms"]
    lines[0] += f"; between them {_milliseconds(sums.outside)} ms"
    if sums.kernel is not None:
        lines[0] += f"; {made.init} started at {_milliseconds(sums.kernel)} ms"
    outcomes = ", ".join(f"{count} {name}" for name, count in sums.outcomes.items())
    lines.append(f"outcomes: {outcomes}")
    levels = ", ".join(f"{name} {_milliseconds(usecs)}" for name, usecs in sums.levels.items() if name)
    if levels:
        lines.append(f"levels (ms): {levels}")
    if made.probes:
        longest = max(made.probes, key=lambda probe: probe.usecs)
        lines.append(
            f"{sums.probes} probes took {_milliseconds(sums.probe_usecs)} ms; "
            f"the longest, of {plain(longest.device)}, {_milliseconds(longest.usecs)} ms"
        )
        lines += _render_doubt(made)
    return lines


def _render_doubt(made: Timeline) -> list[str]:
    """Which call a probe is of is certain only where the kernel names the threads of its messages."""
    laid = [probe for probe in made.probes if probe.by == "time" and probe.run is not None]
    if not laid:
        return []
    several = sum(1 for probe in laid if probe.candidates > 1)
    doubt = f"; of {several} several calls were open" if several else ""
    count = "1 probe is" if len(laid) == 1 else f"{len(laid)} probes are"
    why = "this kernel does not name threads (CONFIG_PRINTK_CALLER)"
    return [f"{count} laid on a call by time alone: {why}{doubt}"]


def _render_troubles(made: Timeline) -> list[str]:
    """What went wrong, whatever `--top` shows."""
    lines = []
    for run in made.runs:
        text = ", ".join(run.warnings)
        if run.outcome in {Outcome.FAILED, Outcome.DEFERRED}:
            lines.append(f"{run.outcome.value}: {run.function} returned {run.result}{text and ', ' + text}")
        elif run.outcome is Outcome.UNFINISHED:
            doubt = ", or the message is among the dropped" if made.dropped else ""
            lines.append(f"did not return: {run.function}, called at {run.start:.6f}{doubt}")
        elif text:
            lines.append(f"warning: {run.function} returned with {text}")
    lines += [
        f"deferred: the probe of {probe.device} returned {probe.result}"
        for probe in made.probes
        if probe.outcome is Outcome.DEFERRED
    ]
    if made.dropped:
        lines.append(
            f"{made.dropped} messages were dropped: the console was too slow (loglevel=4, or dmesg > FILE)"
        )
    words = {
        "its return is not in the messages": [
            run.function for run in made.runs if run.outcome is Outcome.LOST
        ],
        "its call is not in the messages": [run.function for run in made.runs if not run.called],
        "not in the table": made.unmatched,
        "out of order": made.disordered,
        "in the table and not called": made.uncalled,
        "blacklisted": made.blacklisted,
    }
    lines += [f"{what}: {_shortened(names)}" for what, names in words.items() if names]
    return [plain(line) for line in lines]


def _shortened(names: Sequence[str]) -> str:
    """The first of them, and how many more: a log whose begin was overwritten lacks hundreds."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _render_comparison(rows: Sequence[Difference], top: int) -> list[str]:
    cells = [
        (
            f"{row.change / 1000:+.3f}",
            _milliseconds(row.before),
            _milliseconds(row.after),
            row.level or ("-" if row.kind == "initcall" else row.kind),
            row.function,
            row.module or "-",
            _change(row),
        )
        for row in (rows[:top] if top else rows)
    ]
    header = ("Change (ms)", "Before", "After", "Level", "Function", "Module", "")
    lines = [*table(cells, header=header, right=(0, 1, 2)), ""]
    for kind in ("initcall", "probe"):
        group = [row for row in rows if row.kind == kind]
        before, after = (sum(getattr(row, name) or 0 for row in group) for name in ("before", "after"))
        new, gone = sum(row.new for row in group), sum(row.gone for row in group)
        took = f"{_milliseconds(before)} ms before, {_milliseconds(after)} ms after"
        lines.append(f"all {kind}s: {took}; {new} new, {gone} gone")
    return lines


def _change(row: Difference) -> str:
    if row.new:
        return "new" if row.after is not None else "new, did not return"
    if row.gone:
        return "gone" if row.before is not None else "gone, did not return"
    if row.before is None and row.after is None:
        return "returned in neither"
    if row.before is None:
        return "did not return, now does"
    if row.after is None:
        return "does not return any more"
    if row.result_before != row.result_after:
        return f"returned {row.result_before}, now {row.result_after}"
    return ""
