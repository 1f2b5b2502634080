# SPDX-License-Identifier: MIT
"""A timeline as a picture: SVG, with nothing from elsewhere.

Above, the levels as bands over the time axis; below, the calls that took longest, each in its row at its time,
so that one sees what the boot waited for; under a call, the probes that it waited for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from lkm.boot.initcall import LEVELS
from lkm.boot.timeline import Outcome, ProbeRun, Run, Timeline, total

__all__ = ["make_svg", "render_svg", "shown_runs"]

WIDTH = 1200
MARGIN = 20
ROW = 18
TOP = 96
"""Where the rows begin: below the title, the bands and the axis."""
MOST_TICKS = 16
"""On the axis; `_step` has about ten of them."""

_COLOURS = (
    "#8dd3c7", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5", "#bc80bd", "#9ecae1", "#ffed6f",
    "#a6cee3", "#cab2d6", "#fdbf6f",
)  # fmt: skip
"""One a level, in the order of LEVELS; dark text is read on each."""
_PLAIN = "#cccccc"
_EDGES = {
    Outcome.FAILED: "#c00000",
    Outcome.DEFERRED: "#e08000",
    Outcome.UNFINISHED: "#c00000",
    Outcome.ODD: "#e08000",
    Outcome.LOST: "#e08000",
}
_TEXT = "font:12px sans-serif;fill:#222"
_SMALL = "font:10px sans-serif;fill:#555"


class _Scale(NamedTuple):
    """Seconds to pixels."""

    start: float
    end: float

    def x(self, time: float) -> float:
        return MARGIN + (time - self.start) / (self.end - self.start) * (WIDTH - 2 * MARGIN)

    def bar(self, start: float, end: float) -> tuple[float, float]:
        """Left edge and width; what is shorter than a pixel and a half is widened to that."""
        return self.x(start), max(1.5, self.x(end) - self.x(start))


def shown_runs(timeline: Timeline, count: int) -> list[Run]:
    """The `count` runs that took longest, and all that failed, warned or did not end, in the order of the boot."""
    longest = sorted(timeline.runs, key=lambda run: -(run.usecs or 0))[:count]
    marked = [run for run in timeline.runs if run.warnings or run.outcome in _EDGES]
    return sorted({*longest, *marked}, key=lambda run: run.start)


def render_svg(timeline: Timeline, *, count: int = 60) -> str:
    """The picture as a file's text, with the `count` longest calls."""
    return ElementTree.tostring(make_svg(timeline, count=count), encoding="unicode")


def make_svg(timeline: Timeline, *, count: int = 60) -> ElementTree.Element:
    """The picture as an element that a page can hold."""
    runs = shown_runs(timeline, count)
    probes_of: dict[Run, list[ProbeRun]] = {}
    for probe in timeline.probes:
        if probe.run is not None:
            probes_of.setdefault(timeline.runs[probe.run], []).append(probe)
    rows = [(run, probes_of.get(run, [])) for run in runs]
    height = TOP + sum(ROW + (6 if probes else 0) for _, probes in rows) + MARGIN
    top = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height}",
            "width": str(WIDTH),
            "height": str(height),
            "role": "img",
        },
    )
    title = _title(timeline)
    _tell(top, title)
    _add(top, "rect", x=0, y=0, width=WIDTH, height=height, fill="#ffffff")
    _text(top, MARGIN, 22, title, "font:bold 14px sans-serif;fill:#222")
    scale = _scale(timeline)
    _bands(top, timeline, scale)
    _axis(top, scale, height)
    y = float(TOP)
    for run, probes in rows:
        _row(top, run, probes, scale, y)
        y += ROW + (6 if probes else 0)
    return top


def _title(timeline: Timeline) -> str:
    sums = total(timeline)
    parts = [f"{timeline.release or 'kernel'}: {sums.calls} initcalls, {milliseconds(sums.initcalls)}"]
    if sums.kernel is not None:
        parts.append(f"{timeline.init} at {milliseconds(sums.kernel)}")
    bad = sum(
        sums.outcomes.get(each.value, 0) for each in (Outcome.FAILED, Outcome.UNFINISHED, Outcome.DEFERRED)
    )
    return ", ".join([*parts, f"{bad} failed or deferred"] if bad else parts)


def milliseconds(usecs: int) -> str:
    """12.3 ms, 0.042 ms, 1234 ms: three digits that count."""
    value = usecs / 1000
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _scale(timeline: Timeline) -> _Scale:
    ends = [run.end or run.start for run in timeline.runs] + [probe.end for probe in timeline.probes]
    starts = [run.start for run in timeline.runs]
    start, end = min(starts, default=0.0), max([*ends, timeline.init_at or 0.0], default=1.0)
    return _Scale(start, end if end > start else start + 1.0)


def _bands(top: ElementTree.Element, timeline: Timeline, scale: _Scale) -> None:
    """Each level from its first call to the end of its last."""
    for number, level in enumerate(LEVELS):
        runs = [run for run in timeline.runs if run.initcall and run.initcall.level is level]
        if not runs:
            continue
        start, end = runs[0].start, max(run.end or run.start for run in runs)
        x, width = scale.bar(start, end)
        band = _add(top, "rect", x=x, y=34, width=width, height=20, fill=_COLOURS[number])
        band.set("class", "level")
        took = sum(run.usecs or 0 for run in runs)
        _tell(band, f"{level.value}: {len(runs)} calls, {milliseconds(took)}")
        if width > 9 * len(level.value):
            _text(top, x + 3, 48, level.value, _TEXT)


def _axis(top: ElementTree.Element, scale: _Scale, height: int) -> None:
    step = _step(scale.end - scale.start)
    first = math.ceil(scale.start / step)
    for number in range(first, first + MOST_TICKS):
        tick = number * step
        if tick > scale.end:
            break
        x = scale.x(tick)
        _add(top, "line", x1=x, x2=x, y1=58, y2=height - MARGIN, stroke="#dddddd")
        _text(top, x + 2, 72, f"{tick:.3f}".rstrip("0").rstrip(".") + " s", _SMALL)


def _step(span: float) -> float:
    """A round number of which about ten fit."""
    power = 1e-6
    while power * 100 < span:
        power *= 10
    return next((power * factor for factor in (1, 2, 5, 10, 20, 50) if power * factor * 12 >= span), span)


def _row(top: ElementTree.Element, run: Run, probes: Sequence[ProbeRun], scale: _Scale, y: float) -> None:
    still = scale.end if run.outcome is Outcome.UNFINISHED else run.start
    end = still if run.end is None else run.end
    x, width = scale.bar(run.start, max(end, run.start + (run.usecs or 0) / 1e6))
    fill = _COLOURS[LEVELS.index(run.initcall.level)] if run.initcall else _PLAIN
    bar = _add(top, "rect", x=x, y=y, width=width, height=ROW - 4, fill=fill)
    bar.set("class", f"run {run.outcome.value}")
    if run.outcome in _EDGES or run.warnings:
        bar.set("stroke", _EDGES.get(run.outcome, "#e08000"))
        bar.set("stroke-width", "2")
    _tell(bar, describe(run))
    label = f"{run.function}{f' [{run.module}]' if run.module else ''}  {_took(run)}"
    room = WIDTH - MARGIN - x - width
    if room > 7 * len(label):
        _text(top, x + width + 4, y + 11, label, _TEXT)
    elif x > 7 * len(label):
        _text(top, x - 4, y + 11, label, f"{_TEXT};text-anchor:end")
    else:
        _text(top, x + 4, y + 11, label, _TEXT)
    for probe in probes:
        left, wide = scale.bar(probe.start, probe.end)
        mark = _add(top, "rect", x=left, y=y + ROW - 3, width=wide, height=4, fill="#555555")
        mark.set("class", "probe")
        _tell(mark, _describe_probe(probe))


def _describe_probe(probe: ProbeRun) -> str:
    driver = f" by {probe.driver}" if probe.driver else ""
    text = f"probe of {probe.device}{driver}: {milliseconds(probe.usecs)}, {probe.outcome.value}"
    doubt = f" (here by time alone, {probe.candidates} calls were open)" if probe.candidates > 1 else ""
    return text + doubt


def _took(run: Run) -> str:
    if run.outcome is Outcome.LOST:
        return "its return is lost"
    if run.usecs is None:
        return "did not return"
    result = f", returned {run.result}" if run.result else ""
    return milliseconds(run.usecs) + result + "".join(f", {warning}" for warning in run.warnings)


def describe(run: Run) -> str:
    """One call in a line: what a pointer on it shows."""
    level = f"{run.initcall.level_text}, " if run.initcall else ""
    kind = "" if run.kind == "initcall" else f"{run.kind}, "
    return f"{run.function} ({level}{kind}{run.module or 'no module'}): {_took(run)}, at {run.start:.6f} s"


def _add(top: ElementTree.Element, tag: str, **attributes: object) -> ElementTree.Element:
    values = {
        name: f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
    return ElementTree.SubElement(top, tag, values)


def _tell(element: ElementTree.Element, text: str) -> None:
    """What a pointer on it shows."""
    ElementTree.SubElement(element, "title").text = printable(text)


def _text(top: ElementTree.Element, x: float, y: float, text: str, style: str) -> None:
    element = _add(top, "text", x=x, y=y, style=style)
    element.text = printable(text)


def printable(text: str) -> str:
    """`text` without what XML cannot hold: a name out of a log may be anything."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
