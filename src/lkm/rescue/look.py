# SPDX-License-Identifier: MIT
"""The look that every plan is made from: the machine as it is now, and the key that would sign the helper."""

from __future__ import annotations

from collections.abc import Sequence

from lkm.rescue.result import Options
from lkm.rescue.signing import with_signer
from lkm.root import Root
from lkm.system.capture import capture
from lkm.system.snapshot import Snapshot

__all__ = ["look"]


def look(root: Root, options: Options, *, symbols: Sequence[str] = ()) -> Snapshot:
    """A snapshot to plan from; `symbols` are names to resolve."""
    return with_signer(capture(root, symbols=symbols), options.signer)
