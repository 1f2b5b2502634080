# SPDX-License-Identifier: MIT
"""A timeline as a page: HTML in one file, the picture and a table that can be sorted and searched.

Nothing is fetched, and without scripts it is a plain page.
"""

from __future__ import annotations

from xml.etree import ElementTree

from lkm.boot.picture import make_svg, milliseconds, printable
from lkm.boot.timeline import Run, Timeline, total

__all__ = ["render_html"]

_STYLE = """
body { font: 14px sans-serif; margin: 1em auto; max-width: 1240px; padding: 0 1em; color: #222; background: #fff }
#totals { columns: 16em }
svg { max-width: 100%; height: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 2px 8px; border-bottom: 1px solid #ddd }
th[data-number], td.number { text-align: right }
th { cursor: pointer; position: sticky; top: 0; background: #fff }
tr.failed td, tr.unfinished td { color: #b00000 }
tr.deferred td, tr.odd td { color: #a05a00 }
input { font: inherit; width: 20em; margin: 1em 0 }
"""

_SCRIPT = """
const body = document.querySelector("#calls tbody");
document.querySelector("#search").addEventListener("input", event => {
  const text = event.target.value.toLowerCase();
  for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(text);
});
document.querySelectorAll("#calls th").forEach((head, column) => {
  let up = false;
  head.addEventListener("click", () => {
    up = !up;
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => head.dataset.number !== undefined
      ? value(a) - value(b) : value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
  });
});
"""

_COLUMNS = ("At (s)", "Took", "Level", "Function", "Module", "Returned", "Notes")
_NUMBERS = {"At (s)", "Took", "Returned"}


def render_html(timeline: Timeline, *, count: int = 60) -> str:
    """The page as a file's text; `count` calls are in the picture, all are in the table."""
    top = ElementTree.Element("html", {"lang": "en"})
    head = ElementTree.SubElement(top, "head")
    ElementTree.SubElement(head, "meta", {"charset": "utf-8"})
    title = f"The boot of {timeline.release or 'a kernel'}"
    _say(head, "title", title)
    _say(head, "style", _STYLE)
    body = ElementTree.SubElement(top, "body")
    _say(body, "h1", title)
    _totals(body, timeline)
    body.append(make_svg(timeline, count=count))
    search = ElementTree.SubElement(body, "p")
    attributes = {"id": "search", "placeholder": "search functions, modules, levels", "aria-label": "search"}
    ElementTree.SubElement(search, "input", attributes)
    _table(body, timeline)
    _say(body, "script", _SCRIPT)
    return "<!DOCTYPE html>\n" + ElementTree.tostring(top, encoding="unicode", method="html")


def _totals(body: ElementTree.Element, timeline: Timeline) -> None:
    sums = total(timeline)
    kernel = [("kernel, to " + timeline.init, sums.kernel)] if sums.kernel is not None else []
    rows = [*kernel, ("initcalls", sums.initcalls), ("between them", sums.outside)]
    rows += [(f"level {name}", usecs) for name, usecs in sums.levels.items() if name and usecs]
    listing = ElementTree.SubElement(body, "ul", {"id": "totals"})
    for name, usecs in rows:
        _say(listing, "li", f"{name}: {milliseconds(usecs or 0)}")
    outcomes = ", ".join(f"{count} {name}" for name, count in sums.outcomes.items())
    _say(listing, "li", f"{sums.calls} initcalls: {outcomes}")


def _table(body: ElementTree.Element, timeline: Timeline) -> None:
    table = ElementTree.SubElement(body, "table", {"id": "calls"})
    row = ElementTree.SubElement(ElementTree.SubElement(table, "thead"), "tr")
    for name in _COLUMNS:
        head = _say(row, "th", name)
        if name in _NUMBERS:
            head.set("data-number", "")
    rows = ElementTree.SubElement(table, "tbody")
    for run in timeline.runs:
        _line(ElementTree.SubElement(rows, "tr", {"class": run.outcome.value}), run)


def _line(row: ElementTree.Element, run: Run) -> None:
    level = run.initcall.level_text if run.initcall else run.kind
    notes = [run.outcome.value] if run.outcome.value != "ok" else []
    cells = (
        (f"{run.start:.6f}", run.start),
        ("" if run.usecs is None else milliseconds(run.usecs), run.usecs if run.usecs is not None else -1),
        (level, None),
        (run.function, None),
        (run.module, None),
        ("" if run.result is None else str(run.result), run.result or 0),
        (", ".join([*notes, *run.warnings]), None),
    )
    for text, value in cells:
        cell = _say(row, "td", text)
        if value is not None:
            cell.set("class", "number")
            cell.set("data-value", str(value))


def _say(top: ElementTree.Element, tag: str, text: str) -> ElementTree.Element:
    element = ElementTree.SubElement(top, tag)
    element.text = text if tag in {"style", "script"} else printable(text)
    return element
