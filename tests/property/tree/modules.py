# SPDX-License-Identifier: MIT
"""Generated trees of modules: few names, so that they meet."""

from __future__ import annotations

import lzma
from typing import NamedTuple

from hypothesis import strategies as st

from tests.machine.fake import RELEASE, Machine
from tests.machine.modules import Exports, ModuleFile, make_module_file

NAMES = ("alpha", "beta", "gam-ma", "del_ta", "x-y_z", "eps0", "theta")
SYMBOLS = ("s0", "s1", "s2", "s3", "s_4", "verylongsymbolname5")
DIRECTORIES = ("kernel", "kernel/fs", "kernel/drivers/net", "updates", "extra", "kernel/fs/a-b")
PATTERNS = (
    "pci:v00008086d*sv*sd*bc*sc*i*", "usb:v*p*d[0-3]*", "char-major-10-130", "char-major-10-*", "block-major-7-0",
    "fs-ext4", "net-pf-10", "a?pha", "with-dash_and", "al[p-r]ha-x", "x*", "alpha", "gam_ma", "devname:vhost-net",
    "devname:loop-control", "*", "ab", "abc", "abd", "sym[bol",
)  # fmt: skip

ODD_ENTRIES = (
    b"firmware=a/b.bin",
    b"description=two\nlines",
    b"description=",
    b"author=\xff\xfe",
    b"vermagic=6.1.0-test SMP ",
    b"intree=Y",
    b"noequals",
    b"=x",
    b"alias=",
    b"softdep=",
    b"softdep=pre:",
)
BUILT_IN = (
    "alias=net-pf-1",
    "alias=fs-b*",
    "license=GPL",
    "file=lib/x",
    "parm=debug:x",
    "parmtype=debug:int",
)

names = st.sampled_from(NAMES)
spellings = names.flatmap(
    lambda name: st.sampled_from([name, name.replace("-", "_"), name.replace("_", "-")])
)


class Placed(NamedTuple):
    """A module file and where it is, below the directory of the release."""

    path: str
    module: ModuleFile


class Tree(NamedTuple):
    """A directory of modules; texts of the files that depmod reads beside them."""

    modules: tuple[Placed, ...]
    files: tuple[tuple[str, bytes], ...] = ()

    def write(self, machine: Machine) -> None:
        """Put it on a machine."""
        for path, module in self.modules:
            data = make_module_file(module)
            if path.endswith(".xz"):
                data = lzma.compress(data, check=lzma.CHECK_CRC32, preset=0)
            machine.write(f"/lib/modules/{RELEASE}/{path}", data)
        for name, text in self.files:
            machine.write(f"/lib/modules/{RELEASE}/{name}", text)


def _texts(key: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: f"{key}={value}".encode())


deps = st.lists(spellings, min_size=1, max_size=3).map(" ".join)
softdeps = st.lists(
    st.tuples(st.sampled_from(["pre:", "post:", ""]), deps).map(" ".join), min_size=1, max_size=2
).map(" ".join)
entries = st.one_of(
    _texts("alias", st.sampled_from(PATTERNS)),
    _texts("alias", st.sampled_from(PATTERNS)),
    _texts("softdep", softdeps),
    _texts("weakdep", deps),
    _texts("license", st.sampled_from(["GPL", "Dual MIT/GPL"])),
    _texts("parm", st.sampled_from(["debug:how much to say (int)", "n:count", "plain", ":"])),
    _texts("parmtype", st.sampled_from(["debug:int", "n:array of uint", "other:charp"])),
    _texts("depends", st.lists(names, max_size=2).map(",".join)),
    _texts("author", st.sampled_from(["A B <a@b>", "Jürgen"])),
    st.sampled_from(ODD_ENTRIES),
)


@st.composite
def module_files(draw: st.DrawFn, name: str) -> ModuleFile:
    """A module with a few of everything.

    It imports only what comes behind its exports in the list: kmod 34 does not end on some loops.
    """
    exports = draw(st.lists(st.sampled_from(SYMBOLS), max_size=2, unique=True))
    behind = max(map(SYMBOLS.index, exports), default=-1) + 1
    imports = draw(st.lists(st.sampled_from([*SYMBOLS[behind:], "printk"]), max_size=3, unique=True))
    return ModuleFile(
        modinfo=(*draw(st.lists(entries, max_size=5)), b"name=" + name.replace("-", "_").encode()),
        exports=tuple((symbol, draw(st.integers(0, 0xFFFFFFFF))) for symbol in exports),
        imports=tuple(imports),
        versions=draw(st.none() | st.just(tuple((symbol, 7) for symbol in imports))),
        style=draw(st.sampled_from(Exports)),
        name=name,
    )


suffixes = st.sampled_from([".ko", ".ko", ".ko", ".ko.xz"])


@st.composite
def trees(draw: st.DrawFn, *, duplicates: bool = False, overlap: bool = False) -> Tree:
    """A tree; with `duplicates` a name may be in several directories, with `overlap` alpha may be built in too."""
    place = st.tuples(st.sampled_from(DIRECTORIES), names)
    key = (lambda found: found) if duplicates else (lambda found: found[1])
    places = draw(st.lists(place, min_size=1, max_size=6, unique_by=key))
    modules = {}
    for directory, name in places:
        path = f"{directory}/{name}"
        modules[path] = Placed(path + draw(suffixes), draw(module_files(name)))
    return Tree(
        tuple(modules.values()),
        draw(_files(tuple(placed.path for placed in modules.values()), overlap=overlap)),
    )


@st.composite
def _files(draw: st.DrawFn, paths: tuple[str, ...], *, overlap: bool) -> tuple[tuple[str, bytes], ...]:
    """modules.order, modules.builtin and modules.builtin.modinfo: each there or not."""
    found = []
    if draw(st.booleans()):
        order = draw(st.lists(st.sampled_from([*paths, "kernel/gone.ko"]), max_size=6, unique=True))
        found.append(("modules.order", "".join(f"{path.replace('.xz', '')}\n" for path in order).encode()))
    built_in = draw(
        st.lists(
            st.sampled_from(["unix", "snd-built", "ext5", *(["alpha"] if overlap else [])]),
            max_size=3,
            unique=True,
        )
    )
    if draw(st.booleans()):
        text = "".join(f"kernel/lib/{name}.ko\n" for name in built_in)
        found.append(("modules.builtin", text.encode()))
    if draw(st.booleans()):
        entry = st.tuples(st.sampled_from(built_in or ["x"]), st.sampled_from(BUILT_IN))
        rows = [f"{name.replace('-', '_')}.{text}" for name, text in draw(st.lists(entry, max_size=5))]
        rows += [f"{name.replace('-', '_')}.file=x" for name in built_in]  # kmod 30 fails on one without any
        found.append(("modules.builtin.modinfo", "".join(f"{row}\0" for row in rows).encode()))
    return tuple(found)
