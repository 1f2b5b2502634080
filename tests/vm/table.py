# SPDX-License-Identifier: MIT
"""The table of situations and kernels: what passed where, made by the run that tested it (`--table FILE`).

Tests tell their place in it by the user properties `row`, `expected` and `column`; xdist hands these to the one
process that writes the file. A run of some tests or kernels replaces their cells and keeps the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["TableWriter", "parse_table", "render_table"]

Cells = Mapping[tuple[str, str], bool | None]
MARKS = {True: "✓", False: "**✗**", None: "–"}

HEADER = """\
# Kernels and situations

What `lkm why` says and `lkm rescue` does in each situation, on each kernel of the lab. Made by `make test-kernels`:
each cell is one test in a guest with that kernel, which compares findings, holders, verdict, outcome and exit code,
and looks for any oops but those that the faults make. A dash: what it takes is hidden on that kernel, and that is
expected to fail. Do not edit.

"""


class TableWriter:
    """A pytest plugin that collects cells from reports and writes them at the end."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._cells: dict[tuple[str, str], bool | None] = {}
        self._expected: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has a cell if it says so; a failure in set-up or tear-down counts too."""
        told = {str(key): str(value) for key, value in report.user_properties}
        if "row" not in told or "column" not in told:
            return
        self._expected[told["row"]] = told.get("expected", "")
        key = (told["row"], told["column"])
        before = self._cells.get(key, True)
        self._cells[key] = (
            None if hasattr(report, "wasxfail") or before is None else before and not report.failed
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, where this is not one worker of many."""
        if not self._cells or hasattr(session.config, "workerinput"):
            return
        cells, expected = (
            parse_table(self._path.read_text(encoding="utf-8")) if self._path.exists() else ({}, {})
        )
        text = render_table({**cells, **self._cells}, {**expected, **self._expected})
        self._path.write_text(HEADER + text, encoding="utf-8")


def parse_table(text: str) -> tuple[dict[tuple[str, str], bool | None], dict[str, str]]:
    """Cells and expectations of a table that `render_table` made."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells: dict[tuple[str, str], bool | None] = {}
    expected: dict[str, str] = {}
    for row, words, *marks in lines[2:]:
        expected[row] = words
        for column, mark in zip(lines[0][2:], marks):
            if mark.strip():
                cells[row, column] = {shown: value for value, shown in MARKS.items()}[mark.strip()]
    return cells, expected


def render_table(cells: Cells, expected: Mapping[str, str]) -> str:
    """Markdown: a row a situation, a column a kernel, in the order of their first mention."""
    rows, columns = (list(dict.fromkeys(key[index] for key in cells)) for index in (0, 1))
    rows = [row for row in expected if row in rows]
    columns.sort(key=_version)
    lines = [_line(["situation", "verdict: outcome", *columns]), _line(["---"] * 2 + [":-:"] * len(columns))]
    for row in rows:
        shown = [MARKS[cells[row, column]] if (row, column) in cells else "" for column in columns]
        lines.append(_line([row, expected[row], *shown]))
    results = list(cells.values())
    lines += ["", f"{results.count(True)} of {len(results)} passed."]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(kernel: str) -> tuple[bool, list[int], str]:
    """amd64 before arm64, each by version."""
    number, _, flavour = kernel.partition("-")
    return "arm64" in flavour, [int(part) for part in number.split(".")], flavour
