# SPDX-License-Identifier: MIT
"""A kernel's configuration."""

from __future__ import annotations

import re

from lkm.errors import ParseError
from lkm.formats.compression import decompress
from lkm.root import Root
from lkm.system.files import read_bytes

__all__ = ["read_config"]

_MAX_CONFIG = 1 << 24
"""Bytes: a configuration has some 300,000."""
_LINE = re.compile(r"^(CONFIG_[^=\n]*)=\"*(.*?)\"*$", re.MULTILINE)


def read_config(root: Root) -> dict[str, str]:
    """The kernel's configuration, as `CONFIG_…` to its value, from the first place that has it; else empty.

    An option that is off is absent; with an empty dict nothing is known.
    """
    release = root.release
    for path in (
        f"/boot/config-{release}",
        f"/lib/modules/{release}/config",
        "/proc/config.gz",
        f"/lib/modules/{release}/build/.config",
    ):
        data = read_bytes(root.join(path))
        try:
            text = decompress(data or b"", name=path, limit=_MAX_CONFIG)
        except ParseError:
            continue
        if text:
            return dict(_LINE.findall(text.decode("utf-8", "backslashreplace")))
    return {}
