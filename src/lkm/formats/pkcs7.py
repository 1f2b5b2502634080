# SPDX-License-Identifier: MIT
"""Who signed a PKCS#7 message, and the signature itself, read from its DER; no verification.

Source: RFC 2315 (PKCS#7), RFC 5652 (CMS) sections 5.1 and 5.3; the kernel's parser takes the same structure
(crypto/asymmetric_keys/pkcs7.asn1).
"""

from __future__ import annotations

from typing import NamedTuple, Optional

__all__ = ["Certificate", "parse_certificate", "signature_of", "signer_of"]

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_OBJECT, _OCTETS, _SEQUENCE, _SET = 0x06, 0x04, 0x30, 0x31
_EXPLICIT, _CERTIFICATES, _REVOCATIONS = 0xA0, 0xA0, 0xA1


class Certificate(NamedTuple):
    """What of an X.509 certificate tells its key: `identity` as `signer_of` has it, `key` a SubjectPublicKeyInfo."""

    identity: bytes
    key: bytes


def parse_certificate(der: bytes) -> Optional[Certificate]:
    """The issuer with the serial number, and the key, of a certificate (RFC 5280 section 4.1); None for junk."""
    try:
        body = _open(der, *_open(der, 0, len(der), _SEQUENCE), _SEQUENCE)
        parts, at = [], body[0]
        while at < body[1]:
            end = _element(der, at, body[1])[2]
            parts.append(der[at:end])
            at = end
        # version, serial number, algorithm, issuer, validity, subject, key
        return Certificate(parts[3] + parts[1], parts[6])
    except (IndexError, ValueError):
        return None


def signer_of(message: bytes) -> Optional[bytes]:
    """The identifier of the first signer as DER: issuer and serial number, or a subject key.

    None for what is no signed message.
    """
    try:
        return _signer(message)
    except (IndexError, ValueError):
        return None


_DIGESTS = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
    bytes.fromhex("2b0e03021a"): "sha1",
}
"""Object identifiers (RFC 8017, NIST CSOR) of what messages are hashed with."""


def signature_of(message: bytes) -> Optional[tuple[str, bytes]]:
    """The hash and the signature of the first signer, if it has no signed attributes; else None."""
    try:
        start, end = _signer_info(message)
        at = _element(message, _element(message, start, end)[2], end)[2]  # behind version and identifier
        digest = _open(message, at, end, _SEQUENCE)
        name = _DIGESTS.get(message[slice(*_open(message, *digest, _OBJECT))], "")
        at = _element(message, at, end)[2]
        if message[at] != _SEQUENCE:
            return None
        at = _element(message, at, end)[2]  # behind the kind of key
        return name, message[slice(*_open(message, at, end, _OCTETS))]
    except (IndexError, ValueError):
        return None


def _signer(message: bytes) -> bytes:
    start, end = _signer_info(message)
    at = _element(message, start, end)[2]  # behind the version
    _, first, last = _element(message, at, end)
    return message[first:last]


def _signer_info(message: bytes) -> tuple[int, int]:
    """Where the content of the first SignerInfo begins and ends."""
    content = _open(message, 0, len(message), _SEQUENCE)
    if not message.startswith(_SIGNED_DATA, content[0]):
        raise ValueError("no signed data")
    at = content[0] + len(_SIGNED_DATA)
    explicit = _open(message, at, content[1], _EXPLICIT)
    signed = _open(message, *explicit, _SEQUENCE)
    at = signed[0]
    for _ in range(3):  # version, digest algorithms, content
        at = _element(message, at, signed[1])[2]
    while message[at] in (_CERTIFICATES, _REVOCATIONS):
        at = _element(message, at, signed[1])[2]
    signers = _open(message, at, signed[1], _SET)
    return _open(message, *signers, _SEQUENCE)


def _open(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends."""
    if data[at] != tag:
        raise ValueError(f"expected tag {tag:#x}, found {data[at]:#x}")
    _, start, stop = _element(data, at, end)
    return start, stop


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Tag, and where the content begins and ends."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= 4:
            raise ValueError("a length of a form that DER does not have")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > end:
        raise ValueError("an element longer than what holds it")
    return data[at], start, start + length
