# SPDX-License-Identifier: MIT
"""Objects of a module → bytes and relocations; offsets and sizes are those of the kernel's BTF."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Union

from lkm.errors import LabError
from lkm.formats.btf import Btf
from lkm.formats.elf import SHF_ALLOC, SHF_WRITE, STB_LOCAL, STT_OBJECT
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol
from lkm.lab.assembled.code import Strings
from lkm.lab.assembled.language import At, Object, Parameter, Raw, Self, Value

__all__ = ["THIS_MODULE", "DataSection", "parameter_objects"]

THIS_MODULE = "__this_module"


class DataSection:
    """A section of objects, to which one after the other is added."""

    def __init__(self, name: str, btf: Btf, strings: Strings, *, pointer: int, align: int) -> None:
        self.name = name
        self.symbols: list[NewSymbol] = []
        self._btf = btf
        self._strings = strings
        self._pointer = pointer
        self._align = align
        self._data = bytearray()
        self._relocations: list[NewRelocation] = []

    def add(self, item: Union[Object, Raw]) -> None:
        """Put the object at the end, aligned, under its name."""
        self._data += bytes(-len(self._data) % self._align)
        start = len(self._data)
        if isinstance(item, Raw):
            self._data += item.data
        else:
            for fields in item.elements:
                self._struct(item, fields, start)
        size = len(self._data) - start
        self.symbols.append(NewSymbol(item.name, self.name, start, size, STB_LOCAL, STT_OBJECT))

    def section(self) -> NewSection:
        """The section as it is now."""
        return NewSection(
            self.name,
            bytes(self._data),
            flags=SHF_ALLOC | SHF_WRITE,
            align=self._align,
            relocations=tuple(self._relocations),
        )

    def _struct(self, item: Object, fields: Mapping[str, Value], start: int) -> None:
        """One struct at the end; `start` is where its object begins."""
        at = len(self._data)
        self._data += bytes(self._btf.sizeof(item.struct))
        for path, value in fields.items():
            offset = self._btf.offset(item.struct, path)
            size = self._btf.member_size(item.struct, path)
            if isinstance(value, Self):
                inside = at - start + self._btf.offset(item.struct, value.path)
                self._point(at + offset, At(item.name, inside))
            elif isinstance(value, str):
                self._point(at + offset, self._strings.add(value))
            elif isinstance(value, At):
                self._point(at + offset, value)
            else:
                raw = value if isinstance(value, bytes) else _number(value, size)
                if len(raw) > size:
                    raise LabError(f"{item.name}: {path} has {size} bytes, {len(raw)} were given")
                self._data[at + offset : at + offset + len(raw)] = raw

    def _point(self, offset: int, target: At) -> None:
        self._relocations.append(NewRelocation(offset, self._pointer, target.symbol, target.offset))


def _number(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def parameter_objects(parameters: Iterable[Parameter]) -> Iterable[Object]:
    """What `module_param_cb` makes (`include/linux/moduleparam.h`): an array of `struct kernel_param`."""
    for parameter in parameters:
        fields: dict[str, Value] = {
            "name": parameter.name,
            "mod": At(THIS_MODULE),
            "ops": At(parameter.operations),
            "perm": parameter.permissions,
            "level": -1,
        }
        if parameter.variable:
            fields["arg"] = At(parameter.variable)
        yield Object(f"__param_{parameter.name}", "kernel_param", (fields,))
