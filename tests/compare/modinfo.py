# SPDX-License-Identifier: MIT
"""modinfo of every module of whole trees, by file, by name, by alias, with each option: as kmod prints it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from tests.compare.trees import KERNELS, indexed_tree, modules_of
from tests.machine.fake import kmod_path

__all__ = ["compare"]

OPTIONS: tuple[tuple[str, ...], ...] = ((), ("-0",), ("-p",), ("-n",), ("-F", "alias"), ("-F", "signature"))
BATCH = 2000
"""Operands of one call."""


def compare() -> list[str]:
    """What differs, in words."""
    return [line for kernel in KERNELS for line in _compare_kernel(kernel)]


def _compare_kernel(kernel: str) -> Iterator[str]:
    with indexed_tree(kernel) as (top, release):
        paths = modules_of(top)
        names = [os.path.basename(path).partition(".")[0] for path in paths]
        place = ("-b", top, "-k", release)
        with open(f"{top}/lib/modules/{release}/modules.builtin", encoding="utf-8") as file:
            builtin = [os.path.basename(line).partition(".")[0] for line in file]
        with open(f"{top}/lib/modules/{release}/modules.alias", encoding="utf-8") as file:
            aliases = [line.split()[1].replace("*", "1") for line in file if line.startswith("alias")]
        calls: list[tuple[tuple[str, ...], Sequence[str]]] = [(options, paths) for options in OPTIONS]
        calls += [(place, names), (place, builtin), ((*place, "-m"), names), ((*place, "-n"), aliases[::40])]
        for options, operands in calls:
            for start in range(0, len(operands), BATCH):
                what = f"{release}: modinfo {' '.join(options)}"
                yield from _compare_call([*options, *operands[start : start + BATCH]], what)
        count = sum(len(operands) for _, operands in calls)
        print(f"modinfo: {count} answers about {len(paths)} modules of {release} compared")


def _compare_call(argv: Sequence[str], what: str) -> Iterator[str]:
    ours = subprocess.run([sys.executable, "-m", "lkm", "modinfo", *argv], capture_output=True, check=False)
    theirs = subprocess.run([kmod_path("modinfo"), *argv], capture_output=True, check=False)
    if ours.returncode != theirs.returncode:
        yield f"{what}: exit code {ours.returncode}, kmod's {theirs.returncode}"
    for verb, found, expected in (
        ("prints", ours.stdout, theirs.stdout),
        ("says", ours.stderr, theirs.stderr),
    ):
        pairs = itertools.zip_longest(found.splitlines(), expected.splitlines(), fillvalue=b"nothing")
        for line, (mine, other) in enumerate(pairs, 1):
            if mine != other:
                yield f"{what} {verb} in line {line} {mine!r}, kmod {other!r}"
                break
