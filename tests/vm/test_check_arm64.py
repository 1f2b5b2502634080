# SPDX-License-Identifier: MIT
"""What `lkm check` foretells of arm64's own checks, against a kernel; amd64 has the long list (test_check.py)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lkm.formats.elf import SHF_ALLOC, SHT_REL, SHT_RELA, STB_WEAK
from lkm.formats.raw_module import RELA
from lkm.lab.vm import Guest
from lkm.preflight.check import check_module
from lkm.preflight.values import Cause
from tests.mutants.draw import Mutant
from tests.mutants.editor import THIS_MODULE, Editor
from tests.mutants.lab import as_root, difference, fetch_modules, load_all, look, target_of, write_share

ABS64, ADRP = 257, 275


def _table(editor: Editor, kind: int, section: str = "") -> tuple[int, int, tuple[int, int, int, int]]:
    """A table with a relocation of that type: its section, where the entry is in the file, and the entry."""
    rows = editor.raw.sections
    for number, row in enumerate(rows):
        if row.type != SHT_RELA or not rows[row.info].flags & SHF_ALLOC:
            continue
        if section and editor.raw.names[row.info] != section:
            continue
        for place, entry in enumerate(RELA.iter_unpack(editor.raw.content(row))):
            if entry[1] == kind:
                return number, row.offset + place * RELA.size, entry
    raise LookupError(kind)


def _changed(data: bytes, was: int, *, section: str = "", **fields: int) -> bytes:
    """One relocation of that type with another type, symbol or addend."""
    editor = Editor(data)
    _, at, (_, _, symbol, addend) = _table(editor, was, section)
    struct.pack_into(
        "<IIq", editor.data, at + 8, fields.get("kind", was), fields.get("symbol", symbol),
        fields.get("addend", addend),
    )  # fmt: skip
    return editor.result()


def _weak(data: bytes, kind: int) -> bytes:
    """A relocation for a weak symbol that nobody has."""
    editor = Editor(data)
    editor.add_symbol("nobody_has_it", info=STB_WEAK << 4)
    return _changed(editor.result(), kind, symbol=len(editor.symbols()) - 1)


def _without(data: bytes, section: str) -> bytes:
    editor = Editor(data)
    editor.rename_section(section, ".none")
    return editor.result()


def _without_addends(data: bytes) -> bytes:
    editor = Editor(data)
    editor.set_section(_table(editor, ADRP)[0], type=SHT_REL)
    return editor.result()


def _mutants(data: bytes) -> list[Mutant]:
    made = {"as-it-is": Editor(data).result(), "without-addends": _without_addends(data)}
    made |= {f"unknown-{kind}": _changed(data, ADRP, kind=kind) for kind in (1, 281, 294, 1024)}
    for kind in (258, 259, 263, 265, 267, 270, 271):
        made[f"address-{kind}"] = _changed(data, ABS64, section=THIS_MODULE, kind=kind)
    for kind in (259, 261, 262, 263, 270, 273, 274, 275, 279, 280):  # what fits would be called as its init
        made[f"nothing-{kind}"] = _changed(
            data, ABS64, section=THIS_MODULE, kind=kind, symbol=0, addend=70000
        )
    made |= {f"weak-{kind}": _weak(data, kind) for kind in (ADRP, 283)}
    made |= {name: _without(data, name) for name in (".plt", ".init.plt", ".text.ftrace_trampoline")}
    return [Mutant(name, content) for name, content in made.items()]


@pytest.mark.parametrize("kernel", ["6.1-arm64"], indirect=True)
def test_what_is_foretold_of_arm64(kernel: str, tmp_path: Path) -> None:
    """Errno and lines of each; the exports are read from the flat image."""
    modules = fetch_modules(kernel)
    target = target_of(kernel, modules)._replace(policy=as_root())
    mutants = _mutants(modules["ts_bm"])
    write_share(str(tmp_path), mutants, modules)
    with Guest.clone(kernel, share=str(tmp_path)) as guest:
        loaded, names = look(guest)
        target = target._replace(loaded=loaded, sysfs_names=names)
        told = load_all(guest, mutants)
    wrong, unknown, causes = {}, set(), set()
    for mutant in mutants:
        prediction = check_module(mutant.data, target)
        causes |= {problem.cause for problem in prediction.problems}
        if prediction.loads is None:
            unknown.add(mutant.id)
            continue
        if found := difference(prediction, told[mutant.id]):
            wrong[mutant.id] = found
    assert not wrong
    assert not unknown
    assert {Cause.RELOCATION, Cause.ARCHITECTURE_SECTIONS} <= causes
