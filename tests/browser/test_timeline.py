# SPDX-License-Identifier: MIT
"""The timeline's page and picture in a real browser, headless Chromium: what is drawn, where, and what it does.

The page measures itself after it was drawn: a script that only the test adds writes down boxes and what a search
and a sort have left; the screenshot has the colours where the boxes are.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lkm.boot.initcall import LEVELS, Initcall, Level
from lkm.boot.messages import parse_events, parse_log
from lkm.boot.page import render_html
from lkm.boot.picture import render_svg, shown_runs
from lkm.boot.timeline import Timeline, make_timeline, total
from tests.browser.png import Picture, parse_png

WIDTH, HEIGHT = 1300, 1700
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
SHOWN = 40

MEASURE = """
<script>
const boxes = selector => [...document.querySelectorAll(selector)].map(element => {
  const box = element.getBoundingClientRect();
  return {left: box.left, right: box.right, top: box.top, bottom: box.bottom, kind: element.getAttribute("class"),
          says: (element.querySelector("title") || element).textContent, fill: element.getAttribute("fill")};
});
const rows = () => [...document.querySelectorAll("#calls tbody tr")];
const measured = {
  errors: window.failures, levels: boxes("rect.level"), runs: boxes("rect.run"), probes: boxes("rect.probe"),
  totals: [...document.querySelectorAll("#totals li")].map(item => item.textContent),
  labels: boxes("svg > text"), picture: boxes("svg")[0], rows: rows().length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
};
const search = document.querySelector("#search");
if (search) {
  search.value = "8250";
  search.dispatchEvent(new Event("input"));
  measured.found = rows().filter(row => !row.hidden).map(row => row.cells[3].textContent);
  search.value = "";
  search.dispatchEvent(new Event("input"));
  const took = document.querySelectorAll("#calls th")[1];
  took.click(); took.click();
  measured.longest = rows().slice(0, 3).map(row => row.cells[3].textContent);
  took.click();
  measured.shortest = rows().slice(0, 3).map(row => row.cells[3].textContent);
}
const result = document.createElement("pre");
result.id = "measured";
result.textContent = JSON.stringify(measured);
document.body.append(result);
</script>
"""
BEFORE = (
    "<script>window.failures = []; window.onerror = text => { window.failures.push(String(text)); };</script>"
)


def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, "no Chromium here: make test-browser installs one"
    return found


def open_page(page: Path, *options: str, profile: Path) -> str:
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
        f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=3000", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def make_log() -> tuple[str, list[Initcall]]:
    """A boot of 300 initcalls on all levels, of which some take long, fail, and wait for probes; and its table."""
    plain = [level for level in LEVELS if level not in {Level.EARLY_SECURITY, Level.SECURITY}]
    table, lines, clock = [], ["[    0.000000] Linux version 6.1.0-test (x) #1"], 0.0
    for number in range(300):
        level = plain[number * len(plain) // 300]
        name = "serial8250_init" if number == 250 else f"setup_part_{number}_init"
        module = "8250" if number == 250 else f"part_{number}"
        usecs = 400_000 if number == 250 else 150_000 if number % 40 == 3 else 300 + number
        result = -22 if number == 100 else -19 if number % 10 == 9 else 0
        table.append(Initcall(level, number + 1, name, module=module))
        lines.append(f"[{clock:12.6f}] calling  {name}+0x0/0x20 @ 1")
        if number == 250:
            lines.append(
                f"[{clock + 0.3:12.6f}] probe of 00:02 with driver serial returned 0 after 250000 usecs"
            )
        clock += usecs / 1e6
        lines.append(f"[{clock:12.6f}] initcall {name}+0x0/0x20 returned {result} after {usecs} usecs")
        clock += 0.0001
    lines.append(f"[{clock:12.6f}] Run /init as init process")
    return "\n".join(lines), table


@pytest.fixture(scope="module")
def boot() -> Timeline:
    log, table = make_log()
    return make_timeline(parse_events(parse_log(log)), table)


@pytest.fixture(scope="module")
def seen(boot: Timeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Picture]:
    """What the page measured, and its screenshot."""
    folder = tmp_path_factory.mktemp("page")
    text = render_html(boot, count=SHOWN)
    plain, measuring = folder / "plain.html", folder / "measuring.html"
    plain.write_text(text, encoding="utf-8")
    with_script = text.replace("<body>", f"<body>{BEFORE}").replace("</body>", f"{MEASURE}</body>")
    measuring.write_text(with_script, encoding="utf-8")
    tree = open_page(measuring, "--dump-dom", profile=folder / "one")
    match = re.search(r'<pre id="measured">(.*?)</pre>', tree, re.DOTALL)
    assert match, tree[-2000:]
    open_page(plain, f"--screenshot={folder / 'page.png'}", profile=folder / "two")
    return json.loads(html.unescape(match[1])), parse_png((folder / "page.png").read_bytes())


def test_nothing_fails_and_nothing_sticks_out(seen: tuple[dict[str, Any], Picture]) -> None:
    measured, picture = seen
    assert measured["errors"] == []
    assert measured["overflow"] <= 0
    assert measured["picture"]["right"] <= picture.width
    for label in measured["labels"]:
        assert measured["picture"]["left"] <= label["left"], label
        assert label["right"] <= measured["picture"]["right"], label


def test_the_totals_are_those_of_the_lines(seen: tuple[dict[str, Any], Picture]) -> None:
    """As systemd-analyze would have them: out of the log's lines, with no pairing and no table but the levels."""
    measured, _ = seen
    log, table = make_log()
    levels = {call.function: call.level.value for call in table}
    ended = re.findall(r"initcall (\S+?)\+0x\S+ returned (-?\d+) after (\d+) usecs", log)
    started = re.search(r"\[ *([\d.]+)\] Run /init as init process", log)
    assert started
    expected = {
        "kernel, to /init": float(started[1]) * 1e3,
        "initcalls": sum(int(row[2]) for row in ended) / 1e3,
    }
    for function, _, usecs in ended:
        name = f"level {levels[function]}"
        expected[name] = expected.get(name, 0) + int(usecs) / 1e3
    shown = dict(line.split(": ", 1) for line in measured["totals"])
    for name, milliseconds in expected.items():
        value, unit = shown[name].split()
        assert unit == "ms"
        assert float(value) == pytest.approx(milliseconds, rel=0.005, abs=0.5), name
    absent = sum(row[1] == "-19" for row in ended)
    failed = sum(row[1] == "-22" for row in ended)
    outcomes = shown["300 initcalls"].split(", ")
    assert sorted(outcomes) == sorted(
        [f"{300 - absent - failed} ok", f"{absent} no-device", f"{failed} failed"]
    )
    gaps = sum(level != "console" for level in levels.values()) - 1  # consoles' are long before the others
    assert float(shown["between them"].split()[0]) == pytest.approx(gaps * 0.1, abs=0.05)


def test_every_call_is_a_row_and_the_longest_are_bars(
    seen: tuple[dict[str, Any], Picture], boot: Timeline
) -> None:
    measured, _ = seen
    assert measured["rows"] == 300
    shown = shown_runs(boot, SHOWN)
    assert [bar["says"].split()[0] for bar in measured["runs"]] == [run.function for run in shown]
    assert [bar["kind"] for bar in measured["runs"]] == [f"run {run.outcome.value}" for run in shown]


def test_bars_are_as_long_as_their_times_and_stand_below_one_another(
    seen: tuple[dict[str, Any], Picture], boot: Timeline
) -> None:
    measured, _ = seen
    bars = measured["runs"]
    longest = max(bars, key=lambda bar: bar["right"] - bar["left"])
    assert longest["says"].startswith("serial8250_init")
    per_second = (longest["right"] - longest["left"]) / 0.4
    origin = longest["left"] - next(run.start for run in boot.runs if run.module == "8250") * per_second
    for bar, run in zip(bars, shown_runs(boot, SHOWN)):
        assert bar["left"] == pytest.approx(origin + run.start * per_second, abs=1)
        expected = max((run.usecs or 0) / 1e6 * per_second, 1.4)
        assert bar["right"] - bar["left"] == pytest.approx(expected, abs=1)
    for above, below in zip(bars, bars[1:]):
        assert above["bottom"] < below["top"]
    (probe,) = measured["probes"]
    assert longest["left"] < probe["left"] < probe["right"] < longest["right"]
    assert longest["bottom"] <= probe["top"] + 4


def test_a_label_does_not_hide_its_bar(seen: tuple[dict[str, Any], Picture]) -> None:
    measured, _ = seen
    for bar in measured["runs"]:
        labels = [
            each
            for each in measured["labels"]
            if bar["top"] <= (each["top"] + each["bottom"]) / 2 <= bar["bottom"]
        ]
        (label,) = labels
        beside = label["left"] >= bar["right"] or label["right"] <= bar["left"]
        assert beside or label["right"] - label["left"] < bar["right"] - bar["left"]


def test_the_screenshot_has_each_level_in_its_colour(seen: tuple[dict[str, Any], Picture]) -> None:
    measured, picture = seen
    wide = [level for level in measured["levels"] if level["right"] - level["left"] > 4]
    assert len(wide) >= 8
    for level in wide:
        fill = level["fill"]
        wanted = tuple(int(fill[at : at + 2], 16) for at in (1, 3, 5))
        assert picture.at(level["left"] + 2, level["top"] + 2) == wanted, level["says"]
    (failed,) = [bar for bar in measured["runs"] if bar["kind"] == "run failed"]
    assert failed["bottom"] < picture.height
    middle = (failed["top"] + failed["bottom"]) / 2
    assert picture.at(failed["left"], middle)[0] > 150  # its edge is red
    assert picture.at(failed["left"], middle)[1] < 100


def test_search_and_sort(seen: tuple[dict[str, Any], Picture], boot: Timeline) -> None:
    measured, _ = seen
    assert measured["found"] == ["serial8250_init"]
    by_length = sorted(boot.runs, key=lambda run: run.usecs or 0)
    assert measured["longest"][0] == by_length[-1].function
    assert measured["shortest"] == [run.function for run in by_length[:3]]


def test_the_picture_alone_is_drawn_as_well(boot: Timeline, tmp_path: Path) -> None:
    path = tmp_path / "boot.svg"
    path.write_text(render_svg(boot, count=SHOWN), encoding="utf-8")
    open_page(path, f"--screenshot={tmp_path / 'svg.png'}", profile=tmp_path / "profile")
    picture = parse_png((tmp_path / "svg.png").read_bytes())
    fills = set(re.findall(r'fill="#([0-9a-f]{6})"', path.read_text(encoding="utf-8")))
    assert {bytes.fromhex(fill) for fill in fills} <= picture.colours()
    assert total(boot).calls == 300
