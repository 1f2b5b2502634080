# SPDX-License-Identifier: MIT
"""Mutations of what the tables point to: names, versions, symbols, relocations, parameters."""

from __future__ import annotations

import random
import struct

from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_RELA
from lkm.preflight.rules import rules_for
from tests.mutants.editor import Editor
from tests.mutants.registry import FORBIDDEN, Scene, mutation


@mutation("blacklisted")
def _blacklisted(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if rng.random() < 0.5:
        editor.rename(FORBIDDEN)
    else:
        editor.replace_info("name", FORBIDDEN)  # what counts is .modinfo's
    return True


@mutation("layout-crc")
def _layout_crc(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    return _change_crc(editor, rng, ["module_layout"])


@mutation("layout-without-crc")
def _layout_missing(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    return _drop_crc(editor, ["module_layout"])


def _change_crc(editor: Editor, rng: random.Random, names: list[str]) -> bool:
    if not editor.has("__versions"):
        return False
    flip = rng.choice((1, 0x80000000, 1 << 40, 0xFFFF))
    versions = editor.versions()
    if not set(names) & {name for name, _ in versions}:
        return False
    editor.set_versions([(name, crc ^ flip if name in names else crc) for name, crc in versions])
    return True


def _drop_crc(editor: Editor, names: list[str]) -> bool:
    if not editor.has("__versions"):
        return False
    versions = editor.versions()
    kept = [(name, crc) for name, crc in versions if name not in names]
    editor.set_versions(kept)
    return len(kept) < len(versions)


@mutation("symbol-crc")
def _symbol_crc(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    names = _imported(editor, with_crc=True)
    return bool(names) and _change_crc(editor, rng, rng.sample(names, min(len(names), rng.randrange(1, 4))))


@mutation("symbol-without-crc")
def _symbol_missing_crc(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    names = _imported(editor, with_crc=True)
    return bool(names) and _drop_crc(editor, rng.sample(names, min(len(names), rng.randrange(1, 3))))


def _imported(editor: Editor, *, with_crc: bool = False) -> list[str]:
    known = {name for name, _ in editor.versions()} if with_crc and editor.has("__versions") else set()
    names = [n for n, s in zip(editor.names(), editor.symbols()) if s.shndx == 0 and n]
    return [name for name in names if not with_crc or name in known]


@mutation("no-versions")
def _no_versions(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has("__versions"):
        return False
    editor.rename_section("__versions", "__without")
    return True


@mutation("vermagic-release")
def _magic_release(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    rest = editor.info("vermagic").partition(" ")[2]
    editor.replace_info("vermagic", f"{rng.choice(('4.19.0-1-amd64', '9.9.9', 'x'))} {rest}")
    return True


@mutation("vermagic-words")
def _magic_words(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    words = editor.info("vermagic").split(" ")
    kind = rng.randrange(4)
    if kind == 0 and len(words) > 2:
        words.pop(rng.randrange(1, len(words) - 1))
    elif kind == 1:
        words.insert(1, rng.choice(("PREEMPT_RT", "RANDSTRUCT_x", "aarch64")))
    elif kind == 2 and len(words) > 3:
        words[1], words[2] = words[2], words[1]
    else:
        words = words[:-1]  # without the space at the end
    editor.replace_info("vermagic", " ".join(words))
    return True


@mutation("no-vermagic")
def _no_vermagic(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.replace_info("vermagic")
    return True


@mutation("write-exec")
def _write_exec(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    rows = editor.raw.sections
    index = rng.choice(
        [i for i, r in enumerate(rows) if r.flags & SHF_ALLOC and r.flags & (SHF_WRITE | SHF_EXECINSTR)]
    )
    editor.set_section(index, flags=rows[index].flags | SHF_WRITE | SHF_EXECINSTR)
    return True


@mutation("loaded-name")
def _loaded_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if rng.random() < 0.5:
        editor.rename(scene.loaded)
    else:
        editor.rename_struct(scene.loaded)  # what counts is the struct's
    return True


@mutation("builtin-name")
def _builtin_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.rename(scene.sysfs)
    return True


@mutation("other-name")
def _other_name(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.rename(f"mutant_{rng.randrange(1000)}")
    return True


@mutation("exports-without-crcs")
def _no_kcrctab(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    names = [name for name in ("__kcrctab", "__kcrctab_gpl") if editor.has(name)]
    for name in names:
        editor.rename_section(name, "__without")
    return bool(names)


@mutation("exports-without-flags")
def _no_flags(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has("__kflagstab"):
        return False
    editor.rename_section("__kflagstab", "__without")
    return True


@mutation("missing-symbol")
def _missing_symbol(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    for number in range(rng.randrange(1, 4)):
        editor.add_symbol(f"nobody_has_{rng.randrange(1000)}_{number}")
    return True


@mutation("missing-weak-symbol")
def _missing_weak(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.add_symbol(f"nobody_has_{rng.randrange(1000)}", info=0x20)
    return True


@mutation("renamed-import")
def _renamed_import(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    numbers = [i for i, s in enumerate(editor.symbols()) if i and s.shndx == 0]
    row = editor.raw.sections[editor.raw.sections[editor.table].link]
    at = row.offset + editor.symbols()[rng.choice(numbers)].name
    editor.data[at] = ord("Q")
    return True


@mutation("provider-not-loaded")
def _not_loaded(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    return _import(editor, scene, scene.free)


def _import(editor: Editor, scene: Scene, name: str) -> bool:
    """An import as modpost would have made it: with its CRC, without its namespace."""
    export = scene.target.exports.find(name) if scene.target.exports else None
    if export is None or name in editor.names():
        return False
    editor.add_symbol(name)
    if export.crc is not None and editor.has("__versions"):
        editor.set_versions([*editor.versions(), (name, export.crc)])
    return True


@mutation("import-of-loaded")
def _import_loaded(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    return _import(editor, scene, scene.exported)


@mutation("namespace")
def _namespace(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """dma_buf_get is in the namespace DMA_BUF since 5.18."""
    done = _import(editor, scene, "dma_buf_get")
    if done and rng.random() < 0.3:
        editor.replace_info("import_ns", rng.choice(("DMA_BUF", "DMA", "CRYPTO_INTERNAL")))
    return done


@mutation("module-namespace")
def _module_namespace(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_modinfo([*editor.modinfo(), ("import_ns", "module:kvm")])
    return True


@mutation("licence")
def _licence(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    values = ("Proprietary", "MIT", "GPLv2", "gpl", "Dual BSD/GPL", "GPL v2")
    editor.replace_info("license", rng.choice(values))
    return True


@mutation("no-licence")
def _no_licence(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.replace_info("license")
    return True


@mutation("common-symbol")
def _common(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.add_symbol(rng.choice(("shared", "__gnu_lto_v1")), shndx=0xFFF2)
    return True


@mutation("symbol-in-no-section")
def _symbol_index(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not rules_for(scene.target.release).symbol_index:
        return False  # it reads behind its table of sections
    editor.add_symbol("lost", shndx=rng.choice((editor.raw.header.shnum, 0x2000, 0xFF00)))
    return True


def _relocations(editor: Editor) -> list[int]:
    rows = editor.raw.sections
    return [
        i for i, row in enumerate(rows)
        if row.type == SHT_RELA and row.size >= 24 and rows[row.info].flags & SHF_ALLOC
        and rows[row.info].type != SHT_NOBITS and row.info != editor.raw.find(".modinfo")
    ]  # fmt: skip


@mutation("unknown-relocation")
def _unknown_relocation(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    row = editor.raw.sections[rng.choice(_relocations(editor))]
    entry = row.offset + 24 * rng.randrange(row.size // 24)
    struct.pack_into("<I", editor.data, entry + 8, rng.choice((3, 9, 42, 200)))
    return True


@mutation("relocated-twice")
def _occupied(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    rows = editor.raw.sections
    row = rows[rng.choice(_relocations(editor))]
    entry = row.offset + 24 * rng.randrange(row.size // 24)
    (offset,) = struct.unpack_from("<Q", editor.data, entry)
    editor.data[rows[row.info].offset + offset] = rng.randrange(1, 256)
    return True


@mutation("relocations-without-addend")
def _rel(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    editor.set_section(rng.choice(_relocations(editor)), type=9)
    return True


@mutation("half-of-extended-versions")
def _extended(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has(".note.gnu.build-id"):
        return False
    editor.rename_section(".note.gnu.build-id", rng.choice(("__version_ext_crcs", "__version_ext_names")))
    return True


@mutation("btf")
def _btf(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    if not editor.has(".BTF"):
        return False
    at = editor.section(".BTF").offset
    place, value = rng.choice(((0, 0x11), (2, 7), (3, 1)))
    editor.data[at + place] = value
    return True


@mutation("parameters")
def _parameters(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    """Right and wrong values for what the module has, and names that it has not."""
    known = dict(value.split(":", 1) for key, value in editor.modinfo() if key == "parmtype")
    words = ["lkm_nobody=1", "async_probe", 'spaced="a b"', "=5", "dyndbg"]
    for name, kind in known.items():
        values = [
            "",
            "1x",
            "-1",
            "99999999999999999999",
            "0x1",
            "08",
            "y",
            "maybe",
            "1,2,3,4,5,6,7,8,9,10,11,12,13",
            "+2",
        ]
        if kind in ("charp", "string"):
            values = ["", "a" * 1100]
        words += [f"{name}={value}" for value in rng.sample(values, 2)] + [
            name,
            name.replace("_", "-") + "=q",
        ]
    editor.parameters = " ".join(rng.sample(words, min(len(words), rng.randrange(1, 4))))
    return True


@mutation("nothing")
def _nothing(editor: Editor, rng: random.Random, scene: Scene) -> bool:
    return True
