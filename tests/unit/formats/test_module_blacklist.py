# SPDX-License-Identifier: MIT
"""`module_blacklist=` is read as the kernel reads its command line."""

from __future__ import annotations

import pytest

from lkm.formats.command_line import parse_module_blacklist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("quiet", ()),
        ("module_blacklist=a,b-c quiet", ("a", "b-c")),
        ("module_blacklist=a module_blacklist=b", ("b",)),
        ('module_blacklist="a,b" x', ("a", "b")),
        ('"module_blacklist=a,b" x', ("a", "b")),
        ('dyndbg="module a +p" module-blacklist=a', ("a",)),
        ('x="y module_blacklist=a"', ()),
        ('module_blacklist="a', ("a",)),
        ("module_blacklist=a -- module_blacklist=b", ("a",)),
        ("module_blacklist", ()),
    ],
)
def test_the_kernels_blacklist(text: str, names: tuple[str, ...]) -> None:
    assert parse_module_blacklist(text) == names
