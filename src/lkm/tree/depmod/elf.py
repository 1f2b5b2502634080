# SPDX-License-Identifier: MIT
"""What depmod needs of a module file: exports, imports, and three keys of `.modinfo`.

Only the section headers and a few sections are read: a module's code is most of its bytes. What counts as an
export or an import, and which damage is borne, is as in libkmod (`kmod_elf_new`, `kmod_elf_get_symbols`,
`kmod_elf_get_dependency_symbols`, `kmod_elf_get_modinfo_strings`; kmod 34).
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from struct import Struct

__all__ = ["BadModule", "ElfModule", "Facts", "Read", "parse_facts"]

Read = Callable[[int, int], bytes]
"""`read(offset, size)`: `size` bytes of the module, uncompressed, from `offset`; fewer at its end."""

Facts = tuple[bytes, bytes, bytes, bytes, bytes]
"""Exports, imports, aliases, softdeps, weakdeps: each item of each ends with a NUL."""

_SLACK = 2048  # the section names mostly stand right before the section headers, in less than this
_MAX_TABLES = 1 << 28  # a symbol table of 256 MiB is no module's
_SPARC, _STT_REGISTER = {2, 43}, 13
_VERSION = 64  # bytes of an entry in __versions: the CRC as a long, then the name

_SECTION = {
    True: (Struct("<24xQQ4xI16x"), Struct(">24xQQ4xI16x")),
    False: (Struct("<16xII4xI8x"), Struct(">16xII4xI8x")),
}  # (ELF64?) → offset, size and info of a section, little- and big-endian
_HEADER = {
    True: (Struct("<18xH20xQ10xHHH"), Struct(">18xH20xQ10xHHH")),
    False: (Struct("<18xH12xI10xHHH"), Struct(">18xH12xI10xHHH")),
}  # machine, then the section headers' offset, size of one, number, and which of them is the names'
_SYMBOL = {
    True: (Struct("<IBxHQ8x"), Struct(">IBxHQ8x"), (0, 1, 2, 3)),
    False: (Struct("<II4xBxH"), Struct(">II4xBxH"), (0, 2, 3, 1)),
}  # a symbol, and where in it are name, info, section and value


class BadModule(Exception):
    """A file that is no module, or one too broken to read. `code` is the errno that kmod gives, `reason` says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class ElfModule:
    """The section headers of a module file, of either word size and byte order. Raises `BadModule`."""

    __slots__ = ("big", "machine", "names", "read", "size", "strings", "table", "wide")

    def __init__(self, read: Read, size: int) -> None:
        head = read(0, 64)
        if size <= 16 or head[:4] != b"\x7fELF":
            raise BadModule(errno.ENOEXEC, "it is no ELF file")
        if head[4] not in (1, 2) or head[5] not in (1, 2) or size <= (52, 64)[head[4] - 1]:
            raise BadModule(errno.EINVAL, "its ELF header is wrong, or the file ends in it")
        self.read, self.size = read, size
        self.wide, self.big = wide, big = head[4] == 2, head[5] == 2
        self.machine, table_at, entry, count, names_index = _HEADER[wide][big].unpack_from(head)
        table_size = entry * count
        if entry != (64 if wide else 40) or table_at + table_size > size or not 0 < names_index < count:
            raise BadModule(errno.EINVAL, "its section headers are not where it says: is it truncated?")
        start = max(table_at - _SLACK, 0)
        block = read(start, table_at - start + table_size)
        self.table = table = block[table_at - start :]
        offset, length, _ = self._section(names_index)
        if not length or offset + length > size:
            raise BadModule(errno.EINVAL, "the names of its sections are not where it says: is it truncated?")
        if offset >= start and offset + length <= table_at:
            self.strings = block[offset - start : offset - start + length]
        else:
            self.strings = read(offset, length)
        if self.strings[-1:] != b"\0":
            raise BadModule(errno.EINVAL, "the names of its sections have no end")
        if big == (sys.byteorder == "big"):
            self.names = memoryview(table).cast("I")[:: entry // 4].tolist()
        else:
            self.names = [name for (name,) in Struct(">I" if big else "<I").iter_unpack(table)][:: entry // 4]

    def _section(self, index: int) -> tuple[int, int, int]:
        fields = _SECTION[self.wide][self.big]
        offset, size, info = fields.unpack_from(self.table, index * fields.size)
        return offset, size, info

    def section(self, index: int) -> tuple[int, int, int] | None:
        """Offset, size and `sh_info` of a section that lies within the file."""
        if not 0 < index < len(self.names):
            return None
        found = self._section(index)
        return found if found[0] + found[1] <= self.size else None

    def is_register(self, info: int) -> bool:
        """Whether an undefined symbol is one of sparc's global registers, which nobody exports."""
        return self.machine in _SPARC and info & 15 == _STT_REGISTER

    def find(self, name: bytes) -> tuple[int, int, int]:
        """Offset, size and `sh_info` of the first section of that name within the file; zeros without one."""
        strings = self.strings
        at = strings.find(b"\0" + name + b"\0") + 1
        if at and at in self.names:
            found = self.section(self.names.index(at))
            if found:
                return found
        elif name + b"\0" not in strings:
            return 0, 0, 0
        for index in range(1, len(self.names)):
            at = self.names[index]
            found = self.section(index)
            if found and strings[at : strings.find(b"\0", at)] == name:
                return found
        return 0, 0, 0

    def content(self, name: bytes) -> bytes:
        """The bytes of a section; none without it."""
        offset, size, _ = self.find(name)
        return self.read(offset, size) if offset else b""

    def symbols(self, table: bytes) -> Iterator[tuple[int, int, int, int]]:
        """Name offset, info, section index and value of each symbol of a symbol table."""
        little_fields, big_fields, order = _SYMBOL[self.wide]
        for symbol in (big_fields if self.big else little_fields).iter_unpack(table):
            yield symbol[0], symbol[order[1]], symbol[order[2]], symbol[order[3]]


def parse_facts(read: Read, size: int) -> tuple[Facts, int]:
    """What a module of `size` bytes says, and 0 or the errno with which kmod gives up on its exports.

    Damage elsewhere leaves the imports or the rest empty, without a word, as in kmod. Raises `BadModule`.
    """
    module = ElfModule(read, size)
    names, imported = _symbol_names(module)
    code = 0
    if b"\0__crc_" in names:
        parts = names.split(b"\0__crc_")
        del parts[0]
        exported = b"".join([part.partition(b"\0")[0] + b"\0" for part in parts])
    else:
        exported, code = _exports_without_versions(module)
    aliases, softdeps, weakdeps = _modinfo(module.content(b".modinfo"))
    return (exported, imported, aliases, softdeps, weakdeps), code


def _symbol_names(module: ElfModule) -> tuple[bytes, bytes]:
    """The string table, and the names of the undefined symbols in the symbol table's order."""
    table_at, table_size, local = module.find(b".symtab")
    names_at, names_size, _ = module.find(b".strtab")
    entry = 24 if module.wide else 16
    if not table_at or not names_at or table_size % entry or table_size + names_size > _MAX_TABLES:
        return b"", b""
    skip = min(local * entry, table_size) or entry  # an undefined symbol is never local
    if names_at == table_at + table_size:
        both = module.read(table_at + skip, table_size - skip + names_size)
        table, names = both[: table_size - skip], both[table_size - skip :]
    else:
        table, names = module.read(table_at + skip, table_size - skip), module.read(names_at, names_size)
    if module.wide and not module.big and sys.byteorder == "little":
        firsts = memoryview(table).cast("Q")[::3]  # name, info, other and section, from the low bits up
        undefined = [first & 0xFFFFFFFF for first in firsts.tolist() if first < 1 << 48]
    else:
        undefined = [
            name
            for name, info, section, _ in module.symbols(table)
            if not section and not module.is_register(info)
        ]
    if names[-1:] != b"\0":
        names += b"\0"
    find = names.index
    try:
        imported = [names[at : find(b"\0", at) + 1] for at in undefined]
    except ValueError:  # a name beyond the string table
        return names, b""
    return names, b"".join(imported) + _imports_by_version_only(module, imported)


def _imports_by_version_only(module: ElfModule, imported: list[bytes]) -> bytes:
    """The names in `__versions` that are no undefined symbols; `module_layout` alone is of no interest."""
    _, size, _ = module.find(b"__versions")
    if size in (0, (len(imported) + 1) * _VERSION) or size % _VERSION:
        return b""
    data, word = module.content(b"__versions"), 8 if module.wide else 4
    names = [data[at + word : at + _VERSION].partition(b"\0")[0] + b"\0" for at in range(0, size, _VERSION)]
    return b"".join([name for name in names if name not in imported])


def _exports_without_versions(module: ElfModule) -> tuple[bytes, int]:
    """All of `__ksymtab_strings`, which holds the names of namespaces too, and 0 or an errno."""
    data = module.content(b"__ksymtab_strings").lstrip(b"\0")
    if data and data[-1]:
        return b"", errno.EINVAL
    if b"\0\0" in data:
        return b"".join([name + b"\0" for name in data.split(b"\0") if name]), 0
    return data, 0


def _modinfo(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Aliases, softdeps and weakdeps."""
    entries = data.split(b"\0")
    aliases = b"".join([entry[6:] + b"\0" for entry in entries if entry[:6] == b"alias="])
    if b"dep=" not in data:
        return aliases, b"", b""
    softdeps = b"".join([entry[8:] + b"\0" for entry in entries if entry[:8] == b"softdep="])
    weakdeps = b"".join([entry[8:] + b"\0" for entry in entries if entry[:8] == b"weakdep="])
    return aliases, softdeps, weakdeps
