# SPDX-License-Identifier: MIT
"""The signature that is appended to a module file.

File: payload, signer name, key identifier, signature, `struct module_signature` (12 bytes), marker.
Source: `struct module_signature` in the kernel's `include/linux/module_signature.h`, `mod_check_sig` in
`kernel/module_signature.c` and `module_sig_check` in `kernel/module/signing.c` (6.1).
"""

from __future__ import annotations

from typing import NamedTuple

from lkm.errors import ParseError
from lkm.formats.signer import MARKER, TRAILER

__all__ = [
    "MARKER",
    "PKEY_ID_PKCS7",
    "ModuleSignature",
    "SignatureError",
    "append_signature",
    "split_signature",
]

PKEY_ID_PKCS7 = 2


class SignatureError(ParseError):
    """A signature trailer whose lengths do not fit its file; the kernel answers EBADMSG."""


class ModuleSignature(NamedTuple):
    """A signature trailer. `signature` is a PKCS#7 message where `id_type` is 2; 4.3+ takes no other.

    `payload_len` is the size in bytes of the module before it.
    """

    payload_len: int
    id_type: int
    algo: int
    hash: int
    signer: bytes
    key_id: bytes
    signature: bytes


def append_signature(payload: bytes, signature: bytes) -> bytes:
    """A module with the PKCS#7 message `signature` at its end; the other fields of the trailer are zero."""
    return payload + signature + TRAILER.pack(0, 0, PKEY_ID_PKCS7, 0, 0, len(signature)) + MARKER


def split_signature(
    data: bytes | memoryview, *, name: str = "<bytes>"
) -> tuple[memoryview, ModuleSignature | None]:
    """The module without its signature, and the signature, or None for an unsigned one.

    Raises `SignatureError` for a marker with no sound trailer before it.
    """
    view = memoryview(data)
    end = len(view) - len(MARKER)
    if end < 0 or bytes(view[end:]) != MARKER:
        return view, None
    if end < TRAILER.size:
        raise SignatureError(f"{name}: expected a signature trailer of {TRAILER.size} bytes, found {end}")
    end -= TRAILER.size
    algo, hash_, id_type, signer_len, key_id_len, size = TRAILER.unpack_from(view, end)
    payload = end - size - key_id_len - signer_len
    if payload < 0 or size == 0:
        raise SignatureError(
            f"{name}: signature of {signer_len}+{key_id_len}+{size} bytes is not in the {end} before it",
            remedy="sign or copy the file again",
        )
    key_at = payload + signer_len
    signature = ModuleSignature(
        payload_len=payload,
        id_type=id_type,
        algo=algo,
        hash=hash_,
        signer=bytes(view[payload:key_at]),
        key_id=bytes(view[key_at : key_at + key_id_len]),
        signature=bytes(view[key_at + key_id_len : end]),
    )
    return view[:payload], signature
