# SPDX-License-Identifier: MIT
"""modprobe.d and the kernel's command line, line by line, oddities included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.formats.command_line import parse_command_line
from lkm.formats.modprobe_conf import (
    BadName,
    Directive,
    conf_name,
    module_name_of,
    parse_modprobe_conf,
    render_softdep,
    split_softdep,
    split_words,
)


def read(text: str) -> list[tuple[str, ...]]:
    return [shown(row) for row in parse_modprobe_conf(text.encode(), file="a.conf")]


def shown(row: Directive) -> tuple[str, ...]:
    return (row.problem,) if row.problem else (row.command, row.name, row.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("alias my-mod* real-name", ("alias", "my_mod*", "real_name")),
        ("alias usb:v[0-9]-x a-b more words", ("alias", "usb:v[0-9]_x", "a_b")),
        ("\talias \t a  b", ("alias", "a", "b")),
        ("blacklist x-y ignored", ("blacklist", "x_y", "")),
        ("forbid x-*", ("forbid", "x_*", "")),
        ("options foo   bar=1\tbaz=a-b", ("options", "foo", "  bar=1 baz=a-b")),
        ("install i-1 /bin/true; echo a-b", ("install", "i_1", "/bin/true; echo a-b")),
        ("remove r  cmd", ("remove", "r", " cmd")),
        ("softdep a pre: b-c post: d", ("softdep", "a", "pre: b-c post: d")),
        ("weakdep a b c", ("weakdep", "a", "b c")),
        ("options a b\r", ("options", "a", "b\r")),
        ("blacklist a\0b", ("blacklist", "a", "")),
    ],
)
def test_each_directive_is_read(line: str, expected: tuple[str, ...]) -> None:
    assert read(line + "\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "options a",
        "options a ",
        "alias a",
        "alias a] b",
        "alias a b[",
        "install a",
        "blacklist",
        "# x",
        "nope x",
    ],
)
def test_a_line_that_is_none_is_told_with_its_place(line: str) -> None:
    word = line.split(maxsplit=1)[0]
    expected = (f"a.conf line 2: ignoring bad line starting with '{word}'",)
    assert read(f"\n {line}\nblacklist b\n") == [expected, ("blacklist", "b", "")]


def test_old_commands_are_told() -> None:
    assert read("include /x\n") == [("a.conf: command include is deprecated and not parsed anymore",)]


def test_comments_and_empty_lines_say_nothing() -> None:
    assert read("# alias a b\n\n  \t \n#\\\nalias c d\n") == []


def test_lines_are_continued_and_backslashes_taken() -> None:
    rows = parse_modprobe_conf(b"install a one \\\n two\\\\n \\q\nbla\\\ncklist b\nblacklist c\\", file="f")
    assert [shown(row) for row in rows] == [
        ("install", "a", "one  two\\n q"),
        ("blacklist", "b", ""),
        ("blacklist", "c", ""),
    ]
    assert [row.where for row in rows] == ["f line 2", "f line 4", "f line 5"]


def test_bytes_that_are_not_utf8_are_kept() -> None:
    (row,) = parse_modprobe_conf(b"options a b=\xff\n")
    assert row.value.encode("utf-8", "surrogateescape") == b"b=\xff"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    for row in parse_modprobe_conf(data):
        assert bool(row.problem) != bool(row.command)


def test_dashes_in_brackets_are_no_underscores() -> None:
    assert conf_name("a-b[0-9]c-d[!-]e-") == "a_b[0-9]c_d[!-]e_"
    for bad in ("a]", "[", "a[b]c[", "[a]]"):
        with pytest.raises(BadName):
            conf_name(bad)


def test_a_module_is_named_by_what_stands_before_the_dot() -> None:
    assert module_name_of("snd-hda.ko.xz") == "snd_hda"


def test_softdeps_are_split_as_kmod_does() -> None:
    assert split_softdep("x pre: a b post: c pre: d") == (("a", "b", "d"), ("c",))
    assert split_softdep(" pre: a post: b") == ((), ("b",))  # one leading blank belongs to the word
    assert split_softdep("  pre: a") == (("a",), ())
    assert split_softdep("") == ((), ())
    assert split_words("a\tb  c ") == ["a", "b", "c"]
    assert render_softdep(("x", "y"), ("z",)) == "pre: x ypost: z"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("quiet a.b=1 ro", [("options", "a", "b=1")]),
        ("a-b.c", [("options", "a_b", "c")]),
        ("modprobe.blacklist=x,y-z", [("blacklist", "x", ""), ("blacklist", "y-z", "")]),
        ('a.b="c d" e.f=1', [("options", "a", 'b="c d"'), ("options", "e", "f=1")]),
        ('"a.b=c d" e.f=1', [("options", "a", 'b="c d"'), ("options", "e", "f=1")]),
        ('a."b=1" c"d".e=1 f.g=2', [("options", "f", "g=2")]),
        ("root=/dev/x.y init=a.b", []),
        ("a.b.c=1", []),
        ("a.b=c.d", [("options", "a", "b=c.d")]),
        ('a.b="open', []),
        ("a.b=1\nc.d=2\0e.f=3", [("options", "a", "b=1"), ("options", "c", "d=2")]),
        ("a].b=1", [("Ignoring bad option on kernel command line while parsing module name: 'a]'",)]),
    ],
)
def test_the_command_line_has_options_and_a_blacklist(line: str, expected: list[tuple[str, ...]]) -> None:
    assert [shown(row) for row in parse_command_line(line.encode())] == expected


@given(st.text(alphabet='ab.-= "[]\t', max_size=30))
def test_any_command_line_is_read(line: str) -> None:
    for row in parse_command_line(line.encode()):
        assert row.problem or row.command in {"options", "blacklist"}
