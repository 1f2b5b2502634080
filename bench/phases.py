# SPDX-License-Identifier: MIT
"""In the guest: what one `lkm rescue NAME` is made of, as a JSON object of seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time


def main(name: str) -> None:
    """Rescue it, timing each phase."""
    start = time.perf_counter()
    subprocess.run(["/usr/bin/python3", "-sS", "-c", "pass"], check=True)
    phases = {"start of Python": time.perf_counter() - start}

    def done(phase: str) -> None:
        nonlocal start
        now = time.perf_counter()
        phases[phase] = now - start
        start = now

    start = time.perf_counter()
    sys.path.insert(0, "/usr/lib/lkm")
    import lkm.cli.main
    import lkm.cli.rescue
    import lkm.system.capture  # noqa: F401

    done("imports")
    from lkm.names import module_name
    from lkm.rescue.gate import refusals
    from lkm.rescue.planner import plan_rescue
    from lkm.rescue.rescue import Options, rescue
    from lkm.root import Root
    from lkm.system.capture import capture

    snapshot = capture(Root.live())
    done("capture")
    plan = plan_rescue(snapshot, module_name(name))
    next(refusals(snapshot, plan), None)
    done("diagnosis, plan, gate")
    result = rescue(Root.live(), module_name(name), Options())
    done("rescue")
    if not result.outcome.ok:
        raise SystemExit(result.reason)
    phases["helper, removal, proof"] = (
        phases.pop("rescue") - phases["capture"] - phases["diagnosis, plan, gate"]
    )
    print(json.dumps(phases))


if __name__ == "__main__":
    main(sys.argv[1])
