# SPDX-License-Identifier: MIT
"""Module trees for depmod, and what kmod's own depmod makes of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from lkm.formats.index import Index
from tests.builders import default_modinfo, make_module

RELEASE = "6.1.0-test"
KMOD = "/sbin/depmod"
TEXTS = ("dep", "alias", "softdep", "symbols", "devname")
INDEXES = ("dep.bin", "alias.bin", "symbols.bin", "builtin.bin", "builtin.alias.bin")

Content = Mapping[str, object]


def module_bytes(
    name: str,
    *,
    imports: Iterable[str] = (),
    exports: Iterable[str] = (),
    weak: Iterable[str] = (),
    info: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A module that needs some names and exports others."""
    return make_module(
        name,
        modinfo=[*default_modinfo(name), *info],
        imports=list(imports),
        weak_imports=list(weak),
        exports={symbol: number for number, symbol in enumerate(exports, 1)},
    )


def make_tree(top: Path, files: Mapping[str, bytes], *, order: Iterable[str] | None = ()) -> Path:
    """`top`/lib/modules/RELEASE with these files; `order` are the lines of modules.order, None: without it."""
    directory = top / "lib/modules" / RELEASE
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    for name, lines in (("order", order), ("builtin", ()), ("builtin.modinfo", ())):
        listing = directory / f"modules.{name}"
        if lines is not None and not listing.exists():
            listing.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return directory


def read_files(directory: Path) -> dict[str, object]:
    """What the files say: lines, those of modules.symbols sorted; of an index the rows, sorted too."""
    found: dict[str, object] = {}
    for name in TEXTS:
        lines = (directory / f"modules.{name}").read_bytes().split(b"\n")
        found[name] = sorted(lines) if name == "symbols" else lines
    for name in INDEXES:
        data = (directory / f"modules.{name}").read_bytes()
        found[name] = rows_of(data, name)
    return found


def rows_of(data: bytes, name: str = "index") -> list[tuple[str, int, str]]:
    """The rows of an index, in its order; kmod leaves an empty file where it has nothing to read."""
    return list(Index(data, name=name).items()) if data else []


def run_kmod(top: Path, *options: str, release: str = RELEASE) -> tuple[int, str, dict[str, object]]:
    """Exit code, messages and files of kmod's depmod; the files are removed."""
    directory = top / "lib/modules" / release
    done = subprocess.run(
        [KMOD, "-b", str(top), *options, release], capture_output=True, text=True, check=False
    )
    written = [directory / f"modules.{name}" for name in (*TEXTS, *INDEXES)]
    found = read_files(directory) if written[0].exists() else {}
    for path in written:
        path.unlink(missing_ok=True)
    return done.returncode, done.stdout + done.stderr, found
