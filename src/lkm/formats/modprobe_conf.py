# SPDX-License-Identifier: MIT
"""modprobe.d: one file's lines as directives, and what could not be read of it.

Directives are those of modprobe.d(5) (`alias blacklist install options remove softdep weakdep`) and our own
`forbid NAME`. The letter of it follows kmod 34, libkmod/libkmod-config.c and shared/util.c, its oddities included:
`\\` before any letter but a newline takes that letter as it is, so a command's own backslashes must be doubled;
`softdep NAME  pre:` with exactly two blanks before `pre:` loses that word.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BadName",
    "Directive",
    "conf_name",
    "module_name_of",
    "parse_modprobe_conf",
    "render_softdep",
    "split_softdep",
    "split_words",
]

_BLANKS = "\t "
_SPACES = " \t\n\v\f\r"
_WITH_REST = frozenset({"options", "install", "remove", "softdep", "weakdep"})
"""Commands whose second argument is the rest of the line."""

_PATH_MAX = 4096


class BadName(ValueError):
    """A name with a bracket that has no partner."""


class Directive:
    """One line of a configuration: never changed once it is made.

    command  `alias`, `blacklist`, …; "" if the line could not be read: then `problem` says so
    name     the first argument: a module, an alias, or a pattern of either; `-` as `_`
    value    the rest: an alias's module, the options, the command, the softdeps; "" for blacklist and forbid
    file     where it stands, and its last line there, counted from 1; the kernel's command line has line 0
    """

    __slots__ = ("command", "file", "line", "name", "problem", "value")

    def __init__(
        self, command: str, name: str, value: str, *, file: str = "", line: int = 0, problem: str = ""
    ) -> None:
        self.command = command
        self.name = name
        self.value = value
        self.file = file
        self.line = line
        self.problem = problem

    @property
    def where(self) -> str:
        """The place, for messages: `/etc/modprobe.d/a.conf line 3`."""
        return f"{self.file} line {self.line}" if self.line else self.file

    def __repr__(self) -> str:
        return f"Directive({self.command!r}, {self.name!r}, {self.value!r}, {self.where!r})"


def parse_modprobe_conf(data: bytes, *, file: str = "<bytes>") -> list[Directive]:
    """The directives of a file, in order, and in between one without a command for each line that is none."""
    found = []
    for number, text in _logical_lines(data.decode("utf-8", "surrogateescape")):
        if not text or text[0] == "#":
            continue
        command, rest = _word(text)
        if command == "forbid":
            found += [_directive(command, name, file, number) for name in _forbidden(rest)]
        elif command:
            found.append(_directive(command, rest, file, number))
    return found


def _forbidden(rest: str | None) -> list[str]:
    """Every name of the line, up to a comment: of what is meant to be safe, none is passed over."""
    words = (rest or "").replace("\t", " ").split(" ")
    names = [word for word in words if word]
    comment = next((at for at, word in enumerate(names) if word.startswith("#")), len(names))
    return names[:comment] or [""]


def _directive(command: str, rest: str | None, file: str, line: int) -> Directive:
    if command in {"include", "config"}:
        problem = f"{file}: command {command} is deprecated and not parsed anymore"
        return Directive("", "", "", file=file, line=line, problem=problem)
    try:
        arguments = _arguments(command, rest)
    except BadName:
        arguments = None
    if arguments is None:
        problem = f"{file} line {line}: ignoring bad line starting with '{command}'"
        return Directive("", "", "", file=file, line=line, problem=problem)
    return Directive(command, *arguments, file=file, line=line)


def _arguments(command: str, rest: str | None) -> tuple[str, str] | None:
    """Name and value; None if one of them is missing or the command is unknown."""
    name, rest = _word(rest)
    if not name:
        return None
    if command == "alias":
        module, _ = _word(rest)
        return (conf_name(name), conf_name(module)) if module else None
    if command in {"blacklist", "forbid"}:
        return conf_name(name), ""
    if command in _WITH_REST and rest:
        return conf_name(name), rest.replace("\t", " ") if command == "options" else rest
    return None


def _word(text: str | None) -> tuple[str, str | None]:
    """The first word, and what follows the one blank behind it: None if nothing does."""
    text = (text or "").lstrip(_BLANKS)
    for at, letter in enumerate(text):
        if letter in _BLANKS:
            return text[:at], text[at + 1 :] or None
    return text, None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its last physical line, text) of each line, continued ones joined. A NUL ends a line's text."""
    if "\\" not in text:
        rows = text.split("\n")
        if not rows[-1]:
            rows.pop()
        for number, row in enumerate(rows, 1):
            yield number, row.partition("\0")[0]
        return
    at, number = 0, 1
    pieces: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == "\n":
            yield number, "".join(pieces).partition("\0")[0]
            pieces = []
            number += 1
        elif letter == "\\":
            at += 1
            if text[at : at + 1] == "\n":
                number += 1
            else:
                pieces.append(text[at : at + 1])
        else:
            pieces.append(letter)
        at += 1
    if pieces:
        yield number, "".join(pieces).partition("\0")[0]


def conf_name(text: str) -> str:
    """`-` as `_`, but for those in brackets. BadName for a bracket without its partner."""
    if "[" not in text and "]" not in text:
        return text.replace("-", "_")
    made = []
    while text:
        begin = text.find("[")
        plain = text if begin < 0 else text[:begin]
        end = text.find("]", begin) if begin >= 0 else len(text)
        if "]" in plain or end < 0:
            raise BadName(text)
        made.append(plain.replace("-", "_") + text[len(plain) : end + 1])
        text = text[end + 1 :]
    return "".join(made)


def module_name_of(text: str) -> str:
    """A module's name of its file's or of what somebody wrote: `-` as `_`, without what follows a dot."""
    return text.partition(".")[0].replace("-", "_")[: _PATH_MAX - 1]


def split_softdep(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What comes before and what comes after, of `pre: a b post: c`; words before either are ignored."""
    lists: dict[str, list[str]] = {"": [], "pre:": [], "post:": []}
    mode = ""
    for word in split_words(text):
        if word in {"pre:", "post:"}:
            mode = word
        else:
            lists[mode].append(word)
    return tuple(lists["pre:"]), tuple(lists["post:"])


def split_words(text: str) -> list[str]:
    """The words of a softdep or weakdep. kmod takes a single leading blank for a part of the first one."""
    quirk = text[0] if text[:1] in _SPACES and text[1:2] not in _SPACES else ""
    for letter in _SPACES[1:]:
        text = text.replace(letter, " ")
    words = [word for word in text.split(" ") if word]
    if quirk and words:
        words[0] = quirk + words[0]
    return words


def render_softdep(pre: tuple[str, ...], post: tuple[str, ...]) -> str:
    """As `modprobe -c` prints it: without a blank before `post:`."""
    before = "pre: " + " ".join(pre) if pre else ""
    after = "post: " + " ".join(post) if post else ""
    return before + after
