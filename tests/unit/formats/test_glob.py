# SPDX-License-Identifier: MIT
"""Shell patterns: the C library's fnmatch(3) is the oracle."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkm.formats.glob import is_pattern, matches

PATTERNS = st.lists(
    st.sampled_from([*"ab-]![*?\\^:é/", "[a-c]", "[!b]", "[[:alpha:]]", "[[:nope:]]", "[]a]"]), max_size=8
).map("".join)
TEXTS = st.text(alphabet="abc-]![*\\^:é/.", max_size=6)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("pci:v00008086d*sv*", "pci:v00008086d000010D3sv0000103C", True),
        ("pci:v00008086d*sv*", "pci:v00008087d000010D3sv0000103C", False),
        ("snd-[0-9]", "snd-7", True),
        ("snd-[!0-9]", "snd-7", False),
        ("*a*b*c", "xxaxxbxxbxxc", True),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        ("[a", "[a", True),
        ("", "", True),
    ],
)
def test_a_pattern_takes_what_the_shell_would(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


def test_many_stars_take_no_exponential_time() -> None:
    assert not matches("*a" * 40 + "b", "a" * 400)


@settings(max_examples=1000)
@given(PATTERNS, TEXTS)
def test_it_agrees_with_the_c_library(pattern: str, text: str) -> None:
    # In the C locale, which is what a process has before it calls setlocale; Python may have called it.
    libc = ctypes.CDLL(None)
    libc.fnmatch.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
    expected = libc.fnmatch(pattern.encode("latin-1"), text.encode("latin-1"), 0) == 0
    assert matches(_bytes(pattern), _bytes(text)) is expected


def _bytes(text: str) -> str:
    """As names are read: bytes that are not UTF-8 are escaped."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


@given(TEXTS)
def test_what_is_no_pattern_matches_itself_only(text: str) -> None:
    if not is_pattern(text):
        assert matches(text, text)
        assert not matches(text, text + "x")
