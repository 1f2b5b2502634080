# SPDX-License-Identifier: MIT
"""What it takes to verify a PKCS#7 message: who signed it, the signature, certificates; nothing is verified here.

Source: RFC 2315 (PKCS#7), RFC 5652 (CMS) sections 5.1 and 5.3; the kernel's parser takes the same structure
(crypto/asymmetric_keys/pkcs7.asn1). Certificates: RFC 5280 section 4.1, PEM: RFC 7468.
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple, Optional

from lkm.errors import ParseError
from lkm.formats.signer import DIGESTS, Der, dotted, signer_info

__all__ = [
    "Certificate",
    "CertificateError",
    "parse_certificate",
    "parse_certificates",
    "rsa_numbers",
    "signature_of",
    "signer_of",
]

_INTEGER, _BITS, _OCTETS, _OBJECT, _SEQUENCE, _CONTEXT = 0x02, 0x03, 0x04, 0x06, 0x30, 0xA0
_RSA = bytes.fromhex("2a864886f70d010101")  # 1.2.840.113549.1.1.1
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
_MAX_CERTIFICATES = 1024


class CertificateError(ParseError):
    """A file with no certificate in it, or with one that cannot be read."""


class Certificate(NamedTuple):
    """What of an X.509 certificate tells its key: `identity` as `signer_of` has it, `key` a SubjectPublicKeyInfo."""

    identity: bytes
    key: bytes


def parse_certificates(data: bytes, *, name: str = "<bytes>") -> tuple[bytes, ...]:
    """The certificates in a file, PEM (one or more) or DER, as DER. Raises `CertificateError`."""
    texts = _PEM.findall(data)[:_MAX_CERTIFICATES]
    try:
        found = tuple(map(binascii.a2b_base64, texts)) or (data,)
    except binascii.Error as error:
        raise CertificateError(f"{name}: the text of a certificate is damaged: {error}") from error
    if any(parse_certificate(der) is None for der in found):
        raise CertificateError(
            f"{name}: no certificate that can be read", remedy="give an X.509 certificate, as PEM or DER"
        )
    return found


def parse_certificate(der: bytes) -> Optional[Certificate]:
    """The issuer with the serial number, and the key, of a certificate; None for junk."""
    try:
        body = Der(der).enter(_SEQUENCE).enter(_SEQUENCE)
        if body.tag() == _CONTEXT:  # the version, which the first one leaves out
            body.take()
        serial = _value(body, _INTEGER)
        body.take(_SEQUENCE)
        issuer = _value(body, _SEQUENCE)
        body.take(_SEQUENCE)
        body.take(_SEQUENCE)
        return Certificate(issuer + serial, _value(body, _SEQUENCE))
    except (IndexError, ValueError):
        return None


def _value(values: Der, tag: int) -> bytes:
    """The next value, with what is around it."""
    if values.tag() != tag:
        raise ValueError(f"expected tag {tag:#x}, found {values.tag():#x}")
    return values.whole()


def rsa_numbers(key: bytes) -> Optional[tuple[int, int]]:
    """Modulus and exponent of a SubjectPublicKeyInfo (RFC 8017 A.1.1); None for a key of another kind."""
    try:
        info = Der(key).enter(_SEQUENCE)
        if info.enter(_SEQUENCE).take(_OBJECT) != _RSA:
            return None
        numbers = Der(info.take(_BITS)[1:]).enter(_SEQUENCE)
        return int.from_bytes(numbers.take(_INTEGER), "big"), int.from_bytes(numbers.take(_INTEGER), "big")
    except (IndexError, ValueError):
        return None


def signer_of(message: bytes) -> Optional[bytes]:
    """The identifier of the first signer: the DER of its issuer and its serial number, or of a subject key.

    None for what is no signed message, or has a signer who is not told to the end.
    """
    try:
        signer = signer_info(message)
        signer.take()  # the version
        if signer.tag() != _SEQUENCE:
            identity = signer.whole()
        else:
            who = signer.enter(_SEQUENCE)
            identity = who.whole() + who.whole()
        _skip_algorithm(signer)  # the hash
        if signer.tag() != _SEQUENCE:
            signer.take()  # attributes
        _skip_algorithm(signer)  # the kind of key
        signer.take(_OCTETS)
        return identity
    except (IndexError, ValueError):
        return None


def _skip_algorithm(values: Der) -> None:
    """An AlgorithmIdentifier: what it is, and perhaps one value more. ValueError for anything else."""
    algorithm = values.enter(_SEQUENCE)
    algorithm.take(_OBJECT)
    if algorithm.more():
        algorithm.take()
    if algorithm.more():
        raise ValueError("an algorithm with more than its parameters")


def signature_of(message: bytes) -> Optional[tuple[str, bytes]]:
    """The hash and the signature of the first signer, if it has no signed attributes; else None."""
    try:
        signer = signer_info(message)
        signer.take()  # the version
        signer.take()  # who
        digest = dotted(signer.enter(_SEQUENCE).take(_OBJECT))
        if signer.tag() != _SEQUENCE:
            return None
        signer.take()  # the kind of key
        return DIGESTS.get(digest, digest), signer.take(_OCTETS)
    except (IndexError, ValueError):
        return None
