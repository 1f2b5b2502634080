# SPDX-License-Identifier: MIT
"""Frozen values ↔ JSON: `encode` and `decode` for NamedTuples made of NamedTuples, tuples, enums, scalars.

The types are read from the annotations, so a recorded file is checked against the very classes it is read
into. Annotate with `Optional[...]`: the core runs on Python 3.9, where `X | None` is no value. An `Address`
is an int that JSON has as `"0x…"`: kernel addresses exceed what other readers' numbers hold.
"""

from __future__ import annotations

import functools
from enum import Enum
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from lkm.errors import ParseError

__all__ = ["Address", "decode", "encode"]

T = TypeVar("T")

Address = Annotated[int, "hex"]


def encode(value: Any) -> Any:
    """A value as what `json.dumps` takes: NamedTuples as objects, tuples as arrays, enums as their value."""
    if _is_record(type(value)):
        hints = _hints(cast(Any, type(value)))
        return {name: _encode_field(hints[name], item) for name, item in zip(value._fields, value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def _encode_field(kind: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encode_field(get_args(kind)[1], item) for key, item in value.items()}
    if isinstance(value, int) and (kind is Address or Address in get_args(kind)):
        return hex(value)
    return encode(value)


def decode(kind: type[T], data: Any, *, where: str = "") -> T:
    """`data` (of `json.loads`) as a `kind`. ParseError names the field that does not fit.

    A field with a default may be absent; a field that `kind` does not have is an error.
    """
    return cast(T, _decode(kind, data, where or kind.__name__))


def _decode(kind: Any, data: Any, where: str) -> Any:
    if kind is Address:
        return _decode_address(data, where)
    origin = get_origin(kind)
    if origin is Union:
        if data is None:
            return None
        (inner,) = [arm for arm in get_args(kind) if arm is not type(None)]
        return _decode(inner, data, where)
    if origin is tuple:
        return _decode_tuple(kind, data, where)
    if origin is dict:
        _expect(isinstance(data, dict), where, "an object", data)
        return {key: _decode(get_args(kind)[1], item, f"{where}[{key!r}]") for key, item in data.items()}
    if _is_record(kind):
        return _decode_fields(kind, data, where)
    scalar = getattr(kind, "__supertype__", kind)  # a NewType is its base
    if isinstance(scalar, type) and issubclass(scalar, Enum):
        members = {member.value: member for member in scalar}
        _expect(isinstance(data, str) and data in members, where, f"one of {sorted(members)}", data)
        return members[data]
    exact = isinstance(data, scalar) and (scalar is bool or not isinstance(data, bool))
    _expect(exact, where, scalar.__name__, data)
    return data


def _decode_address(data: Any, where: str) -> int:
    try:
        return int(data, 16)
    except (TypeError, ValueError):
        _expect(isinstance(data, int) and not isinstance(data, bool), where, 'an address ("0x…")', data)
        return cast(int, data)


def _decode_tuple(kind: Any, data: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), where, "an array", data)
    arms = get_args(kind)
    if len(arms) == 2 and arms[1] is Ellipsis:
        return tuple(_decode(arms[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    _expect(len(data) == len(arms), where, f"{len(arms)} items", data)
    return tuple(_decode(arm, item, f"{where}[{i}]") for i, (arm, item) in enumerate(zip(arms, data)))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _decode_fields(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), where, "an object", data)
    unknown = sorted(set(data) - set(kind._fields))
    _expect(not unknown, where, f"only the fields of {kind.__name__}", unknown)
    values = {}
    for name in kind._fields:
        if name in data:
            values[name] = _decode(_hints(kind)[name], data[name], f"{where}.{name}")
        else:
            _expect(name in kind._field_defaults, f"{where}.{name}", "a value", None)
    return kind(**values)


def _expect(condition: object, where: str, expected: str, got: Any) -> None:
    if not condition:
        shown = repr(got)
        raise ParseError(f"{where}: expected {expected}, found {shown[:80]}{'…' if len(shown) > 80 else ''}")
