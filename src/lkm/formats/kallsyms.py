# SPDX-License-Identifier: MIT
"""`/proc/kallsyms`: kernel symbols, asked by name or by address.

    ADDRESS TYPE NAME[\\t[MODULE]]

Source: `s_show` in the kernel's kernel/kallsyms.c (5.10 to 7.x). The kernel's own symbols come first, sorted
by address; those of modules, ftrace, BPF and kprobes follow, unsorted. Addresses are 0 for a reader who may
not see them (`kallsyms_show_value`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple, Optional

__all__ = ["Kallsyms", "Symbol"]

_VISIBLE = re.compile(rb"^0*[1-9a-fA-F][0-9a-fA-F]* ", re.MULTILINE)
_MODULE_SYMBOL = re.compile(
    rb"^([0-9a-f]{16}) [A-Za-z] (?!\$|\.L|__UNIQUE_ID)(\S+)\t\[([^\]\n]+)\]$", re.MULTILINE
)
"""Not the mapping symbols of arm64 (`$x`, `$d`) and local labels: these are no names."""
_REACH = 1 << 20
"""Bytes: an address further than this from the symbol before it belongs to no symbol."""


class Symbol(NamedTuple):
    """What an address is: `name` + `offset` bytes; `module` is "" for the kernel itself."""

    name: str
    offset: int
    module: str

    def __str__(self) -> str:
        where = f" [{self.module}]" if self.module else ""
        return f"{self.name}+{self.offset:#x}{where}" if self.offset else f"{self.name}{where}"


class Kallsyms:
    """The content of /proc/kallsyms. Nothing is parsed before it is asked for: the file has 100,000 lines."""

    def __init__(self, data: bytes) -> None:
        tab = data.find(b"\t[")
        self._core_end = len(data) if tab < 0 else data.rfind(b"\n", 0, tab) + 1
        self._data = data
        self._found: dict[str, int] = {}
        self._modules: dict[str, list[tuple[bytes, bytes, bytes]]] = {}

    @property
    def hidden(self) -> bool:
        """Whether all addresses are zero (kallsyms_show_value)."""
        return bool(self._data) and _VISIBLE.search(self._data) is None

    def address(self, name: str) -> int:
        """Address of the kernel's own symbol of that name (the first, if there are several), or 0."""
        if name not in self._found:
            at = self._data.find(b" " + name.encode() + b"\n", 0, self._core_end)
            start = self._data.rfind(b"\n", 0, at) + 1 if at >= 0 else 0
            self._found[name] = _number(self._data[start:at].split(b" ", 1)[0]) if at >= 0 else 0
        return self._found[name]

    def unique(self, name: str) -> int:
        """Address of the kernel's own symbol of that name; 0 also where several have it."""
        mark = b" " + name.encode() + b"\n"
        first = self._data.find(mark, 0, self._core_end)
        again = self._data.find(mark, first + 1, self._core_end) if first >= 0 else -1
        return self.address(name) if again < 0 else 0

    def named(self, name: str) -> list[tuple[int, str, str]]:
        """Address, type letter and module ("" for the kernel itself) of each symbol of that name.

        Not the imports (`U`, `u`) that a module shows until its init is done (elf_type, kernel/module/kallsyms.c).
        """
        found = []
        mark = b" " + name.encode()
        at = self._data.find(mark)
        while at >= 0:
            end = self._data.find(b"\n", at)
            rest = self._data[at + len(mark) : end if end >= 0 else len(self._data)]
            if not rest or rest.startswith(b"\t["):
                start = self._data.rfind(b"\n", 0, at) + 1
                address, _, kind = self._data[start:at].partition(b" ")
                if kind not in b"Uu":
                    kind = kind if rest else self._letter(kind, _number(address))
                    found.append((_number(address), _text(kind), _text(rest[2:-1])))
            at = self._data.find(mark, at + 1)
        return found

    def variables_ending(self, endings: Iterable[str]) -> list[tuple[int, int, str]]:
        """Start, greatest end and name of each of the kernel's own variables whose name ends so, by address."""
        found = set()
        for ending in endings:
            mark = ending.encode() + b"\n"
            at = self._data.find(mark, 0, self._core_end)
            while at >= 0:
                start = self._data.rfind(b"\n", 0, at) + 1
                end = at + len(mark)
                address, kind, name = self._data[start : end - 1].split(b" ", 2)
                if self._letter(kind, _number(address)) in b"dDbB":
                    found.add((_number(address), self._behind(address, end), _text(name)))
                at = self._data.find(mark, end, self._core_end)
        return sorted(found)

    def _letter(self, kind: bytes, address: int) -> bytes:
        """The type letter of a symbol of the kernel itself: 6.18 has that of code for its variables too."""
        data = any(
            self.address(start) <= address < self.address(end)
            for start, end in (("_sdata", "_edata"), ("__bss_start", "__bss_stop"))
        )
        return {b"t": b"d", b"T": b"D"}.get(kind, kind) if data else kind

    def _behind(self, address: bytes, at: int) -> int:
        """The first address above that one in the lines from `at`."""
        while at < self._core_end:
            following = self._data[at : self._data.find(b" ", at)]
            if following != address:
                return _number(following)
            at = self._data.find(b"\n", at) + 1
        return _number(address) + _REACH

    def nearest(self, address: int, module: str = "") -> Optional[Symbol]:
        """The symbol that `address` lies in, as far as addresses tell: the last one at or before it.

        If it is known to lie in `module`, only the symbols of that one are looked at, which is faster.
        """
        found = [self._nearest_module(address, module)]
        if not module:
            found.append(self._nearest_core(address))
        best = max((entry for entry in found if entry), key=lambda entry: entry[0], default=None)
        if best is None or address - best[0] >= _REACH:
            return None
        return Symbol(best[1], address - best[0], best[2])

    def module_symbols(self, module: str) -> list[tuple[int, str]]:
        """Address and name of each symbol of one module, by address."""
        return [(_number(start), _text(name)) for start, name, _ in self._parsed(module)]

    def _nearest_core(self, address: int) -> Optional[tuple[int, str, str]]:
        """Bisect the sorted part by lines: `low` is always the start of a line."""
        data, low, high = self._data, 0, self._core_end
        best: Optional[tuple[int, str, str]] = None
        while low < high:
            start = data.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = data.find(b"\n", start, self._core_end)
            end = self._core_end if end < 0 else end
            parts = data[start:end].split()
            if len(parts) >= 3 and _number(parts[0]) <= address:
                best = (_number(parts[0]), parts[2].decode("utf-8", "replace"), "")
                low = end + 1
            else:
                high = start
        return best

    def _nearest_module(self, address: int, module: str) -> Optional[tuple[int, str, str]]:
        entries = self._parsed(module)
        at = bisect_right(entries, (b"%016x" % address, b"\xff", b""))
        if not at:
            return None
        start, name, owner = entries[at - 1]
        return _number(start), _text(name), _text(owner)

    def _parsed(self, module: str) -> list[tuple[bytes, bytes, bytes]]:
        """(address, name, module) of each symbol of one module, or of all for "", sorted.

        They stay bytes: hexadecimal of one width sorts as its number does. The lines of a module stand
        together.
        """
        if module not in self._modules:
            start, end = self._core_end, len(self._data)
            if module:
                mark = f"\t[{module}]\n".encode()
                first = self._data.find(mark, start)
                start = self._data.rfind(b"\n", 0, first) + 1 if first >= 0 else end
                end = self._data.rfind(mark, start) + len(mark) if first >= 0 else end
            found = _MODULE_SYMBOL.findall(self._data, start, end)
            self._modules[module] = sorted(each for each in found if not module or each[2] == module.encode())
        return self._modules[module]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _number(text: bytes) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
