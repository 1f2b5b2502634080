# SPDX-License-Identifier: MIT
"""Plain tables, and colours where a terminal reads them. Nothing is imported that costs start-up time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

__all__ = ["plain", "styled", "table", "wants_colour"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal, and neither NO_COLOR nor TERM=dumb asks for plain text."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, *, colour: bool) -> str:
    """`text` in bold, dim, red, green or yellow; as it is where `colour` is False or it is empty."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and text else text


def plain(text: str) -> str:
    r"""`text` with control characters as `\xNN`: a name out of a kernel must not drive the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str], right: Sequence[int] = ()) -> list[str]:
    """Lines of aligned columns, the header first, two spaces apart; columns in `right` align to the right.

    The last column is not padded. Colour comes afterwards, by line, so that widths stay true.
    """
    cells = [list(header), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in cells
    ]
