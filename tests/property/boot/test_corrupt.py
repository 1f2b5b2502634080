# SPDX-License-Identifier: MIT
"""Logs and images that are anything: a timeline, a picture and a page, or one error with the file's name."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lkm.boot.compare import compare
from lkm.boot.image import initcalls_of_image
from lkm.boot.initcall import Initcall, Level
from lkm.boot.messages import parse_events, parse_log
from lkm.boot.page import render_html
from lkm.boot.picture import render_svg
from lkm.boot.symbols import BootSymbol, initcalls_of_symbols
from lkm.boot.timeline import make_timeline, total
from lkm.errors import LkmError
from lkm.formats.builtin_modinfo import parse_builtin_modinfo
from lkm.formats.kernel_image import parse_kernel_image
from tests.boots import LOG, TABLE
from tests.kernel_images import make_elf, make_kernel
from tests.property.formats.test_corrupt import bent

KERNEL = make_elf(make_kernel())
LINES = st.sampled_from(LOG.splitlines())
WORDS = st.text(max_size=30)
NAMES = st.sampled_from(["con_init", "acpi_init", "xenbus_init", "\x00", "é<&>", "x" * 300])


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line of a log, or what only looks like one."""
    line = draw(LINES)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return line.replace(line[10:25], draw(WORDS))
    if kind == 1:
        return line.replace("acpi_init", draw(NAMES))
    if kind == 2:
        return line.replace("returned 0", f"returned {draw(st.integers())}")
    return line if kind == 3 else draw(WORDS)


@settings(max_examples=150)
@given(st.lists(lines(), max_size=40))
@example(["[1.0] calling  f+0x0/0x1 @ 1", "[0.5] initcall f+0x0/0x1 returned 0 after 0 usecs"])
def test_any_log_is_a_timeline_and_a_picture(log: list[str]) -> None:
    made = make_timeline(parse_events(parse_log("\n".join(log))), TABLE)
    sums = total(made)
    assert sums.calls == sum(1 for run in made.runs if run.kind == "initcall")
    assert sums.initcalls == sum(sums.levels.values())
    assert sums.outside >= 0
    assert ElementTree.fromstring(render_svg(made)).tag.endswith("svg")
    assert render_html(made).endswith("</html>")
    assert sum(row.change for row in compare(made, made)) == 0


@settings(max_examples=60)
@given(bent(KERNEL))
def test_a_bent_image_is_initcalls_or_one_error(data: bytes) -> None:
    said = ""
    calls: list[Initcall] = []
    try:
        calls = initcalls_of_image(parse_kernel_image(data, name="FILE"))
    except LkmError as error:
        said = str(error)
    assert not calls or not said
    assert said.startswith("FILE: ") or not said
    assert "\n" not in said


IDENTIFIERS = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)


@given(
    IDENTIFIERS,
    IDENTIFIERS.filter(lambda name: "__" not in name),
    st.integers(0, 9999),
    st.integers(1, 99999),
)
def test_a_symbol_says_what_went_into_it(function: str, module: str, counter: int, line: int) -> None:
    for suffix, level in (
        ("6", Level.DEVICE),
        ("5s", Level.FS),
        ("early", Level.EARLY),
        ("con", Level.CONSOLE),
    ):
        name = f"__initcall__kmod_{module}__{counter}_{line}_{function}{suffix}"
        (call,) = initcalls_of_symbols([BootSymbol(8, "d", name)])
        assert (call.level, call.sync) == (level, suffix == "5s")
        assert (call.module, call.line, call.function) == (module, line, function)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_modinfo(data: bytes) -> None:
    for name, rows in parse_builtin_modinfo(data).items():
        assert "=" not in name
        assert rows
