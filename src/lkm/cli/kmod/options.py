# SPDX-License-Identifier: MIT
"""Command lines as getopt_long(3) of glibc reads them, with its messages: the classic tools' own.

Options and operands may stand in any order (unless POSIXLY_CORRECT is set), short options in one word, long ones
abbreviated as far as that is unique, values in the same word or the next. argparse differs in each of these,
and takes longer to import than a whole tool may run.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Arguments", "OptionError"]


class OptionError(Exception):
    """A command line that getopt_long would not take; the text is its message without the program's name."""


class Arguments:
    """One command line. Iterating gives (key, value) an option, in order; then `operands` is complete.

    short     as getopt(3) has it: letters, a `:` after one that takes a value, a leading `+` to stop at the
              first operand
    long      name → key, the name with a trailing `=` if it takes a value; may be abbreviated
    own       the same, for options that the original tool does not have: they are only known in full, so that
              they leave its abbreviations unique

    The key of a short option is its letter. `value` is "" for an option without one. Iterating raises
    OptionError at the place where getopt_long would complain.
    """

    def __init__(
        self,
        argv: Sequence[str],
        short: str,
        long: Mapping[str, str],
        own: Mapping[str, str] | None = None,
    ) -> None:
        self._in_order = short.startswith("+") or "POSIXLY_CORRECT" in os.environ
        self._short = short.lstrip("+")
        self._long = long
        self._own = own or {}
        self._rest = list(argv)
        self.operands: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, str]]:
        rest = self._rest
        while rest:
            word = rest.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                yield self._take_long(word[2:])
            elif word.startswith("-") and word != "-":
                yield from self._take_short(word[1:])
            elif self._in_order:
                rest.insert(0, word)
                break
            else:
                self.operands.append(word)
        self.operands += rest
        rest.clear()

    def _take_short(self, letters: str) -> Iterator[tuple[str, str]]:
        while letters:
            letter, letters = letters[0], letters[1:]
            at = self._short.find(letter) if letter not in ":;" else -1
            if at < 0:
                raise OptionError(f"invalid option -- '{letter}'")
            if self._short[at + 1 : at + 2] != ":":
                yield letter, ""
                continue
            if not letters and not self._rest:
                raise OptionError(f"option requires an argument -- '{letter}'")
            yield letter, letters or self._rest.pop(0)
            return

    def _take_long(self, text: str) -> tuple[str, str]:
        typed, equals, value = text.partition("=")
        name, key = self._find_long(typed, text)
        if not name.endswith("="):
            if equals:
                raise OptionError(f"option '--{name}' doesn't allow an argument")
            return key, ""
        if not equals:
            if not self._rest:
                raise OptionError(f"option '--{name[:-1]}' requires an argument")
            value = self._rest.pop(0)
        return key, value

    def _find_long(self, typed: str, text: str) -> tuple[str, str]:
        for table in (self._long, self._own):
            for name in (typed, typed + "="):
                if name in table and not typed.endswith("="):
                    return name, table[name]
        found = [(name, key) for name, key in self._long.items() if name.startswith(typed)]
        if not found:
            raise OptionError(f"unrecognized option '--{text}'")
        first = found[0]
        # Two names of one option are no ambiguity.
        others = [row for row in found[1:] if row[1] != first[1]]
        if others:
            names = " ".join(f"'--{name.rstrip('=')}'" for name, _ in (first, *others))
            raise OptionError(f"option '--{text}' is ambiguous; possibilities: {names}")
        return first
