# SPDX-License-Identifier: MIT
"""Benchmarks: each a ratio against a peer that is measured in turns with it, in the same run.

Ends with 1 when a bound is missed. The figures drift with the load of the machine, the ratios less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from bench.measure import Comparison

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Run those that are asked for, print a table or JSON; the exit code."""
    sys.path[0] = os.path.dirname(HERE)
    from bench.check import compare_check_all, compare_check_one
    from bench.classic import compare_lsmod, compare_modinfo, compare_modinfo_xz, compare_modprobe_show
    from bench.clones import compare_clone
    from bench.depmod import AGAIN, FULL, compare_again, compare_full
    from bench.listing import compare_list_here, compare_list_in_guest
    from bench.measure import progress
    from bench.rescue import compare_rescue
    from bench.scan import compare_scan

    from lkm.errors import LkmError

    benchmarks: dict[str, tuple[Callable[[int], Comparison], int]] = {
        "list": (compare_list_here, 25),
        "list-in-guest": (compare_list_in_guest, 9),
        "lsmod": (compare_lsmod, 25),
        "modprobe-show": (compare_modprobe_show, 25),
        "modinfo": (compare_modinfo, 9),
        "modinfo-xz": (compare_modinfo_xz, 3),
        **{f"depmod{suffix.replace('.', '-')}": (compare_full(suffix), 5) for suffix in FULL},
        **{f"depmod-{what.replace(' ', '-')}": (compare_again(what), 9) for what in AGAIN},
        "check": (compare_check_one, 15),
        "check-all": (compare_check_all, 3),
        "clone": (compare_clone, 5),
        "rescue": (compare_rescue, 3),
        "scan": (compare_scan, 5),
    }
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (all): {', '.join(benchmarks)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object, schema lkm.bench/1")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in benchmarks]
    if unknown or (arguments.rounds is not None and arguments.rounds < 1):
        parser.error(f"no benchmark {unknown[0]!r}" if unknown else "--rounds must be at least 1")
    results = []
    try:
        for name in arguments.names or benchmarks:
            compare, rounds = benchmarks[name]
            results.append(compare(arguments.rounds or rounds))
    except (LkmError, RuntimeError) as error:
        progress(str(error))
        return 1
    return _conclude(results, as_json=arguments.json)


def _conclude(results: list[Comparison], *, as_json: bool) -> int:
    misses = [miss for result in results for miss in result.misses()]
    if as_json:
        comparisons = [result.to_object() for result in results]
        print(json.dumps({"schema": "lkm.bench/1", "ok": not misses, "comparisons": comparisons}, indent=1))
        return 1 if misses else 0
    from lkm.cli.render import table

    header = ("what", "seconds", "against", "seconds", "ratio", "bound", "")
    rows = [
        (
            result.name,
            f"{result.ours_median:.3f}",
            result.peer_name,
            f"{result.peer_median:.3f}",
            result.ratio(),
            result.bound(),
            "MISSED" if result.misses() else "ok",
        )
        for result in results
    ]
    print("\n".join(table(rows, header=header, right=(1, 3))))
    for result in results:
        if result.parts:
            print(f"{result.name}: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.parts))
    for miss in misses:
        print(f"missed: {miss}", file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
