# SPDX-License-Identifier: MIT
"""`lkm rescue` against compiling and loading a helper with kbuild, in the same guest and in turns."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable

from bench.measure import Comparison, progress, time_call
from bench.toolchain import make_arguments, prepare_script, stage_toolchain

from lkm.lab.demo import build_demo_modules
from lkm.lab.guest import Completed, Guest

__all__ = ["compare_rescue"]

KERNEL = "6.1"
HERE = os.path.dirname(os.path.abspath(__file__))
TIMES_FASTER = 4.0
"""The aim is 20. Under emulation the start of Python and its imports are already a third of the time that ours
takes, and reading BTF, kallsyms and the kernel's tables most of the rest; the parts are printed."""
TARGET = "bug_mod1"
KILLED = 137


def compare_rescue(rounds: int) -> Comparison:
    """Diagnosis, plan, helper, edits, removal and proof of one module; the peer only makes it removable."""
    with tempfile.TemporaryDirectory(prefix="lkm-bench-") as share:
        progress("staging a compiler and kernel headers for the guest")
        stage_toolchain(KERNEL, share, progress)
        shutil.copytree(f"{HERE}/helper", f"{share}/helper")
        shutil.copy(f"{HERE}/phases.py", share)
        shutil.copy(os.path.join(build_demo_modules(KERNEL, progress=progress), f"{TARGET}.ko"), share)
        with Guest.clone(KERNEL, share=share, progress=progress) as guest:
            return _compare(guest, rounds)


def _compare(guest: Guest, rounds: int) -> Comparison:
    _must(guest.run(["sh", "-c", prepare_script(KERNEL)]))
    make = make_arguments(KERNEL, "/share/helper")
    ours, peer, parts = [], [], []
    for turn in range(rounds):
        progress(f"rescue {turn + 1} of {rounds}")
        _get_stuck(guest)
        ours.append(time_call(_rescuer(guest)))
        progress(f"kbuild {turn + 1} of {rounds}")
        _get_stuck(guest)
        peer.append(time_call(_builder(guest, make)))
        _must(guest.run(["rmmod", TARGET]))
        _must(
            guest.run(
                ["sh", "-c", "cd /share/helper && rm -rf *.o *.ko *.mod *.mod.c *.symvers *.order .*.cmd"]
            )
        )
        _get_stuck(guest)
        start = time_call(lambda: guest.run(["python3", "-sS", "-c", "pass"]))
        phases = json.loads(_must(guest.run(["python3", "-sS", "/share/phases.py", TARGET])).stdout)
        parts.append({"start of Python": start, **phases})
    middle = sorted(parts, key=lambda part: sum(part.values()))[len(parts) // 2]
    return Comparison(
        f"lkm rescue {TARGET}",
        ours,
        "make and insmod of a helper",
        peer,
        times_faster=TIMES_FASTER,
        parts=list(middle.items()),
    )


def _get_stuck(guest: Guest) -> None:
    _must(guest.run(["insmod", f"/share/{TARGET}.ko"]), code=KILLED)


def _rescuer(guest: Guest) -> Callable[[], Completed]:
    return lambda: _must(guest.run(["lkm", "rescue", TARGET], timeout=120))


def _builder(guest: Guest, make: list[str]) -> Callable[[], None]:
    def build() -> None:
        _must(guest.run(make, timeout=600))
        _must(guest.run(["insmod", "/share/helper/force_rmmod.ko", f"name={TARGET}"]), code=1)

    return build


def _must(done: Completed, *, code: int = 0) -> Completed:
    if done.returncode != code:
        raise RuntimeError(
            f"exit code {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')}"
        )
    return done
