# SPDX-License-Identifier: MIT
"""Where exports are known from: the kernel's image, Module.symvers, the running kernel's memory, its tree.

The image is unpacked, which takes seconds for some, so what it has is kept in a cache by its path, size and time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Optional

from lkm.errors import LkmError, ParseError
from lkm.formats.compression import decompress
from lkm.formats.exports import Export, parse_raw_exports
from lkm.formats.image_exports import ENTRY_SIZE, ExportTable, parse_export_tables, parse_image_exports
from lkm.formats.raw_module import RawModule
from lkm.formats.symvers import Symvers
from lkm.names import module_name_from_path
from lkm.preflight.kernel import KernelExport
from lkm.root import Root
from lkm.system.files import read_bytes, read_text
from lkm.system.image_paths import image_paths
from lkm.tree.indexes import SYMBOLS, Indexes
from lkm.tree.tree import Tree

if TYPE_CHECKING:
    from lkm.formats.kallsyms import Kallsyms
    from lkm.system.kcore import Kcore

__all__ = [
    "KernelTable",
    "TreeExports",
    "read_image_table",
    "read_memory_table",
    "read_symvers_table",
    "refuses_missing_versions",
]

_MAX_IMAGE = 1 << 28
_CACHE_FORMAT = 2
_MANY = 256
"""Questions to an index after which reading all of it is cheaper."""
_STRICT_BUILDERS = ("debian-kernel@lists.debian.org", "@kali.org")
_BANNER = re.compile(rb"Linux version [^\0\n]{10,400}")


class KernelTable:
    """What a kernel itself exports, by name. `source` says where that is from; `certificates` are those that it
    trusts from birth, and `banner` who built it, where the source has them."""

    def __init__(
        self,
        rows: Mapping[str, tuple[bool, Optional[int], str]],
        source: str,
        certificates: tuple[bytes, ...] = (),
        banner: str = "",
    ) -> None:
        self._rows = rows
        self.banner = banner
        self.source = source
        self.certificates = certificates

    def find(self, name: str) -> Optional[KernelExport]:
        """The kernel's own export of that name."""
        row = self._rows.get(name)
        return KernelExport(name, *row) if row else None

    def names(self) -> Iterable[str]:
        """All of them."""
        return self._rows.keys()

    @classmethod
    def of(cls, exports: Iterable[Export], source: str) -> KernelTable:
        """The table of exports as the parsers give them."""
        return cls({e.name: (e.gpl, e.crc, e.namespace) for e in exports}, source)


def read_symvers_table(root: Root, path: str = "", *, modversions: bool = True) -> Optional[KernelTable]:
    """From Module.symvers: that file, or the one of the kernel's headers or of /boot; None if there is none.

    Without MODVERSIONS the file has zeros for CRCs.
    """
    release = root.release
    usual = (f"{root.modules_dir}/build/Module.symvers", root.join(f"/boot/symvers-{release}.gz"),
             root.join(f"/usr/src/linux-headers-{release}/Module.symvers"))  # fmt: skip
    for candidate in (path,) if path else usual:
        data = read_bytes(candidate)
        if data is None:
            continue
        rows = {
            entry.name: (entry.gpl, entry.crc if modversions else None, entry.namespace)
            for entry in Symvers(decompress(data, name=candidate))
            if entry.module == "vmlinux"
        }
        if rows:
            return KernelTable(rows, candidate)
    return None


def read_image_table(root: Root, *, banner: str = "") -> Optional[KernelTable]:
    """From the kernel's image; None where there is none that can be read, or it is of another build.

    `banner` is what /proc/version says of the running kernel.
    """
    for path in image_paths(root):
        try:
            found = _cached_image(path)
        except (LkmError, ParseError, OSError):
            continue
        if found is None or (banner and found["banner"] and found["banner"] not in banner):
            continue
        rows = {name: (bool(gpl), crc, space) for name, gpl, crc, space in found["exports"]}
        if rows:
            certificates = tuple(map(bytes.fromhex, found["certificates"]))
            return KernelTable(rows, path, certificates, found["banner"])
    return None


def _cached_image(path: str) -> Optional[dict]:  # type: ignore[type-arg]
    """`{"banner", "exports": [[name, gpl, crc, namespace]]}` of an image."""
    if not os.access(path, os.R_OK):
        return None
    status = os.stat(path)
    key = f"{_CACHE_FORMAT} {os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"
    kept = os.path.join(_cache_dir(), os.path.realpath(path).replace("/", "%")[-200:] + ".json")
    try:
        with open(kept, encoding="utf-8") as stream:
            found = json.load(stream)
            if isinstance(found, dict) and found.get("key") == key:
                return dict(found)
    except (OSError, ValueError):
        pass
    from lkm.formats.kernel_image import parse_kernel_image
    from lkm.preflight.certificates import find_certificates

    data = read_bytes(path, limit=_MAX_IMAGE)
    if data is None:
        return None
    image = parse_kernel_image(data, name=path)
    banner = _BANNER.search(image.data)
    rows = [list(export) for export in parse_image_exports(image)]
    found = {
        "key": key,
        "banner": banner[0].decode("latin-1").strip() if banner else "",
        "exports": rows,
        "certificates": [certificate.hex() for certificate in find_certificates(image.data)],
    }
    _keep(kept, json.dumps(found))
    return found


def _cache_dir() -> str:
    """Below `$XDG_CACHE_HOME` if that is set, else in `/var/cache` for root, and in the user's cache."""
    usual = "/var/cache" if os.geteuid() == 0 else os.path.expanduser("~/.cache")
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or usual, "lkm", "exports")


def _keep(path: str, text: str) -> None:
    """A cache that cannot be written is none."""
    scratch = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(scratch, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(scratch, path)
    except OSError:
        pass


def read_memory_table(root: Root) -> Optional[KernelTable]:
    """From the running kernel's memory: kallsyms says where the tables are, kcore what is in them.

    None where either is hidden.
    """
    from lkm.system.kallsyms import read_kallsyms
    from lkm.system.kcore import open_kcore

    try:
        symbols = read_kallsyms(root)
        kcore = open_kcore(root)
        tables = [table for table in (_memory_table(symbols, kcore, s) for s in ("", "_gpl")) if table]
        exports = parse_export_tables(tables, kcore.read)
    except LkmError:
        return None
    return KernelTable.of(exports, "the running kernel's memory") if exports else None


def _memory_table(symbols: Kallsyms, kcore: Kcore, suffix: str) -> Optional[ExportTable]:
    start, stop = (symbols.address(f"__{edge}___ksymtab{suffix}") for edge in ("start", "stop"))
    if not 0 < start < stop:
        return None
    raw = kcore.read(start, stop - start)
    count = len(raw) // ENTRY_SIZE
    crcs = symbols.address(f"__start___kcrctab{suffix}")
    flags = 0 if suffix else symbols.address("__start___kflagstab")
    return ExportTable(
        start, raw, kcore.read(crcs, 4 * count) if crcs else b"", kcore.read(flags, count) if flags else b"",
        gpl=bool(suffix),
    )  # fmt: skip


class TreeExports:
    """`Exports`: of the kernel, then of the modules in its tree, of which only the files that count are read."""

    def __init__(self, kernel: KernelTable, tree: Optional[Tree], *, modversions: bool = True) -> None:
        self._kernel = kernel
        self._tree = tree
        self._modversions = modversions
        self._modules: dict[str, dict[str, KernelExport]] = {}
        self._found: dict[str, KernelExport] = {}
        self._index = Indexes(tree.directory) if tree else None
        self._owners: dict[str, list[str]] = {}
        self._asked = 0

    def find(self, name: str) -> Optional[KernelExport]:
        """Who exports `name`: the kernel, else the first module in the tree that does."""
        found = self._found.get(name)
        if found is None:
            found = self._kernel.find(name) or self._of_module(name)
            if found is not None:  # of what nobody has there can be any number
                self._found[name] = found
        return found

    def _of_module(self, name: str) -> Optional[KernelExport]:
        for owner in self._modules_with(name):
            export = self._exports(owner).get(name)
            if export:
                return export
        return None

    def _modules_with(self, name: str) -> list[str]:
        """modules.symbols; to who asks for many it is read as a whole."""
        if self._index is None:
            return []
        self._asked += 1
        if self._asked <= _MANY:
            return self._index.search_wild(SYMBOLS, f"symbol:{name}")
        if self._asked == _MANY + 1:
            for key, _, owner in self._index.items(SYMBOLS):
                self._owners.setdefault(key, []).append(owner)
        return self._owners.get(f"symbol:{name}", [])

    def _exports(self, owner: str) -> dict[str, KernelExport]:
        if owner not in self._modules:
            path = self._tree.path(owner) if self._tree else None
            self._modules[owner] = read_module_exports(path, modversions=self._modversions) if path else {}
        return self._modules[owner]


def read_module_exports(path: str, *, modversions: bool = True) -> dict[str, KernelExport]:
    """What a module file exports; nothing for one that cannot be read."""
    owner = module_name_from_path(path)
    try:
        exports = parse_raw_exports(RawModule(decompress(read_bytes(path) or b"", name=path)))
    except ParseError:
        return {}
    return {
        export.name: KernelExport(
            export.name, export.gpl, export.crc if modversions else None, export.namespace, owner
        )
        for export in exports
    }


def refuses_missing_versions(banner: str) -> Optional[bool]:
    """Whether a kernel with that banner ("Linux version …") was built by who patches check_version so; None: no
    banner. Debian's patch is debian/module-disable-matching-missing-crc.patch in its source package."""
    return any(builder in banner for builder in _STRICT_BUILDERS) if banner else None


def read_banner(root: Root) -> str:
    """`Linux version …` of the running kernel."""
    return read_text(root.join("/proc/version")) or ""
