# SPDX-License-Identifier: MIT
"""The content of each file that depmod writes.

Source: modules.dep(5) and kmod 34, tools/depmod.c (`output_deps` and its neighbours), shared/util.c
(`alias_normalize`). modules.symbols is sorted here; kmod's order is that of a hash table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import pack

from lkm.formats.index_writer import KEY_MAX, pack_values, render_index

__all__ = [
    "NotAscii",
    "alias_index",
    "alias_lines",
    "alias_text",
    "builtin_alias_index",
    "builtin_index",
    "checked",
    "dependency_index",
    "dependency_lines",
    "devname_text",
    "normal_aliases",
    "symbol_index",
    "symbol_text",
    "word_text",
]

Report = Callable[[str, str], None]

_MAJORS = {b"char-major-": "c", b"block-major-": "b"}


class NotAscii(Exception):
    """A key that an index cannot hold."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


def dependency_lines(paths: Sequence[bytes], needs: Sequence[Sequence[int]]) -> list[bytes]:
    """A line a module. `needs`: of each module all that it needs, as `paths` numbers them."""
    spaced = [b" " + path for path in paths]
    return [
        path + b":" + b"".join([spaced[other] for other in wanted]) if wanted else path + b":"
        for path, wanted in zip(paths, needs)
    ]


def dependency_index(names: Sequence[bytes], lines: Sequence[bytes]) -> bytes:
    """modules.dep.bin."""
    return _index({name: pack(">II", 1, number) + lines[number] + b"\0" for number, name in enumerate(names)})


def alias_text(names: Sequence[bytes], aliases: Sequence[bytes]) -> bytes:
    """modules.alias; `aliases` are each module's, each with a NUL behind it."""
    heading = b"# Aliases extracted from modules themselves.\n"
    return b"".join([heading, *map(alias_lines, names, aliases)])


def alias_lines(name: bytes, aliases: bytes) -> bytes:
    """A module's lines in modules.alias."""
    if not aliases:
        return b""
    end = b" " + name + b"\n"
    return b"alias " + aliases[:-1].replace(b"\0", end + b"alias ") + end


def alias_index(names: Sequence[bytes], aliases: Sequence[bytes], report: Report, *, warn: bool) -> bytes:
    """modules.alias.bin. With `warn` aliases that a module has twice are told of."""
    index = _Index(report, warn=warn)
    for number, items in enumerate(aliases):
        if items:
            index.add(items, number, names[number])
    return index.render()


class _Index:
    """Aliases, and the modules that they mean."""

    def __init__(self, report: Report, *, warn: bool) -> None:
        self.report, self.warn = report, warn
        self.entries: dict[bytes, bytes] = {}
        self.several: dict[bytes, list[tuple[int, bytes]]] = {}

    def add(self, items: bytes, number: int, name: bytes) -> None:
        """A module's aliases."""
        entries, several = self.entries, self.several
        value = pack(">II", 1, number) + name + b"\0"
        for key in normal_aliases(items, self.report):
            if key not in entries:
                entries[key] = value
                continue
            values = several.setdefault(key, [_unpack(entries[key])])
            if self.warn and any(name == other for _, other in values):
                text = _text(key)
                self.report("WARNING", f"duplicate module alias:\n{text} {_text(name)}")
            values.append((number, name))

    def render(self) -> bytes:
        """The index file."""
        for key, values in self.several.items():
            self.entries[key] = pack_values(values)
        return _index(self.entries)


def normal_aliases(items: bytes, report: Report) -> list[bytes]:
    """A module's aliases as the index has them; those whose brackets do not match are told of and left out."""
    keys = items[:-1].split(b"\0") if items else []
    if b"-" not in items and b"[" not in items and b"]" not in items and len(items) <= KEY_MAX:
        return keys
    found = []
    for key in keys:
        normal = _outside_brackets(key) if b"[" in key or b"]" in key else key.replace(b"-", b"_")
        if normal is None:
            report("WARNING", f"Unmatched bracket in {_text(key)}")
        else:
            found.append(normal[:KEY_MAX])
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _unpack(value: bytes) -> tuple[int, bytes]:
    return int.from_bytes(value[4:8], "big"), value[8:-1]


def _outside_brackets(alias: bytes) -> bytes | None:
    """`-` as `_`, but not in `[…]`; None if the brackets do not match."""
    done, rest = b"", alias
    while rest:
        before, bracket, rest = rest.partition(b"[")
        if b"]" in before:
            return None
        done += before.replace(b"-", b"_")
        if bracket:
            inside, closing, rest = rest.partition(b"]")
            if not closing:
                return None
            done += b"[" + inside + b"]"
    return done


def word_text(word: bytes, heading: bytes, names: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """modules.softdep and modules.weakdep: `values` are each module's, each with a NUL behind it."""
    lines = [b"# " + heading + b" dependencies extracted from modules themselves.\n"]
    for number, items in enumerate(values):
        if items:
            lines += [word + b" " + names[number] + b" " + item + b"\n" for item in items[:-1].split(b"\0")]
    return b"".join(lines)


def symbol_text(names: Sequence[bytes], symbols: Iterable[tuple[bytes, int]]) -> bytes:
    """modules.symbols. `symbols`: name and module, sorted."""
    tails = [b" " + name + b"\n" for name in names]
    lines = [b"# Aliases for symbols, used by symbol_request().\n"]
    lines += [b"alias symbol:" + symbol + tails[number] for symbol, number in symbols]
    return b"".join(lines)


def symbol_index(names: Sequence[bytes], owners: dict[bytes, int]) -> bytes:
    """modules.symbols.bin. `owners`: symbol → module, counted from 1; 0 is the kernel."""
    values = [b"", *(pack(">II", 1, number) + name + b"\0" for number, name in enumerate(names))]
    return _index({b"symbol:" + symbol: values[number] for symbol, number in owners.items() if number})


def builtin_index(data: bytes, report: Report) -> bytes:
    """modules.builtin.bin, from modules.builtin."""
    entries: dict[bytes, list[tuple[int, bytes]]] = {}
    for line in data.splitlines():
        if not line[:1].isalpha():
            report("ERROR", f"Invalid modules.builtin line: {_text(line)}")
            continue
        name = line.rpartition(b"/")[2].partition(b".")[0].replace(b"-", b"_")
        entries.setdefault(name, []).append((0, b""))
    return _index({name: pack_values(values) for name, values in entries.items()})


def builtin_alias_index(data: bytes, report: Report) -> bytes:
    """modules.builtin.alias.bin, from modules.builtin.modinfo."""
    entries: dict[bytes, list[tuple[int, bytes]]] = {}
    for item in data.split(b"\0"):
        name, _, rest = item.partition(b".")
        key, _, alias = rest.partition(b"=")
        if key != b"alias" or not alias or not name:
            continue
        normal = _outside_brackets(alias)
        if normal is None:
            report("WARNING", f"Unmatched bracket in {_text(alias)}")
        else:
            entries.setdefault(normal[:KEY_MAX], []).append((0, name))
    return _index({alias: pack_values(values) for alias, values in entries.items()})


def devname_text(names: Sequence[bytes], aliases: Sequence[bytes], report: Report) -> bytes:
    """modules.devname: of each module with an alias `devname:` the device's name, type and numbers."""
    lines = []
    for number, items in enumerate(aliases):
        if b"devname:" not in items:
            continue
        name, device = _device(items[:-1].split(b"\0"))
        if name and device:
            lines.append(names[number] + b" " + name + b" " + device + b"\n")
        elif name is not None:
            report(
                "ERROR",
                f"Module '{_text(names[number])}' has devname ({_text(name)}) but "
                "lacks major and minor information. Ignoring.",
            )
    return b"".join([b"# Device nodes to trigger on-demand module loading.\n", *lines]) if lines else b""


def _device(aliases: Iterable[bytes]) -> tuple[bytes | None, bytes]:
    """Name and numbers: those that were given last when both are known."""
    name, device = None, b""
    for alias in aliases:
        if alias.startswith(b"devname:"):
            name = alias[8:]
        for prefix, letter in _MAJORS.items():
            if alias.startswith(prefix):
                major, dash, minor = alias[len(prefix) :].partition(b"-")
                digits = minor[: len(minor) - len(minor.lstrip(b"0123456789"))]
                if dash and major.isdigit() and digits:
                    device = f"{letter}{int(major)}:{int(digits)}".encode()
        if name is not None and device:
            break
    return name, device


def checked(entries: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The same. Raises `NotAscii` for a key that an index cannot hold."""
    for key in entries:
        if not key.isascii():
            raise NotAscii(key)
    return entries


def _index(entries: dict[bytes, bytes]) -> bytes:
    return render_index(checked(entries))
