# SPDX-License-Identifier: MIT
"""Parameter lines and values as the kernel reads them."""

from __future__ import annotations

import errno

import pytest

from lkm.preflight.parameter_values import judge_value
from lkm.preflight.parameters import split_arguments
from lkm.preflight.rules import rules_for

NOW, OLD = rules_for("7.3.1"), rules_for("5.10.0")


@pytest.mark.parametrize(("text", "expected"), [
    ("", []),
    ("a=1 b=2", [("a", "1"), ("b", "2")]),
    ("flag", [("flag", None)]),
    ('a="x y" b', [("a", "x y"), ("b", None)]),
    ('"a=x y" b=', [("a", "x y"), ("b", "")]),
    ("=5", [("=5", None)]),
    ("a=b=c", [("a", "b=c")]),
    ("  a=1\t-- b", [("a", "1"), ("--", None), ("b", None)]),
])  # fmt: skip
def test_arguments_are_taken_apart_as_next_arg_does(
    text: str, expected: list[tuple[str, str | None]]
) -> None:
    assert list(split_arguments(text)) == expected


@pytest.mark.parametrize(("kind", "value", "number"), [
    ("int", "5", 0), ("int", "-5", 0), ("int", "+5", 0), ("int", "0x1f", 0), ("int", "017", 0), ("int", "5\n", 0),
    ("int", "08", errno.EINVAL), ("int", "5x", errno.EINVAL), ("int", "", errno.EINVAL), ("int", "0x", errno.EINVAL),
    ("int", "2147483647", 0), ("int", "2147483648", errno.ERANGE), ("int", "-2147483648", 0),
    ("uint", "-1", errno.EINVAL), ("uint", "4294967296", errno.ERANGE),
    ("byte", "255", 0), ("byte", "256", errno.ERANGE), ("ulong", "18446744073709551615", 0),
    ("ulong", "18446744073709551616", errno.ERANGE), ("long", "99999999999999999999x", errno.ERANGE),
    ("bool", "y", 0), ("bool", "off", 0), ("bool", None, 0), ("bool", "", errno.EINVAL), ("bool", "2", errno.EINVAL),
    ("bool", "o", errno.EINVAL), ("charp", None, errno.EINVAL), ("charp", "x" * 1024, 0),
    ("charp", "x" * 1025, errno.ENOSPC),
])  # fmt: skip
def test_values(kind: str, value: str | None, number: int) -> None:
    assert judge_value(kind, value, NOW)[0] == number


def test_a_string_must_fit_its_buffer() -> None:
    assert judge_value("string", "1234567", NOW, 8) == (0, "")
    assert judge_value("string", "12345678", NOW, 8) == (
        errno.ENOSPC,
        "{name}: string doesn't fit in 7 chars.",
    )


def test_true_and_enable_are_newer_words() -> None:
    assert judge_value("bool", "true", OLD)[0] == errno.EINVAL
    assert judge_value("bool", "true", NOW)[0] == 0
    assert judge_value("bool", "enable", rules_for("6.12.1"))[0] == errno.EINVAL
