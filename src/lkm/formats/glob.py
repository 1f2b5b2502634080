# SPDX-License-Identifier: MIT
"""Shell patterns as fnmatch(3) of the C library has them, without flags and in the C locale.

Keys of the alias indexes and names in modprobe.d are such patterns. Python's fnmatch knows neither backslashes nor
classes, takes the pattern's letters for more than bytes, and imports `re`, which is longer than `modprobe -D` may
run.
"""

from __future__ import annotations

__all__ = ["is_pattern", "matches"]

_MAGIC = frozenset("*?[\\")
_CLASSES = {
    "alnum": str.isalnum,
    "alpha": str.isalpha,
    "blank": " \t".__contains__,
    "cntrl": lambda letter: letter < " " or letter == "\x7f",
    "digit": str.isdigit,
    "graph": lambda letter: "!" <= letter <= "~",
    "lower": str.islower,
    "print": lambda letter: " " <= letter <= "~",
    "punct": lambda letter: "!" <= letter <= "~" and not letter.isalnum(),
    "space": " \t\n\v\f\r".__contains__,
    "upper": str.isupper,
    "xdigit": "0123456789abcdefABCDEF".__contains__,
}


def is_pattern(text: str) -> bool:
    """Whether `text` may match anything but itself."""
    return not _MAGIC.isdisjoint(text)


def matches(pattern: str, text: str) -> bool:
    """Whether `text` as a whole is what `pattern` describes: `*`, `?`, `[…]`, and `\\` before a letter as it is.

    A `[` that nothing closes stands for itself. `/` and a leading `.` are letters like any other.
    """
    if not (pattern.isascii() and text.isascii()):
        pattern, text = _bytewise(pattern), _bytewise(text)
    if not is_pattern(pattern):
        return pattern == text
    at = place = 0
    again = -1  # where to go on in the pattern when a letter does not fit: behind the last star
    resume = 0
    while True:
        if at < len(pattern) and pattern[at] == "*":
            at += 1
            again, resume = at, place
            continue
        if place < len(text):
            after = _step(pattern, at, text[place])
            if after:
                at, place = after, place + 1
                continue
        elif at == len(pattern):
            return True
        if again < 0 or resume >= len(text):
            return False
        resume += 1
        at, place = again, resume


def _bytewise(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _step(pattern: str, at: int, letter: str) -> int:
    """Where the pattern goes on after what stands at `at` if that takes `letter`, else 0. No star stands there."""
    if at >= len(pattern):
        return 0
    sign = pattern[at]
    if sign == "?":
        return at + 1
    if sign == "\\":
        return at + 2 if pattern[at + 1 : at + 2] == letter else 0
    if sign == "[":
        end, fits = _bracket(pattern, at + 1, letter)
        if end:
            return end if fits else 0
    return at + 1 if sign == letter else 0


def _bracket(pattern: str, at: int, letter: str) -> tuple[int, bool]:
    """What stands behind the `]` of a bracket whose content begins at `at`, and whether it takes `letter`.

    (0, False) if nothing closes it. An unknown class, or a range without an end, makes the whole pattern
    match nothing: then the end is the pattern's.
    """
    negated = pattern[at : at + 1] in {"!", "^"}
    at += negated
    first, found = True, False
    while at < len(pattern):
        if pattern[at] == "]" and not first:
            return at + 1, found != negated
        first = False
        if pattern.startswith("[:", at):
            end = pattern.find(":]", at + 2)
            name = pattern[at + 2 : end] if end > 0 else "-"
            if not name or (name.isalpha() and name.islower()):
                kind = _CLASSES.get(name)
                if kind is None:
                    return len(pattern), False
                found = found or (letter.isascii() and bool(kind(letter)))
                at = end + 2
                continue
        low, at = _bracket_letter(pattern, at)
        high = low
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] != "]":
            if at + 1 == len(pattern):
                return at, False
            high, at = _bracket_letter(pattern, at + 1)
        found = found or low <= letter <= high
    return 0, False


def _bracket_letter(pattern: str, at: int) -> tuple[str, int]:
    """One letter of a bracket, and where it ends; a `\\` takes the next as it is."""
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1
