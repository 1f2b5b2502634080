# SPDX-License-Identifier: MIT
"""Parameters: what the file has (`__param`), and what becomes of a line of values.

Sources: parse_args, parse_one, param_array (kernel/params.c), next_arg (lib/cmdline.c), unknown_module_param_cb
(kernel/module.c, kernel/module/main.c): 5.10 to 7.3. struct kernel_param of 64-bit kernels.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lkm.formats.elf import SHT_RELA
from lkm.formats.raw_module import MAX_STRING, RELA, RawModule
from lkm.preflight.load import Load
from lkm.preflight.parameter_values import NO_VALUE_NEEDED, is_standard, judge_value
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["Parameter", "check_parameters", "read_parameters", "split_arguments"]

_ENTRY = 40
_NAME, _OPS, _ARG = 0, 16, 32
_ARRAY_OPS = 16
_MAX_TABLES = 4
"""A section has one table of relocations; in a damaged file thousands could claim it."""


class Parameter(NamedTuple):
    """One parameter. `kind` is X of its `param_ops_X`, "" for operations of its own; of an array, its
    elements'. `maximum` is how many an array takes (0: no array), `limit` the size of a string's buffer."""

    name: str
    kind: str
    maximum: int = 0
    limit: int = 0


class _Place(NamedTuple):
    section: int
    offset: int
    symbol: str


def read_parameters(image: RawModule) -> tuple[Parameter, ...]:
    """The entries of `__param`, by their relocations."""
    section = image.find("__param")
    if not section or not image.symbol_tables:
        return ()
    reader = _Reader(image)
    places = reader.relocations(section)
    end = image.sections[section].size // _ENTRY * _ENTRY
    found = []
    for entry in sorted({offset // _ENTRY * _ENTRY for offset in places if offset < end}):
        name, ops, arg = (places.get(entry + field) for field in (_NAME, _OPS, _ARG))
        if name is not None and ops is not None:
            found.append(reader.parameter(name, ops, arg))
    return tuple(found)


class _Reader:
    """Follows the pointers of a file; what was read once is kept."""

    def __init__(self, image: RawModule) -> None:
        self._image = image
        self._table = image.symbol_tables[0]
        self._known: dict[int, dict[int, _Place]] = {}

    def parameter(self, name: _Place, ops: _Place, arg: Optional[_Place]) -> Parameter:
        """One entry: `arg` leads to what describes an array or a string."""
        kind = _kind_of(ops)
        maximum = limit = 0
        if ops.symbol == "param_array_ops" and arg is not None:
            maximum = self._word(arg)
            inner = self.relocations(arg.section).get(arg.offset + _ARRAY_OPS)
            kind = _kind_of(inner) if inner is not None else ""
        elif kind == "string" and arg is not None:
            limit = self._word(arg)
        text = self._bytes(name, MAX_STRING).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        return Parameter(text, kind, maximum, limit)

    def relocations(self, section: int) -> dict[int, _Place]:
        """Where each relocated pointer of a section points to."""
        if section not in self._known:
            found = self._known[section] = {}
            tables = [row for row in self._image.sections if row.type == SHT_RELA and row.info == section]
            for row in tables[:_MAX_TABLES]:
                raw = self._image.content(row)
                for offset, _, index, addend in RELA.iter_unpack(raw[: len(raw) // RELA.size * RELA.size]):
                    symbol = self._image.symbol(self._table, index)
                    if symbol is not None:
                        name = self._image.symbol_name(self._table, symbol)
                        found[offset] = _Place(symbol.shndx, symbol.value + addend, name)
        return self._known[section]

    def _word(self, place: _Place) -> int:
        return int.from_bytes(self._bytes(place, 4), "little")

    def _bytes(self, place: _Place, size: int) -> bytes:
        sections = self._image.sections
        if not 0 < place.section < len(sections) or place.offset < 0:
            return b""
        return self._image.content(sections[place.section])[place.offset : place.offset + size]


def _kind_of(place: _Place) -> str:
    """X of `param_ops_X`; "" for operations of its own."""
    return place.symbol[len("param_ops_") :] if place.symbol.startswith("param_ops_") else ""


def split_arguments(text: str) -> Iterator[tuple[str, Optional[str]]]:
    """Names and values (None: no `=`) as next_arg takes them apart: quotes hold spaces, and go away."""
    text = text.lstrip()
    while text:
        quoted = text[0] == '"'
        body = text[1:] if quoted else text
        in_quote, equals, end = quoted, -1, len(body)
        for at, char in enumerate(body):
            if char.isspace() and not in_quote:
                end = at
                break
            if char == "=" and equals <= 0:
                equals = at or equals
            if char == '"':
                in_quote = not in_quote
        word, text = body[:end], body[end:].lstrip()
        yield _take_apart(word, equals, quoted=quoted)


def _take_apart(word: str, equals: int, *, quoted: bool) -> tuple[str, Optional[str]]:
    if equals <= 0:
        return (word[:-1] if quoted and word.endswith('"') else word), None
    name, value = word[:equals], word[equals + 1 :]
    if value.startswith('"'):
        value = _cut(value[1:])
    elif quoted:
        value = _cut(value)
    return name, value


def _cut(value: str) -> str:
    return value.removesuffix('"')


def check_parameters(load: Load) -> StageResult:
    """parse_args: every argument is tried, the error of the last bad one counts."""
    if not load.request.parameters.strip():
        return StageResult(())
    known = {parameter.name.replace("-", "_"): parameter for parameter in read_parameters(load.image)}
    found: list[Problem] = []
    for name, value in split_arguments(load.request.parameters):
        if name == "--" and value is None:
            break
        parameter = known.get(name.replace("-", "_"))
        if parameter is None:
            found.extend(_ignored(load, name, known))
        else:
            found.extend(_set(load, parameter, name, value))
    return StageResult(tuple(found), last_wins=True)


def _ignored(load: Load, name: str, known: dict[str, Parameter]) -> Iterator[Problem]:
    if name in ("async_probe", "dyndbg"):
        return
    names = ", ".join(parameter.name for parameter in known.values())
    yield Problem(
        Cause.PARAMETER, None, f"it has no parameter {name}: the kernel ignores it",
        f"it has {names}" if names else "it has no parameters at all", "unknown_module_param_cb",
        (f"{load.struct_name}: unknown parameter '{name}' ignored",), symbol=name,
    )  # fmt: skip


def _set(load: Load, parameter: Parameter, name: str, value: Optional[str]) -> Iterator[Problem]:
    if not is_standard(parameter.kind):
        load.doubt(f"what {name}={value} means to the module: the parameter has a function of its own")
        return
    number, extra = _judge(load, parameter, value)
    if not number:
        return
    shown = value or ""
    if number == errno.ENOENT:
        line = f"{load.struct_name}: Unknown parameter `{name}'"
    elif number == errno.ENOSPC:
        line = f"{load.struct_name}: `{shown}' too large for parameter `{name}'"
    else:
        line = f"{load.struct_name}: `{shown}' invalid for parameter `{name}'"
    kind = f"up to {parameter.maximum} of {parameter.kind}" if parameter.maximum else parameter.kind
    yield Problem(
        Cause.PARAMETER, number, f"{name}={shown} is no {kind}" if value is not None else f"{name} needs a value",
        f"{name} takes {kind}", "parse_args",
        (*((extra.format(name=parameter.name),) if extra else ()), line), symbol=name,
    )  # fmt: skip


def _judge(load: Load, parameter: Parameter, value: Optional[str]) -> tuple[int, str]:
    if not parameter.maximum:
        return judge_value(parameter.kind, value, load.rules, parameter.limit)
    if value is None and parameter.kind not in NO_VALUE_NEEDED:
        return errno.EINVAL, ""
    if value is None:
        return errno.EINVAL, ""  # param_array_ops itself needs a value
    for count, item in enumerate(value.split(",")):
        if count == parameter.maximum:
            return errno.EINVAL, f"{{name}}: can only take {parameter.maximum} arguments"
        number, extra = judge_value(parameter.kind, item, load.rules)
        if number:
            return number, extra
    return 0, ""
