# SPDX-License-Identifier: MIT
"""All files that one run writes. Source: kmod 34, tools/depmod.c (`depmod_output`)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lkm.system.forked import Helper, processors
from lkm.tree.depmod import render
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.search import Report
from lkm.tree.depmod.store import Outcome, pack_texts, unpack_texts

__all__ = [
    "FILES",
    "Beside",
    "Modules",
    "Resolved",
    "read_input",
    "render_all",
    "render_texts",
    "sorted_symbols",
]

FILES = (
    b"modules.dep", b"modules.dep.bin", b"modules.alias", b"modules.alias.bin", b"modules.softdep",
    b"modules.weakdep", b"modules.symbols", b"modules.symbols.bin", b"modules.builtin.bin",
    b"modules.builtin.alias.bin", b"modules.devname",
)  # fmt: skip
"""All that is written."""


_MIN_BESIDE = 400  # modules for which it pays to start a process


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


class Beside:
    """Half of the work, begun by another process while this one still resolves: modules.alias.bin and a text.

    `wanted`: whether that pays, and nobody has to see what is done.
    """

    def __init__(
        self, request: DepmodRequest, modules: Modules, owners: dict[bytes, int], *, wanted: bool
    ) -> None:
        self._arguments = (request.warn, modules, owners)
        beside = wanted and len(modules.names) >= _MIN_BESIDE and (request.processes or processors()) > 1
        self._helper = Helper(self._block) if beside else None

    def _block(self) -> bytes:
        told: list[bytes] = []
        made = self._make(
            lambda level, text: told.append(f"{level}\0{text}".encode(errors="surrogateescape"))
        )
        return pack_texts([*made, *told])

    def _make(self, report: Report) -> tuple[bytes, bytes]:
        warn, modules, owners = self._arguments
        index = render.alias_index(modules.names, modules.column(2), report, warn=warn)
        return index, render.symbol_text(modules.names, sorted_symbols(owners))

    def end(self) -> bytes | None:
        """What the other process has made; after this there is none."""
        helper, self._helper = self._helper, None
        return helper.result() if helper else None

    def take(self, report: Report) -> tuple[bytes, bytes]:
        """modules.alias.bin and modules.symbols. Raises `render.NotAscii`."""
        block = self.end()
        if block is None:  # it has failed, or there is none: then it is done here
            return self._make(report)
        index, text, *told = unpack_texts(block)
        for line in told:
            level, _, message = line.decode(errors="surrogateescape").partition("\0")
            report(level, message)
        return index, text


class Resolved:
    """Who needs whom.

    owners  name → module, counted from 1 (see `resolve.owners_of`)
    needs   of each module all that it needs
    beside  what another process makes of it meanwhile
    """

    def __init__(self, owners: dict[bytes, int], needs: list[list[int]], beside: Beside) -> None:
        self.owners, self.needs, self.beside = owners, needs, beside


def render_all(
    request: DepmodRequest,
    modules: Modules,
    resolved: Resolved,
    *,
    report: Report,
) -> dict[bytes, bytes]:
    """File name → content. Raises `render.NotAscii`."""
    names, aliases = modules.names, modules.column(2)
    lines = render.dependency_lines(modules.shown, resolved.needs)
    contents = {
        b"modules.dep": b"".join([line + b"\n" for line in lines]),
        b"modules.dep.bin": render.dependency_index(names, lines),
        b"modules.alias": render.alias_text(names, aliases),
        b"modules.softdep": render.word_text(b"softdep", b"Soft", names, modules.column(3)),
        b"modules.weakdep": render.word_text(b"weakdep", b"Weak", names, modules.column(4)),
        b"modules.symbols.bin": render.symbol_index(names, resolved.owners),
    }
    contents[b"modules.alias.bin"], contents[b"modules.symbols"] = resolved.beside.take(report)
    contents[b"modules.devname"] = render.devname_text(names, aliases, report)
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
