# SPDX-License-Identifier: MIT
"""Run the comparisons of all tools, or of those that are named; ends with 1 if anything differs."""

from __future__ import annotations

import importlib
import sys

COMPARISONS = ("modinfo", "modprobe", "depmod")
"""Modules beside this one, each with `compare() -> what differs`."""


def main(names: list[str]) -> int:
    """Print what differs; the exit code."""
    unknown = [name for name in names if name not in COMPARISONS]
    if unknown:
        print(f"compare: there is no {unknown[0]}, only {', '.join(COMPARISONS)}", file=sys.stderr)
        return 2
    found: list[str] = []
    for name in names or COMPARISONS:
        found += importlib.import_module(f"tests.compare.{name}").compare()
    for line in found:
        print(f"differs: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
