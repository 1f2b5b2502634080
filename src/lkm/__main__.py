# SPDX-License-Identifier: MIT
"""The command `lkm`, also as `python -m lkm`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns its exit code."""
    from lkm.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
