# SPDX-License-Identifier: MIT
"""BTF: the kernel's own types, as in `/sys/kernel/btf/vmlinux` (3–6 MB, some 100,000 types).

Reading is lazy. One pass over the type section finds where each type begins; a type is decoded only when
it is asked for, and a name is looked for as the number of its string, at the speed of `bytes.find`.

Source: `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst` (6.1: kinds up to ENUM64). Pointers are
taken as 8 bytes, since BTF does not tell.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from lkm.errors import ParseError

__all__ = ["Btf", "BtfError", "BtfLookupError", "Member", "Struct"]

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_FLOAT, _DATASEC, _ENUM64 = 16, 15, 19
_TRANSPARENT = frozenset({8, 9, 10, 11, 14, 18})  # typedef, volatile, const, restrict, var, type tag
_COMPOSITE = frozenset({_STRUCT, _UNION})
_ENUMS = frozenset({_ENUM, _ENUM64})
_SIZED = frozenset({_INT, _FLOAT, _STRUCT, _UNION, _ENUM, _ENUM64, _DATASEC})
_POINTER_SIZE = 8
_MAX_DEPTH = 32  # MAX_RESOLVE_DEPTH of kernel/bpf/btf.c
_MAX_NAME = 1024  # the kernel's own limit is KSYM_NAME_LEN, 512

# Kind → 32-bit words of one type, and words more for each of its `vlen` members.
_WORDS = {
    **dict.fromkeys((_PTR, _FWD, _TYPEDEF, 9, 10, 11, 12, _FLOAT, 18), (3, 0)),
    **dict.fromkeys((_INT, 14, 17), (4, 0)),
    **dict.fromkeys((_STRUCT, _UNION, _DATASEC, _ENUM64), (3, 3)),
    **dict.fromkeys((_ENUM, 13), (3, 2)),
    _ARRAY: (6, 0),
}


class BtfError(ParseError):
    """Not BTF, cut off, of a kind that is not known, or split BTF, which needs its base."""


class BtfLookupError(BtfError, LookupError):
    """The kernel has no such type or member; which one is in the message."""


class Member(NamedTuple):
    """A member of a struct or union. `name` is empty for an anonymous one, `bit_size` 0 for a whole one."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int


class Struct(NamedTuple):
    """A struct or union: its size in bytes and its members in order."""

    name: str
    size: int
    members: tuple[Member, ...]
    is_union: bool = False


class _Type(NamedTuple):
    """The three words that begin each type; `at` is the index of the first."""

    at: int
    name: int
    kind: int
    flag: bool
    vlen: int
    size_or_type: int


class _Steps(dict[int, int]):
    """Words of a type by its `info`: some hundred different ones occur, so each is worked out once."""

    def __missing__(self, info: int) -> int:
        size, each = _WORDS[info >> 24 & 31]
        step = self[info] = size + each * (info & 0xFFFF)
        return step


class Btf:
    """All types of one kernel. Look-ups raise `BtfLookupError` for what is not there, else `BtfError`."""

    def __init__(self, data: bytes | memoryview, *, name: str = "<bytes>") -> None:
        self.name = name
        if len(data) < 24:
            raise BtfError(f"{name}: expected a BTF header of 24 bytes, found {len(data)}")
        for order in "<>":
            magic, version, _flags, header, *places = struct.unpack_from(order + "HBBIIIII", data)
            if magic == _MAGIC:
                break
        else:
            raise BtfError(f"{name}: expected BTF (magic eb9f), found {bytes(data[:2]).hex()}")
        if version != 1:
            raise BtfError(f"{name}: expected BTF version 1, found {version}")
        type_off, type_len, str_off, str_len = places
        for what, start, size in (("types", type_off, type_len), ("strings", str_off, str_len)):
            if header + start + size > len(data):
                raise BtfError(
                    f"{name}: {what}: expected {size} bytes at {header + start}, the data has {len(data)}",
                    remedy="is the file truncated?",
                )
        if type_len % 4:
            raise BtfError(f"{name}: types: expected a multiple of 4 bytes, found {type_len}")
        self._found: dict[tuple[str, frozenset[int]], int] = {}
        self._composites: dict[int, Struct] = {}
        self._strings = bytes(data[header + str_off : header + str_off + str_len])
        if self._strings[:1] != b"\0":
            raise _split(name)
        self._words = array("I")
        self._words.frombytes(bytes(data[header + type_off : header + type_off + type_len]))
        if (order == "<") != (sys.byteorder == "little"):
            self._words.byteswap()

    def struct(self, name: str) -> Struct:
        """The struct or union of that name, also by a typedef. The first definition wins over others."""
        return self._struct(self._composite(name))

    def sizeof(self, name: str) -> int:
        """Bytes of a struct, union, enum, typedef, int or float by its name."""
        return self.type_size(self._find(name, _SIZED | {_TYPEDEF}, "type"))

    def offset(self, name: str, path: str) -> int:
        """Bytes from the begin of struct `name` to a member: `refcnt`, or `mkobj.kobj` for a nested one.

        Members of anonymous structs and unions are found as in C. A bit field is an error.
        """
        return self._walk(name, path)[0]

    def member_size(self, name: str, path: str) -> int:
        """Bytes of the member that `offset` finds."""
        return self.type_size(self._walk(name, path)[1])

    def enum(self, name: str) -> dict[str, int]:
        """The enumerators in order. One without a sign flag (all before pahole 1.24) is read as unsigned."""
        return self._enumerators(self._type(self._find(name, _ENUMS, "enum")))

    def section(self, name: str) -> dict[str, int]:
        """The variables in a section (`.data..percpu`) and where each starts, in bytes from its begin."""
        found = self._type(self._find(name, frozenset({_DATASEC}), "section"))
        variables = {}
        for at in range(found.at + 3, found.at + 3 + 3 * found.vlen, 3):
            variable = self._type(self._words[at])
            variables[self._string(variable.name)] = self._words[at + 1]
        return variables

    def _enumerators(self, found: _Type) -> dict[str, int]:
        each = _WORDS[found.kind][1]
        values: dict[str, int] = {}
        for at in range(found.at + 3, found.at + 3 + each * found.vlen, each):
            bits = 32 * (each - 1)
            value = self._words[at + 1] | (self._words[at + 2] << 32 if each == 3 else 0)
            values[self._string(self._words[at])] = (
                value - (1 << bits) if found.flag and value >> bits - 1 else value
            )
        return values

    def enumerator(self, name: str) -> int:
        """The value of one enumerator, whatever its enum is called: constants are often in one without a name."""
        for number in range(1, len(self._index[0]) + 1):
            found = self._type(number)
            if found.kind in _ENUMS:
                values = self._enumerators(found)
                if name in values:
                    return values[name]
        raise BtfLookupError(f"{self.name}: no enum of the kernel has {name}")

    def type_size(self, type_id: int) -> int:
        """Bytes of a type by its number (`Member.type_id`), through typedefs, qualifiers and arrays."""
        count = 1
        for _ in range(_MAX_DEPTH):
            found = self._type(type_id)
            if found.kind == _PTR:
                return count * _POINTER_SIZE
            if found.kind in _SIZED:
                return count * found.size_or_type
            if found.kind == _ARRAY:
                type_id, _index, elements = self._words[found.at + 3 : found.at + 6]
                count *= elements
            elif found.kind in _TRANSPARENT:
                type_id = found.size_or_type
            else:
                raise BtfError(f"{self.name}: type {type_id} (kind {found.kind}) has no size")
        raise BtfError(f"{self.name}: types are nested more than {_MAX_DEPTH} deep")

    @cached_property
    def _index(self) -> tuple[array[int], bytes]:
        """Of each type from number 1: the index of its first word; and their names' offsets, as bytes.

        This is the one pass over everything, some 100,000 rounds: nothing more belongs in its loop.
        """
        words, end = self._words, len(self._words)
        starts: list[int] = []
        add_start, steps = starts.append, _Steps()
        at = 0
        try:
            while at < end:
                add_start(at)
                at += steps[words[at + 1]]
        except KeyError as error:
            raise BtfError(
                f"{self.name}: type {len(starts)} is of kind {error}, which is not known"
            ) from None
        except IndexError:
            at = end + 1
        if at != end:
            raise BtfError(f"{self.name}: type {len(starts)} does not end with the type section")
        names = array("I", [words[start] for start in starts])
        if names and max(names) >= len(self._strings):
            raise _split(self.name)
        return array("I", starts), names.tobytes()

    def _type(self, type_id: int) -> _Type:
        starts = self._index[0]
        if not 0 < type_id <= len(starts):
            raise BtfError(f"{self.name}: type {type_id} of {len(starts)} is referred to")
        at = starts[type_id - 1]
        name, info, size_or_type = self._words[at : at + 3]
        return _Type(at, name, info >> 24 & 31, bool(info >> 31), info & 0xFFFF, size_or_type)

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset, offset + _MAX_NAME)
        if end < 0:
            raise BtfError(f"{self.name}: no name of at most {_MAX_NAME} bytes at {offset} of the strings")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    def _numbers(self, name: str) -> Iterator[int]:
        """The types of that name, in order. A name is once in the strings: libbpf deduplicates them."""
        names = self._index[1]
        string = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if not string or not name:
            return
        wanted = string.to_bytes(4, sys.byteorder)
        at = names.find(wanted)
        while at >= 0:
            if at % 4 == 0:
                yield at // 4 + 1
            at = names.find(wanted, at + 4 - at % 4)

    def _find(self, name: str, kinds: frozenset[int], what: str) -> int:
        """The first type of that name and of these kinds; one with members or a size before an empty one.

        Each is looked for once: the names of all types are searched for it.
        """
        key = name, kinds
        if key not in self._found:
            self._found[key] = self._search(name, kinds)
        if not self._found[key]:
            raise BtfLookupError(f"{self.name}: the kernel has no {what} {name}")
        return self._found[key]

    def _search(self, name: str, kinds: frozenset[int]) -> int:
        """The number of that type, 0 without one."""
        empty = 0
        for number in self._numbers(name):
            found = self._type(number)
            if found.kind in kinds:
                if found.vlen or found.kind not in _COMPOSITE | _ENUMS:
                    return number
                empty = empty or number
        return empty

    def _composite(self, name: str) -> _Type:
        return self._resolve(self._find(name, _COMPOSITE | {_TYPEDEF}, "struct"), name)

    def _resolve(self, type_id: int, name: str) -> _Type:
        """The struct or union behind typedefs and qualifiers."""
        for _ in range(_MAX_DEPTH):
            found = self._type(type_id)
            if found.kind in _COMPOSITE:
                return found
            if found.kind not in _TRANSPARENT:
                break
            type_id = found.size_or_type
        raise BtfLookupError(f"{self.name}: {name} is not a struct or union")

    def _struct(self, found: _Type) -> Struct:
        if found.at not in self._composites:
            self._composites[found.at] = self._read_struct(found)
        return self._composites[found.at]

    def _read_struct(self, found: _Type) -> Struct:
        members = tuple(
            Member(
                self._string(row[0]),
                row[1],
                *((row[2] & 0xFFFFFF, row[2] >> 24) if found.flag else (row[2], 0)),
            )
            for row in self._rows(found)
        )
        return Struct(self._string(found.name), found.size_or_type, members, found.kind == _UNION)

    def _rows(self, found: _Type) -> Iterator[array[int]]:
        for at in range(found.at + 3, found.at + 3 + 3 * found.vlen, 3):
            yield self._words[at : at + 3]

    def _walk(self, name: str, path: str) -> tuple[int, int]:
        """Byte offset and type of a member."""
        found = self._composite(name)
        total, type_id, so_far = 0, 0, name
        for part in path.split("."):
            if type_id:
                found = self._resolve(type_id, so_far)
            member = self._member(found, part, set())
            if member is None:
                raise BtfLookupError(f"{self.name}: {so_far} has no member {part}")
            so_far = f"{so_far}.{part}"
            if member.bit_size or member.bit_offset % 8:
                raise BtfLookupError(f"{self.name}: {so_far} is a bit field, which has no address")
            total += member.bit_offset // 8
            type_id = member.type_id
        return total, type_id

    def _member(self, found: _Type, name: str, seen: set[int], depth: int = 0) -> Member | None:
        """The member of that name, in anonymous members too; its offset is from the begin of `found`.

        `seen` are the types that were searched: corrupt data may nest one in itself.
        """
        members = self._struct(found).members
        for member in members:
            if name and member.name == name:
                return member
        for member in members:
            if member.name or member.type_id in seen or depth == _MAX_DEPTH:
                continue
            seen.add(member.type_id)
            nested = self._type(member.type_id)
            inner = self._member(nested, name, seen, depth + 1) if nested.kind in _COMPOSITE else None
            if inner:
                return inner._replace(bit_offset=inner.bit_offset + member.bit_offset)
        return None


def _split(name: str) -> BtfError:
    return BtfError(
        f"{name}: split BTF, whose types continue those of another file",
        remedy="read /sys/kernel/btf/vmlinux",
    )
