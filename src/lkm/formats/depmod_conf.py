# SPDX-License-Identifier: MIT
"""depmod.d files: `search`, `override`, `external`, `exclude`.

Source: depmod.d(5) and kmod 34 (`cfg_file_parse` in tools/depmod.c, `freadline_wrapped` in shared/util.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["BUILT_IN", "EXTERNAL", "DepmodConf", "parse_depmod_conf"]

BUILT_IN, EXTERNAL = b"built-in", b"external"
"""Words of `search` that are no directories."""


class DepmodConf:
    """What all files say together; of each list, what was said last comes first, as kmod keeps them.

    overrides  DIRECTORY/NAME, the directory below the module directory
    """

    __slots__ = ("excludes", "externals", "overrides", "searches")

    def __init__(
        self,
        searches: tuple[bytes, ...] = (),
        overrides: tuple[bytes, ...] = (),
        externals: tuple[bytes, ...] = (),
        excludes: tuple[bytes, ...] = (),
    ) -> None:
        self.searches, self.overrides = searches, overrides
        self.externals, self.excludes = externals, excludes

    def with_searches(self, searches: tuple[bytes, ...]) -> DepmodConf:
        """The same with other search directories."""
        return DepmodConf(searches, self.overrides, self.externals, self.excludes)

    def as_tuple(self) -> tuple[tuple[bytes, ...], ...]:
        """All that it says: equal if the configurations are."""
        return self.searches, self.overrides, self.externals, self.excludes


_NEWLINE, _BACKSLASH = b"\n\\"
_NOT_DONE = {b"include", b"make_map_files"}


def parse_depmod_conf(
    data: bytes,
    name: str,
    conf: DepmodConf,
    matches: Callable[[bytes], bool],
    report: Callable[[str, str], None],
) -> DepmodConf:
    """`conf` and what the file adds to it.

    matches  whether a pattern of `override` or `external` means this kernel
    report   is given ("ERROR" or "INFO", text) for a line that adds nothing
    """
    searches, overrides, externals, excludes = map(list, conf.as_tuple())
    for number, line in _lines(data):
        words = line.replace(b"\t", b" ").split(b" ") if line[:1] != b"#" else []
        words = [word for word in words if word]
        if not words:
            continue
        command, arguments = words[0], words[1:]
        if command == b"search":
            searches[:0] = reversed(arguments)
        elif command == b"exclude":
            excludes[:0] = reversed(arguments)
        elif command in _NOT_DONE:
            report("INFO", f"{name}:{number}: command {_text(command)} not implemented yet")
        elif command == b"override" and len(arguments) >= 3:
            if matches(arguments[1]):
                overrides.insert(0, arguments[2] + b"/" + arguments[0])
            else:
                report("INFO", f"{name}:{number}: override kernel did not match {_text(arguments[1])}")
        elif command == b"external" and len(arguments) >= 2:
            if matches(arguments[0]):
                externals.insert(0, arguments[1])
            else:
                report("INFO", f"{name}:{number}: external directory did not match {_text(arguments[0])}")
        else:
            report("ERROR", f"{name}:{number}: ignoring bad line starting with '{_text(command)}'")
    return DepmodConf(tuple(searches), tuple(overrides), tuple(externals), tuple(excludes))


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with what a backslash continues, and the number of each one's last line in the file.

    A backslash before anything else than a newline is dropped, and what follows it is kept.
    """
    number, line, escaped = 1, bytearray(), False
    for char in data:
        if char == _NEWLINE:
            if not escaped:
                yield number, bytes(line)
                line.clear()
            number, escaped = number + 1, False
        elif char == _BACKSLASH and not escaped:
            escaped = True
        else:
            line.append(char)
            escaped = False
    if line:
        yield number, bytes(line)


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
