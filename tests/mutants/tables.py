# SPDX-License-Identifier: MIT
"""Mutations of the file's tables and of its signature."""

from __future__ import annotations

import random

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS
from lkm.formats.pkcs7 import signer_of
from lkm.formats.signature import MARKER
from lkm.formats.signer import TRAILER
from lkm.preflight.rules import ElfChecks, rules_for
from tests.mutants.editor import THIS_MODULE, Editor
from tests.mutants.registry import Scene, mutation


def _header(name: str, field: str, *values: int) -> None:
    def change(editor: Editor, rng: random.Random, scene: Scene) -> bool:
        editor.set_header(field, rng.choice(values))
        return True

    mutation(name, tables=True)(change)


_header("type", "type", 0, 2, 3, 4, 0xFE00)
_header("machine", "machine", 3, 8, 40, 183, 243, 9999)
_header("section-header-size", "shentsize", 0, 40, 63, 65, 128)
_header("section-table-beyond-file", "shoff", 1 << 40, (1 << 64) - 64, 0x7FFFFFFF)
_header("too-many-sections", "shnum", 0xFFF0, 0x8000)
_header("name-table-index", "shstrndx", 0, 0xFFFE, 0x4000)


@mutation("magic", tables=True)
def _magic(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.data[rng.randrange(4)] ^= 1 << rng.randrange(8)
    return True


@mutation("short", tables=True)
def _short(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    del editor.data[rng.randrange(1, 64) :]
    return True


@mutation("empty", tables=True)
def _empty(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.data.clear()
    return True


@mutation("truncated", tables=True)
def _truncated(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    del editor.data[rng.randrange(64, len(editor.data)) :]
    return True


@mutation("section-0", tables=True)
def _section_0(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    field = rng.choice(("type", "size", "addr"))
    editor.set_section(0, **{field: rng.choice((1, 8, 0x1000))})
    return True


def _any_with_content(editor: Editor, rng: random.Random, *, alloc: bool | None = None) -> int:
    rows = editor.raw.sections
    return rng.choice([
        i for i, row in enumerate(rows)
        if i and row.type not in (0, SHT_NOBITS) and (alloc is None or bool(row.flags & SHF_ALLOC) == alloc)
    ])  # fmt: skip


@mutation("section-beyond-file", tables=True)
def _section_beyond(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    field = rng.choice(("offset", "size"))
    value = rng.choice((len(editor.data) + 1, 1 << 33, (1 << 64) - 8))
    editor.set_section(_any_with_content(editor, rng), **{field: value})
    return True


@mutation("section-name-beyond-table", tables=True)
def _name_beyond(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    index = _any_with_content(editor, rng, alloc=True)
    editor.set_section(index, name=editor.raw.sections[editor.raw.header.shstrndx].size + rng.randrange(9))
    return True


@mutation("names-not-terminated", tables=True)
def _names_open(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    row = editor.raw.sections[editor.raw.header.shstrndx]
    editor.data[row.offset + row.size - 1] = ord("x")
    return True


@mutation("names-empty", tables=True)
def _names_empty(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    index = editor.raw.header.shstrndx
    if scene.target.release.startswith("5.10"):
        return False  # it reads the byte before the table: what that is decides
    editor.set_section(index, size=0)
    return True


@mutation("names-of-other-type", tables=True)
def _names_type(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_section(editor.raw.header.shstrndx, type=1)
    return True


@mutation("symbols-linked-nowhere", tables=True)
def _symbol_link(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_section(editor.table, link=rng.choice((0, 0x1000, 0xFFFFFFFF)))
    return True


@mutation("symbol-names-of-other-type", tables=True)
def _strtab_type(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_section(editor.raw.sections[editor.table].link, type=1)
    return True


@mutation("stripped", tables=True)
def _stripped(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_section(editor.table, type=1)
    return True


@mutation("two-symbol-tables", tables=True)
def _two_tables(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """The second stands behind the first: older kernels take that."""
    index = editor.raw.sections[editor.table].link
    if index < editor.table:
        return False
    if not editor.has(".comment"):
        return False
    comment = editor.index(".comment")
    if comment < editor.table and rules_for(scene.target.release).elf is not ElfChecks.SPLIT:
        return False
    editor.set_section(comment, type=2, link=index)
    return True


@mutation("symbol-names-without-nul", tables=True)
def _strtab_nul(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not rules_for(scene.target.release).string_table:
        return False  # read beyond: what follows decides
    row = editor.raw.sections[editor.raw.sections[editor.table].link]
    editor.data[row.offset + rng.choice((0, row.size - 1))] = ord("x")
    return True


@mutation("symbol-name-beyond-table", tables=True)
def _symbol_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not rules_for(scene.target.release).string_table:
        return False
    editor.set_symbol(rng.randrange(1, len(editor.symbols())), name=1 << 24)
    return True


@mutation("no-this-module")
def _no_this_module(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.rename_section(THIS_MODULE, ".gnu.linkonce.that_module")
    return True


@mutation("this-module-not-allocated", tables=True)
def _this_not_allocated(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    index = editor.index(THIS_MODULE)
    editor.set_section(index, flags=editor.raw.sections[index].flags & ~SHF_ALLOC)
    return True


@mutation("this-module-without-content", tables=True)
def _this_nobits(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not rules_for(scene.target.release).early_checks:
        return False  # older kernels go on with zeros
    editor.set_section(editor.index(THIS_MODULE), type=SHT_NOBITS)
    return True


@mutation("struct-larger")
def _struct_larger(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_content(THIS_MODULE, editor.content(THIS_MODULE) + bytes(64 * rng.randrange(1, 9)))
    return True


@mutation("struct-smaller")
def _struct_smaller(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not rules_for(scene.target.release).early_checks:
        return False  # older kernels write behind it
    editor.set_content(THIS_MODULE, editor.content(THIS_MODULE)[: -64 * rng.randrange(1, 3)])
    return True


@mutation("two-this-modules")
def _two_structs(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has(".comment"):
        return False
    editor.rename_section(".comment", THIS_MODULE)
    return True


@mutation("two-modinfos")
def _two_modinfos(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has(".comment"):
        return False
    editor.rename_section(".comment", ".modinfo")
    return True


def _trailer(editor: Editor, *, size: int, kind: int = 2, algo: int = 0, pad: bytes = bytes(3)) -> None:
    editor.tail = bytes((algo, 0, kind, 0, 0)) + pad + size.to_bytes(4, "big") + MARKER


@mutation("signature-too-long", tables=True)
def _sig_long(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    _trailer(editor, size=len(editor.data) + rng.randrange(1, 1000))
    return True


@mutation("signature-of-other-kind", tables=True)
def _sig_kind(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    _trailer(editor, size=16, kind=rng.choice((0, 1, 3)))
    return True


@mutation("signature-with-names", tables=True)
def _sig_fields(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if rng.random() < 0.5:
        _trailer(editor, size=16, algo=rng.randrange(1, 5))
    else:
        _trailer(editor, size=16, pad=b"\0\1\0")
    return True


@mutation("signature-is-junk", tables=True)
def _sig_junk(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    junk = bytes(rng.randrange(256) for _ in range(64))
    editor.data += b"\xff" + junk
    _trailer(editor, size=65)
    return True


@mutation("signed", tables=True)
def _signed(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """As the distribution signed it, where nothing else was changed; else changed after it had been signed."""
    editor.tail = editor.signature
    return bool(editor.tail)


@mutation("changed-after-signing", tables=True)
def _changed(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.data[rng.randrange(64, len(editor.data))] ^= 1 << rng.randrange(8)
    editor.tail = editor.signature
    return bool(editor.tail)


@mutation("other-signer", tables=True)
def _other_signer(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """The certificate's serial number is another: nobody has such a key."""
    tail = bytearray(editor.signature)
    signer = signer_of(editor.signature[: -TRAILER.size - len(MARKER)]) if tail else None
    if signer is None:
        return False
    tail[tail.find(signer) + len(signer) - 1] ^= 1 << rng.randrange(8)
    editor.tail = bytes(tail)
    return True


@mutation("marker-alone", tables=True)
def _marker(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.data[:] = bytes(rng.randrange(1, 12))
    editor.tail = MARKER
    return True
