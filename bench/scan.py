# SPDX-License-Identifier: MIT
"""The search of kernel memory against `dd`, both on the same RAM of the same guest, in turns."""

from __future__ import annotations

import json

from bench.measure import Comparison, progress

from lkm.lab.guest import Guest

__all__ = ["compare_scan"]

TIMES_SLOWER = 2.0
KERNEL = "6.1"

IN_GUEST = """
import json, subprocess, sys, time
sys.path[0] = "/usr/lib/lkm"
from lkm.root import Root
from lkm.system.kcore import open_kcore
from lkm.system.scan.engine import Wanted, find_words, spans_of
from lkm.system.scan.translate import linear_map

kcore = open_kcore(Root.live())
linear = linear_map(kcore.segments, kcore.vmcoreinfo())
wanted = Wanted([(0xffffffffc0010000 - 0x2000, 0xffffffffc0010000 + 0x6000)])
ours, peer, size = [], [], 0
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    spans = spans_of(linear.segments, [])
    find_words(kcore, spans, wanted, lambda done, total: None)
    ours.append(time.perf_counter() - start)
    start = time.perf_counter()
    for segment in linear.segments:
        subprocess.run(
            ["dd", "if=/proc/kcore", "of=/dev/null", "bs=1M", "iflag=skip_bytes,count_bytes",
             f"skip={segment.offset}", f"count={segment.size}"],
            check=True, stderr=subprocess.DEVNULL,
        )
    peer.append(time.perf_counter() - start)
print(json.dumps({"ours": ours, "peer": peer, "size": sum(span.size for span in spans)}))
"""


def compare_scan(rounds: int) -> Comparison:
    """All RAM, free pages too, for a module that lies across two windows of 64 KB: the slower case."""
    with Guest.clone(KERNEL, progress=progress) as guest:
        progress("a search of kernel memory")
        done = guest.run(["python3", "-sS", "-", str(rounds)], stdin=IN_GUEST.encode(), timeout=600)
    if done.returncode:
        raise RuntimeError(f"the scan failed in the guest: {done.stderr.decode(errors='replace')}")
    told = json.loads(done.stdout)
    return Comparison(
        f"scan of {told['size'] / 1e6:.0f} MB",
        told["ours"],
        "dd of the same",
        told["peer"],
        times_slower=TIMES_SLOWER,
    )
