# SPDX-License-Identifier: MIT
"""Whether a module still is what was signed, by the certificates that the kernel's own image has, and given ones.

The kernel trusts what is compiled into it (system_certificate_list, certs/system_certificates.S), DER certificates
one after the other; and what its owner enrolled, which is given as files. The verification itself is the library
`cryptography`'s; without it, nothing is told. Source: mod_verify_sig, pkcs7_verify (crypto/asymmetric_keys/
pkcs7_verify.c, 5.10 to 7.3): the message has neither signed attributes nor content, so that the signature is over
the module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Optional

from lkm.formats.pkcs7 import parse_certificate, rsa_numbers, signature_of, signer_of
from lkm.preflight.kernel import Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes

__all__ = ["can_verify", "find_certificates", "verifier"]

_HASHES = {
    "sha1": "SHA1", "sha224": "SHA224", "sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512",
    "sha3-256": "SHA3_256", "sha3-384": "SHA3_384", "sha3-512": "SHA3_512",
}  # fmt: skip
"""Names as `lkm.formats.signer` has them, and the library's: those of CONFIG_MODULE_SIG_… (SHA-3: 6.7)."""

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


def verifier(certificates: Iterable[bytes]) -> Callable[[bytes, bytes], Verdict]:
    """A function of a module's bytes and its PKCS#7 message, by these certificates (DER)."""
    known = {found.identity: found.key for found in map(parse_certificate, certificates) if found}

    def verify(payload: bytes, message: bytes) -> Verdict:
        key = known.get(signer_of(message) or b"")
        if key is None:
            return Verdict.NO_CERTIFICATE
        parts = signature_of(message)
        holds = None if parts is None else _holds(key, payload, *parts)
        return {True: Verdict.HOLDS, False: Verdict.CHANGED, None: Verdict.UNVERIFIED}[holds]

    return verify


def can_verify() -> bool:
    """Whether the library is there."""
    try:
        import cryptography.hazmat.primitives.hashes  # noqa: F401
    except ImportError:
        return False
    return True


def _holds(der: bytes, payload: bytes, digest: str, signature: bytes) -> Optional[bool]:
    """Whether `signature` is that of `payload` by the key `der`; None without the library."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError:
        return None
    kind = getattr(hashes, _HASHES.get(digest, ""), None)
    if kind is None:
        return None
    try:
        numbers = rsa_numbers(der)
        if numbers is None:
            return _holds_other(der, payload, kind(), signature)
        modulus, exponent = numbers
        rsa.RSAPublicNumbers(exponent, modulus).public_key().verify(
            signature, payload, padding.PKCS1v15(), kind()
        )
    except InvalidSignature:
        return False
    except ValueError:  # a key of a kind that the library does not read
        return None
    return True


def _holds_other(der: bytes, payload: bytes, kind: hashes.HashAlgorithm, signature: bytes) -> Optional[bool]:
    """As `_holds`, for keys that are not RSA's: what reads them all takes as long to import as the rest does."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(der)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    key.verify(signature, payload, ec.ECDSA(kind))
    return True
