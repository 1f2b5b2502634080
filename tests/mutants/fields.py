# SPDX-License-Identifier: MIT
"""Mutations of single fields: of the header, of a section's row, of a symbol, of an entry of a table.

Most of these fields are none that the kernel looks at: what is foretold is that it does not.
"""

from __future__ import annotations

import random
import struct

from lkm.formats.elf import SHF_ALLOC, SHT_NOBITS, SHT_NULL, SHT_RELA, SHT_SYMTAB
from tests.mutants.editor import HEADER_FIELDS, THIS_MODULE, Editor
from tests.mutants.registry import Scene, mutation

_UNREAD = (
    "class",
    "data",
    "ident_version",
    "abi",
    "version",
    "entry",
    "phoff",
    "flags",
    "ehsize",
    "phentsize",
    "phnum",
)
_SIZES = {"B": 8, "H": 16, "I": 32, "Q": 64}


@mutation("header-unread")
def _header_unread(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """What no kernel looks at: 32 bits, the other byte order, other versions."""
    for field in rng.sample(_UNREAD, 2):
        bits = _SIZES[HEADER_FIELDS[field][1]]
        editor.set_header(field, rng.choice((0, 1, 2, 3, rng.randrange(1 << bits), (1 << bits) - 1)))
    return True


@mutation("fewer-sections", tables=True)
def _fewer(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    count = editor.raw.header.shnum
    editor.set_header("shnum", rng.choice((0, 1, 2, count - 1, rng.randrange(count))))
    return True


@mutation("more-sections", tables=True)
def _more(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """The rows behind the last one are whatever the file has there, or are not there."""
    editor.set_header("shnum", editor.raw.header.shnum + rng.randrange(1, 4))
    return True


@mutation("names-elsewhere", tables=True)
def _names_elsewhere(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    count, right = editor.raw.header.shnum, editor.raw.header.shstrndx
    editor.set_header("shstrndx", rng.choice([i for i in range(1, count) if i != right]))
    return True


@mutation("section-table-shifted", tables=True)
def _shifted(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Not so that the names are nowhere: 5.10 looks for their end before the file, and dies of it."""
    editor.set_header("shoff", max(0, editor.raw.header.shoff + rng.choice((-64, -8, -1, 1, 4, 64))))
    raw = editor.raw
    names = raw.sections[raw.header.shstrndx :][:1]
    return not names or names[0].offset + names[0].size > 0


def _rows(editor: Editor, *types: int, alloc: bool) -> list[int]:
    return [
        i for i, row in enumerate(editor.raw.sections)
        if i and (row.type in types or (not types and row.type not in (SHT_NULL, SHT_NOBITS)))
        and bool(row.flags & SHF_ALLOC) is alloc
    ]  # fmt: skip


@mutation("section-unread")
def _section_unread(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Address, size of entries, and the links of what is neither symbols nor relocations."""
    index = rng.choice(_rows(editor, alloc=True))
    field = rng.choice(("addr", "entsize", "link"))
    editor.set_section(index, **{field: rng.choice((1, 3, 0xFFFFFFFF))})
    editor.set_section(editor.table, info=rng.choice((0, 1, 0xFFFFFFFF)))
    return True


@mutation("section-flags")
def _section_flags(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Compressed, thread-local, in a group, ordered, of the system's own: nobody minds."""
    index = rng.choice(_rows(editor, alloc=True))
    flags = editor.raw.sections[index].flags
    editor.set_section(index, flags=flags | rng.choice((0x20, 0x80, 0x200, 0x400, 0x800, 1 << 40, 1 << 63)))
    return True


@mutation("section-alignment")
def _alignment(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    rows = [i for i in _rows(editor, alloc=True) if i != editor.index(THIS_MODULE)]
    editor.set_section(rng.choice(rows), align=rng.choice((0, 3, 4096, 1 << 16)))
    return True


@mutation("section-too-large")
def _too_large(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """More than there is room for: by its size, where that is not in the file, or by its alignment."""
    empty = _rows(editor, SHT_NOBITS, alloc=True)
    if empty and rng.random() < 0.7:
        editor.set_section(rng.choice(empty), size=rng.choice((1 << 31, 0xF0000000, 0x7FFFF000)))
        return True
    rows = [i for i in _rows(editor, alloc=True) if i != editor.index(THIS_MODULE)]
    editor.set_section(rng.choice(rows[2:]), align=1 << 31)
    return True


@mutation("modinfo-without-content")
def _modinfo_nobits(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """The loader goes by name and place alone."""
    name = rng.choice(("__versions", ".modinfo"))
    if not editor.has(name):
        return False
    editor.set_section(editor.index(name), type=rng.choice((SHT_NULL, SHT_NOBITS, 7, 0x6FFFFFFF)))
    return True


@mutation("not-allocated")
def _not_allocated(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    names = [n for n in (".modinfo", "__versions", "__param", ".BTF", "__bug_table") if editor.has(n)]
    index = editor.index(rng.choice(names))
    editor.set_section(index, flags=editor.raw.sections[index].flags & ~SHF_ALLOC)
    return True


@mutation("section-missing")
def _section_missing(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    names = (
        "__ex_table", ".init.text", ".exit.text", "__mcount_loc", "__param", "__bug_table", "__jump_table",
        ".modinfo", ".smp_locks", ".retpoline_sites", ".return_sites", ".orc_unwind_ip", ".note.Linux",
        "__ksymtab_strings", ".BTF",
    )  # fmt: skip
    editor.rename_section(rng.choice([name for name in names if editor.has(name)]), "__away")
    return True


@mutation("odd-symbols")
def _odd_symbols(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Undefined ones that no linker makes: local, without a name, of other kinds; and those that need nobody."""
    kind = rng.randrange(5)
    if kind == 0:
        editor.add_symbol(f"nobody_has_{rng.randrange(99)}", info=rng.choice((0x00, 0x02, 0x30, 0xA0, 0x13)))
    elif kind == 1:
        editor.add_symbol("")
    elif kind == 2:
        editor.add_symbol(f"nobody_has_{rng.randrange(99)}", info=rng.choice((0x21, 0x22, 0x24)))
    elif kind == 3:
        editor.add_symbol(rng.choice(("_GLOBAL_OFFSET_TABLE_", "__this_module_", "_GLOBAL_OFFSET_TABLE")))
    else:
        editor.add_symbol("at_a_place", shndx=rng.choice((0xFFF1, 0xFF20)), value=rng.randrange(1 << 64))
    return True


@mutation("table-with-rest")
def _rest(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Some bytes behind the last whole entry."""
    rows = [i for i, row in enumerate(editor.raw.sections) if row.type in (SHT_RELA, SHT_SYMTAB)]
    if editor.has("__versions"):
        rows += [editor.index("__versions")] * 4
    index = rng.choice(rows)
    editor.set_section(index, size=editor.raw.sections[index].size + rng.randrange(1, 23))
    return True


@mutation("versions-cut")
def _versions_cut(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has("__versions"):
        return False
    index = editor.index("__versions")
    size = editor.raw.sections[index].size
    editor.set_section(index, size=rng.choice((0, 8, 63, 64, size - 1, size - 64, size // 2)))
    return True


@mutation("versions-twice")
def _versions_twice(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Of two entries of a name the first one counts."""
    versions = editor.versions() if editor.has("__versions") else []
    if not versions:
        return False
    name, crc = rng.choice(versions)
    wrong = [(name, crc ^ 1)]
    editor.set_versions([*wrong, *versions] if rng.random() < 0.5 else [*versions, *wrong])
    return True


@mutation("modinfo-twice")
def _modinfo_twice(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Of two entries of a key the first one counts; of namespaces all."""
    items = editor.modinfo()
    other = {"vermagic": "6.0.0 ", "license": "Proprietary", "name": "someone", "import_ns": "NOBODY"}
    key = rng.choice(sorted(other))
    extra = [(key, other[key])]
    editor.set_modinfo([*extra, *items] if rng.random() < 0.6 else [*items, *extra])
    return True


@mutation("modinfo-strange")
def _modinfo_strange(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Entries without a key, without a value, keys that begin alike, more NULs than one."""
    odd = (
        b"=x\0",
        b"\0\0\0",
        b"vermagic\0",
        b"vermagicx=1\0",
        b"xvermagic=1\0",
        b"licens=\0",
        b"alone\0",
        b"name==\0",
    )
    raw = editor.content(".modinfo")
    some = b"".join(rng.sample(odd, 3))
    editor.set_content(".modinfo", some + raw if rng.random() < 0.6 else raw + some)
    return True


@mutation("modinfo-open")
def _modinfo_open(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """No NUL at the end: what stands behind it in the file goes on with it."""
    items = [(key, value) for key, value in editor.modinfo() if key != "license"]
    editor.set_modinfo([*items, ("license", "GPL")])
    row = editor.section(".modinfo")
    editor.data[row.offset + row.size - 1] = ord(rng.choice("x vX"))
    return True


@mutation("modinfo-marks")
def _modinfo_marks(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    key = rng.choice(("livepatch", "staging", "retpoline", "intree", "test", "srcversion", "version"))
    has = any(k == key for k, _ in editor.modinfo())
    editor.replace_info(key, *([] if has else [rng.choice(("Y", "N", ""))]))
    return True


@mutation("long-name")
def _long_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.replace_info("name", "n" * rng.choice((55, 56, 60, 200)))
    if rng.random() < 0.5:
        editor.add_symbol("nobody_has_it")
    return True


@mutation("odd-name")
def _odd_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """In the struct, where it counts."""
    editor.rename_struct(rng.choice(("with space", "a/b", "100%s", "dots..", "m" * 55, "-dash")))
    editor.add_symbol("nobody_has_it")
    return True


@mutation("other-relocation")
def _other_relocation(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """One that is known, and does not fit: an address of its own in 32 bits, or 64 bits where others stand."""
    rows = editor.raw.sections
    places = []
    for row in rows:
        if row.type != SHT_RELA or not rows[row.info].flags & SHF_ALLOC or rows[row.info].type == SHT_NOBITS:
            continue
        if row.info == editor.raw.find(".modinfo"):
            continue
        for entry in range(row.offset, row.offset + row.size - 23, 24):
            offset, kind = struct.unpack_from("<QI", editor.data, entry)
            at = rows[row.info].offset + offset
            if kind in (2, 4) and any(editor.data[at + 4 : at + 8]) and offset + 8 <= rows[row.info].size:
                places.append(entry)
    if not places:
        return False
    struct.pack_into("<I", editor.data, rng.choice(places) + 8, rng.choice((1, 10, 24)))
    return True


@mutation("signature-flipped", tables=True)
def _signature_flipped(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """One bit of the last bytes of the message, which are the signature proper."""
    tail = bytearray(editor.signature)
    if not tail:
        return False
    tail[len(tail) - 40 - rng.randrange(1, 200)] ^= 1 << rng.randrange(8)
    editor.tail = bytes(tail)
    return True


@mutation("signature-length", tables=True)
def _signature_length(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    tail = bytearray(editor.signature)
    if not tail:
        return False
    at = len(tail) - 28 - 4
    (size,) = struct.unpack_from(">I", tail, at)
    struct.pack_into(">I", tail, at, rng.choice((0, 1, size - 1, size + 1, size // 2)))
    editor.tail = bytes(tail)
    return True


@mutation("signature-fields", tables=True)
def _signature_fields(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """A sound signature, with one byte of its trailer not zero."""
    tail = bytearray(editor.signature)
    if not tail:
        return False
    tail[len(tail) - 28 - 12 + rng.choice((0, 1, 3, 4, 5, 7))] = rng.randrange(1, 256)
    editor.tail = bytes(tail)
    return True


@mutation("appended", tables=True)
def _appended(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """A marker that is not at the end is none."""
    editor.tail = editor.signature + rng.choice((b"\n", b"\0", b"x" * 100))
    return True


@mutation("name-beyond-table-unread", tables=True)
def _name_beyond_unread(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Of a section that takes no memory: looked at since 6.12."""
    rows = [i for i in _rows(editor, alloc=False) if i not in (editor.table, editor.raw.header.shstrndx)]
    editor.set_section(
        rng.choice(rows), name=editor.raw.sections[editor.raw.header.shstrndx].size + rng.randrange(9)
    )
    return True


@mutation("btf-header")
def _btf_header(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Lengths and places in the header of BTF."""
    if not editor.has(".BTF"):
        return False
    at = editor.section(".BTF").offset
    place = rng.choice((4, 8, 12, 16, 20))
    (value,) = struct.unpack_from("<I", editor.data, at + place)
    wrong = rng.choice((0, 1, value + 1, value + 4, value - 1 if value else 7, 0xFFFFFFFF, 0x1000000))
    struct.pack_into("<I", editor.data, at + place, wrong)
    return True
