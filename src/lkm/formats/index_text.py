# SPDX-License-Identifier: MIT
"""The text files beside kmod's binary indexes, with the same look-ups: for trees whose `.bin` is not there.

Other depmods (busybox's) write text only, and a torn `.bin` need not stop a machine from booting. Slower: the whole
file is read, and a wildcard look-up tries every key.
"""

from __future__ import annotations

from lkm.formats.glob import is_pattern, matches
from lkm.formats.modprobe_conf import BadName, conf_name, module_name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["TextIndex", "parse_alias_text", "parse_builtin_modinfo", "parse_builtin_text", "parse_dep_text"]


class TextIndex:
    """Keys and values with the look-ups of `lkm.formats.index.Index`; a value's priority is its place."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[tuple[int, str]]] = {}
        for priority, (key, value) in enumerate(rows):
            self._values.setdefault(key, []).append((priority, value))
        self._patterns = [key for key in self._values if is_pattern(key)]

    def search(self, key: str) -> str | None:
        """The first value of exactly this key, or None."""
        values = self._values.get(key)
        return values[0][1] if values else None

    def search_wild(self, key: str) -> list[str]:
        """The values of all keys that match `key`, the keys being patterns, in the order of the file."""
        found = [] if is_pattern(key) else list(self._values.get(key, ()))
        for pattern in self._patterns:
            if matches(pattern, key):
                found += self._values[pattern]
        return [value for _, value in sorted(found)]

    def items(self) -> Iterator[tuple[str, int, str]]:
        """Every (key, priority, value), sorted by key."""
        for key in sorted(self._values):
            for priority, value in self._values[key]:
                yield key, priority, value


def parse_dep_text(data: bytes) -> list[tuple[str, str]]:
    """modules.dep: (module, its line)."""
    rows = []
    for line in _lines(data):
        path, colon, _ = line.partition(":")
        if colon and "\0" not in line:  # torn
            rows.append((module_name_of(path.rpartition("/")[2]), line))
    return rows


def parse_alias_text(data: bytes) -> list[tuple[str, str]]:
    """modules.alias and modules.symbols: (pattern, module), with `_` for `-` in patterns, as in the binary index."""
    rows = []
    for line in _lines(data):
        words = line.split(" ")
        if len(words) >= 3 and words[0] == "alias":
            rows += _row(" ".join(words[1:-1]), words[-1])
    return rows


def _row(alias: str, module: str) -> list[tuple[str, str]]:
    """None for an alias with half a bracket: depmod leaves it out of the binary index."""
    try:
        return [(conf_name(alias), module)]
    except BadName:
        return []


def parse_builtin_text(data: bytes) -> list[tuple[str, str]]:
    """modules.builtin: (module, "")."""
    return [(module_name_of(line.rpartition("/")[2]), "") for line in _lines(data)]


def parse_builtin_modinfo(data: bytes) -> list[tuple[str, str]]:
    """modules.builtin.modinfo: (alias, module)."""
    rows = []
    for record in data.decode("utf-8", "surrogateescape").split("\0"):
        key, equals, value = record.partition("=")
        module, dot, field = key.partition(".")
        if equals and dot and field == "alias":
            rows.append((value.replace("-", "_"), module))
    return rows


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [line for line in lines if line and not line.startswith("#")]
