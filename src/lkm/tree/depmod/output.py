# SPDX-License-Identifier: MIT
"""All files that one run writes. Source: kmod 34, tools/depmod.c (`depmod_output`)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lkm.tree.depmod import render
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.search import Report
from lkm.tree.depmod.store import Outcome

__all__ = ["FILES", "Modules", "read_input", "render_all", "render_texts", "sorted_symbols"]

FILES = (
    b"modules.dep", b"modules.dep.bin", b"modules.alias", b"modules.alias.bin", b"modules.softdep",
    b"modules.weakdep", b"modules.symbols", b"modules.symbols.bin", b"modules.builtin.bin",
    b"modules.builtin.alias.bin", b"modules.devname",
)  # fmt: skip
"""All that is written."""


class Modules:
    """All modules in kmod's order.

    shown     paths as the files have them
    numbers   places in the order of the search
    """

    def __init__(
        self, top: bytes, names: list[bytes], paths: list[bytes], outcomes: list[Outcome], numbers: list[int]
    ) -> None:
        self.names, self.paths, self.outcomes, self.numbers = names, paths, outcomes, numbers
        inside, skip = top + b"/", len(top) + 1
        self.shown = [path[skip:] if path.startswith(inside) else path for path in paths]

    def column(self, number: int) -> list[bytes]:
        """One of the five things that each module says."""
        return [outcome[0][number] for outcome in self.outcomes]


def render_texts(
    modules: Modules, owners: dict[bytes, int], needs: list[list[int]], report: Report
) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each text file, in kmod's order."""
    names, aliases = modules.names, modules.column(2)
    yield b"modules.dep", b"".join([line + b"\n" for line in render.dependency_lines(modules.shown, needs)])
    yield b"modules.alias", render.alias_text(names, aliases)
    yield b"modules.softdep", render.word_text(b"softdep", b"Soft", names, modules.column(3))
    yield b"modules.weakdep", render.word_text(b"weakdep", b"Weak", names, modules.column(4))
    yield b"modules.symbols", render.symbol_text(names, sorted_symbols(owners))
    yield b"modules.devname", render.devname_text(names, aliases, report)


def render_all(
    request: DepmodRequest,
    modules: Modules,
    owners: dict[bytes, int],
    needs: list[list[int]],
    report: Report,
) -> dict[bytes, bytes]:
    """File name → content. Raises `render.NotAscii`."""
    names = modules.names
    contents = dict(render_texts(modules, owners, needs, report))
    lines = contents[b"modules.dep"].split(b"\n")
    contents[b"modules.dep.bin"] = render.dependency_index(names, lines)
    contents[b"modules.alias.bin"] = render.alias_index(names, modules.column(2), report, warn=request.warn)
    contents[b"modules.symbols.bin"] = render.symbol_index(names, sorted_symbols(owners))
    for name, make in (
        (b"modules.builtin", render.builtin_index),
        (b"modules.builtin.modinfo", render.builtin_alias_index),
    ):
        data = read_input(request.top, name, report)
        contents[_MADE_OF[name]] = make(data or b"", report)
    return contents


_MADE_OF = {
    b"modules.builtin": b"modules.builtin.bin",
    b"modules.builtin.modinfo": b"modules.builtin.alias.bin",
}


def sorted_symbols(owners: dict[bytes, int]) -> list[tuple[bytes, int]]:
    """What modules export, sorted."""
    return sorted([(name, number - 1) for name, number in owners.items() if number])


def read_input(directory: bytes, name: bytes, report: Report) -> bytes | None:
    """One of the files that the kernel's build leaves; None without it."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()
    except OSError as error:
        report("WARNING", f"could not open {name.decode()} at {os.fsdecode(directory)}: {error.strerror}")
        return None
