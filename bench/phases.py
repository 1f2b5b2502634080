# SPDX-License-Identifier: MIT
"""In the guest: what one `lkm rescue NAME` is made of, as a JSON object of seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkm.system.snapshot import Snapshot


def main(name: str) -> None:
    """Rescue it, timing each phase."""
    start = time.perf_counter()
    sys.path.insert(0, "/usr/lib/lkm")
    import lkm.cli.main
    import lkm.cli.rescue
    import lkm.rescue.rescue
    import lkm.system.capture

    imported = time.perf_counter()
    from lkm.names import module_name
    from lkm.root import Root

    captured = 0.0
    take = lkm.system.capture.capture

    def timed_capture(root: Root) -> Snapshot:
        nonlocal captured
        begin = time.perf_counter()
        try:
            return take(root)
        finally:
            captured += time.perf_counter() - begin

    setattr(lkm.rescue.rescue, "capture", timed_capture)  # noqa: B010 - mypy does not let it be assigned
    result = lkm.rescue.rescue.rescue(Root.live(), module_name(name), lkm.rescue.result.Options())
    end = time.perf_counter()
    if not result.outcome.ok:
        raise SystemExit(result.reason)
    phases = {
        "imports": imported - start,
        "capture": captured,
        "plan, helper, removal, proof": end - imported - captured,
    }
    import json

    print(json.dumps(phases))


if __name__ == "__main__":
    main(sys.argv[1])
