# SPDX-License-Identifier: MIT
"""The command `lkm`, also as `python -m lkm`; by another name (`lsmod`, `modprobe`, …) it is that tool."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns its exit code.

    The classic tools are looked for before anything else is imported: they have to start fast.
    """
    from lkm.cli.kmod import main as classic

    tool = classic.tool_of(sys.argv[0])
    if tool:
        return classic.run(tool, sys.argv[1:], called=sys.argv[0])
    if sys.argv[1:2] and sys.argv[1] in classic.TOOLS:
        return classic.run(sys.argv[1], sys.argv[2:])
    from lkm.cli.main import prepare_output, run

    prepare_output()
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
