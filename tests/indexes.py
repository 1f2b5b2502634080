# SPDX-License-Identifier: MIT
"""Binary indexes and module trees for tests, made from nothing: not by the writer that depmod has."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = tuple[str, int, str]


def build_index(rows: Iterable[Row]) -> bytes:
    """The index of (key, priority, value) rows, which are sorted by key here; values keep their order."""
    made = bytearray(struct.pack(">III", 0xB007F457, 0x00020001, 0))
    root = _node(
        made, [(key.encode(), priority, value.encode()) for key, priority, value in rows], at_root=True
    )
    made[8:12] = struct.pack(">I", root)
    return bytes(made)


def _node(made: bytearray, rows: Sequence[tuple[bytes, int, bytes]], *, at_root: bool = False) -> int:
    prefix = b"" if at_root else _common([key for key, _, _ in rows])
    own = [row for row in rows if len(row[0]) == len(prefix)]
    below: dict[int, list[tuple[bytes, int, bytes]]] = {}
    for key, priority, value in rows:
        if len(key) > len(prefix):
            below.setdefault(key[len(prefix)], []).append((key[len(prefix) + 1 :], priority, value))
    children = {letter: _node(made, below[letter]) for letter in sorted(below)}
    offset = len(made)
    if prefix:
        made += prefix + b"\0"
        offset |= 0x80000000
    if children:
        first, last = min(children), max(children)
        made += bytes((first, last))
        for letter in range(first, last + 1):
            made += struct.pack(">I", children.get(letter, 0))
        offset |= 0x20000000
    if own:
        made += struct.pack(">I", len(own))
        for _, priority, value in own:
            made += struct.pack(">I", priority) + value + b"\0"
        offset |= 0x40000000
    return offset


def _common(keys: Sequence[bytes]) -> bytes:
    """What all keys begin with."""
    low, high = min(keys), max(keys)
    length = next(
        (at for at, pair in enumerate(zip(low, high)) if pair[0] != pair[1]), min(len(low), len(high))
    )
    return low[:length]


def make_tree(
    top: Path,
    *,
    release: str = "6.1.0-test",
    modules: Mapping[str, Sequence[str]] | None = None,
    aliases: Sequence[tuple[str, str]] = (),
    symbols: Sequence[tuple[str, str]] = (),
    builtin: Sequence[str] = (),
    builtin_aliases: Sequence[tuple[str, str]] = (),
    files: Mapping[str, str] | None = None,
) -> Path:
    """A tree below `top`; returns its lib/modules/RELEASE. `modules`: path → paths of all that it needs.

    Every module's file is there, and holds its path. `files`: path below `top` → text.
    """
    folder = top / "lib/modules" / release
    folder.mkdir(parents=True)
    lines: list[Row] = []
    for priority, (path, needed) in enumerate((modules or {}).items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path, encoding="utf-8")
        name = Path(path).name.split(".")[0].replace("-", "_")
        lines.append((name, priority, f"{path}: {' '.join(needed)}".rstrip(" ")))
    order = {name: priority for name, priority, _ in lines}
    for name, rows in {
        "modules.dep": lines,
        "modules.alias": [(key, order.get(module, 0), module) for key, module in aliases],
        "modules.symbols": [(f"symbol:{key}", order.get(module, 0), module) for key, module in symbols],
        "modules.builtin": [(module, 0, "") for module in builtin],
        "modules.builtin.alias": [(key, 0, module) for key, module in builtin_aliases],
    }.items():
        (folder / f"{name}.bin").write_bytes(build_index(rows))
    for path, text in (files or {}).items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, encoding="utf-8")
    return folder
