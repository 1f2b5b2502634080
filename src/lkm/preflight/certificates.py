# SPDX-License-Identifier: MIT
"""Whether a module still is what was signed, by the certificates that the kernel's own image has.

The kernel trusts what is compiled into it (system_certificate_list, certs/system_certificates.S), DER certificates
one after the other. The verification itself is the library `cryptography`'s; without it, nothing is told.
Source: mod_verify_sig, pkcs7_verify (crypto/asymmetric_keys/pkcs7_verify.c, 5.10 to 7.3): the message has neither
signed attributes nor content, so that the signature is over the module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Optional

from lkm.formats.pkcs7 import parse_certificate, signature_of, signer_of

__all__ = ["find_certificates", "verifier"]

_CERTIFICATE = re.compile(rb"\x30\x82(..)\x30\x82..\xa0\x03\x02\x01\x02\x02", re.DOTALL)
"""SEQUENCE, SEQUENCE, [0] version 3, INTEGER: how every X.509 certificate of some size begins."""
_MAX_CERTIFICATES = 64


def find_certificates(data: bytes) -> tuple[bytes, ...]:
    """The DER certificates in an unpacked image."""
    found = []
    for match in _CERTIFICATE.finditer(data):
        size = int.from_bytes(match[1], "big") + 4
        found.append(data[match.start() : match.start() + size])
        if len(found) == _MAX_CERTIFICATES:
            break
    return tuple(found)


def verifier(certificates: Iterable[bytes]) -> Callable[[bytes, bytes], Optional[bool]]:
    """A function of a module's bytes and its PKCS#7 message: intact, changed, or None for "cannot be told"."""
    known = {found.identity: found.key for found in map(parse_certificate, certificates) if found}

    def verify(payload: bytes, message: bytes) -> Optional[bool]:
        parts = signature_of(message)
        key = known.get(signer_of(message) or b"")
        return None if parts is None or key is None else _holds(key, payload, *parts)

    return verify


def _holds(der: bytes, payload: bytes, digest: str, signature: bytes) -> Optional[bool]:
    """Whether `signature` is that of `payload` by the key `der`; None without the library."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError:
        return None
    kinds = {
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
        "sha1": hashes.SHA1(),
    }
    if digest not in kinds:
        return None
    try:
        key = load_der_public_key(der)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), kinds[digest])
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(kinds[digest]))
        else:
            return None
    except InvalidSignature:
        return False
    except ValueError:  # a key of a kind that the library does not read
        return None
    return True
