# SPDX-License-Identifier: MIT
"""What modinfo prints of one module, and the object that --json has of it. Bytes, as the file has them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.formats.signer import Signer

__all__ = ["Facts", "as_object", "render", "render_head"]

_PARAMETERS = frozenset({b"parm", b"parmtype"})
_HEX_LINE = 60  # twenty bytes, each as `AB:`


class Facts:
    """A module: its name, its file ("" for one that is built in), its entries `key=value`, who signed it.

    `parameters` has name, description and type of each, in the file's order; `bad` the entries about parameters
    that name none.
    """

    def __init__(self, name: str, path: str, entries: list[bytes], signer: Signer | None) -> None:
        self.name, self.path, self.entries, self.signer = name, path, entries, signer
        self.bad: list[bytes] = []

    def parameters(self) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """Name, description and type; None for what is not told. `bad` is filled on the way."""
        found: dict[bytes, list[bytes | None]] = {}
        for entry in self.entries:
            key, equals, text = entry.partition(b"=")
            if key not in _PARAMETERS:
                continue
            name, colon, value = text.partition(b":")
            if colon:
                found.setdefault(name, [None, None])[key == b"parmtype"] = value
            else:
                self.bad.append(entry if equals else entry + b"=")
        return [(name, text, kind) for name, (text, kind) in found.items()]


class _Labels(dict[bytes, bytes]):
    """`license:        ` for `license`: the value begins in column 17 if the key is not too long."""

    def __missing__(self, key: bytes) -> bytes:
        label = self[key] = b"%b:%b" % (key, b" " * (15 - min(len(key), 15)))
        return label


_LABELS = _Labels()


def render_head(name: str, path: str, field: bytes | None, separator: bytes) -> bytes:
    """What is printed before a module is read. `field`: only this one is wanted, without its name."""
    shown = os.fsencode(path) if path else b"(builtin)"
    if field is not None:
        found = [os.fsencode(name)] if field == b"name" and not path else []
        found += [shown] if field == b"filename" else []
    else:
        found = [] if path else [_LABELS[b"name"] + os.fsencode(name)]
        found.append(_LABELS[b"filename"] + shown)
    return b"".join(line + separator for line in found)


def render(facts: Facts, field: bytes | None, separator: bytes) -> bytes:
    """All that is printed of a module."""
    head = render_head(facts.name, facts.path, field, separator)
    if field == b"parm":
        lines = _parameters(facts, b"%b: (%b)")
    elif field is not None:
        lines = [value for key, value in _pairs(facts) if key == field]
    else:
        lines = _all_fields(facts, separator)
    return head + separator.join([*lines, b""])


def _all_fields(facts: Facts, separator: bytes) -> list[bytes]:
    """A line an entry; parameters are at the end, each with its type."""
    lines, labels, plain, parameters = [], _LABELS, separator == b"\0", False
    for entry in facts.entries:
        key, equals, value = entry.partition(b"=")
        if key in _PARAMETERS:
            parameters = True
        elif plain:
            lines.append(entry if equals else entry + b"=")
        else:
            lines.append(labels[key] + value)
    for key, value in _signature(facts.signer):
        lines.append(key + b"=" + value if plain else labels[key] + value)
    if parameters:
        lines += [labels[b"parm"] + line for line in _parameters(facts, b"%b:%b")]
    return lines


def _pairs(facts: Facts) -> list[tuple[bytes, bytes]]:
    pairs = [entry.partition(b"=") for entry in facts.entries]
    return [*((key, value) for key, _, value in pairs), *_signature(facts.signer)]


def _signature(signer: Signer | None) -> list[tuple[bytes, bytes]]:
    if signer is None:
        return []
    return [
        (b"sig_id", signer.id_type.encode()),
        (b"signer", signer.name),
        (b"sig_key", _hex(signer.key_id)),
        (b"sig_hashalgo", signer.digest.encode()),
        (b"signature", _hex(signer.signature)),
    ]


def _hex(data: bytes) -> bytes:
    text = data.hex(":").upper()
    return "\n\t\t".join([text[at : at + _HEX_LINE] for at in range(0, len(text), _HEX_LINE)]).encode()


def _parameters(facts: Facts, bare: bytes) -> list[bytes]:
    """`NAME:DESCRIPTION (TYPE)`, the first one last; `bare` is the form of one without a description."""
    lines = []
    for name, text, kind in reversed(facts.parameters()):
        if text is None:
            lines.append(bare % (name, kind))
        elif kind is None:
            lines.append(b"%b:%b" % (name, text))
        else:
            lines.append(b"%b:%b (%b)" % (name, text, kind))
    return lines


def as_object(facts: Facts) -> dict[str, object]:
    """Every field with its values in the file's order; parameters and signature have objects of their own."""
    fields: dict[str, list[str]] = {}
    for entry in facts.entries:
        key, _, value = entry.partition(b"=")
        if key not in (b"parm", b"parmtype"):
            fields.setdefault(_text(key), []).append(_text(value))
    signer = facts.signer
    return {
        "name": facts.name,
        "filename": facts.path or None,
        "builtin": not facts.path,
        "fields": fields,
        "parameters": [
            {
                "name": _text(name),
                "description": None if text is None else _text(text),
                "type": None if kind is None else _text(kind),
            }
            for name, text, kind in facts.parameters()
        ],
        "signature": signer
        and {
            "id": signer.id_type,
            "signer": _text(signer.name),
            "key": signer.key_id.hex(":").upper(),
            "hash": signer.digest,
            "signature": signer.signature.hex(),
        },
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
