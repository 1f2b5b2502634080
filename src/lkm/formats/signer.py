# SPDX-License-Identifier: MIT
"""Who signed a module, by what the file says; nothing is verified. For tools that look at thousands of files.

A PKCS#7 message (RFC 2315, in DER) names its signer by issuer and serial number, as scripts/sign-file of the
kernel has it; the older forms say it in the trailer. Trailer: `struct module_signature` in
include/linux/module_signature.h (6.1), enums in include/linux/verification.h (3.7 to 4.2).
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

__all__ = ["DIGESTS", "MARKER", "TRAILER", "Der", "Signer", "dotted", "parse_signer", "signer_info"]

MARKER = b"~Module signature appended~\n"
TRAILER = struct.Struct(">BBBBB3xI")
"""algo, hash, id_type, signer_len, key_id_len, pad, sig_len."""

_EXPECTED = 2048  # a signature with its trailer takes 700 to 900 bytes
_ALGORITHMS = 2  # DSA, RSA
_HASHES = ("md4", "md5", "sha1", "rmd160", "sha256", "sha384", "sha512", "sha224", "sm3")
_TYPES = ("PGP", "X509", "PKCS#7")
_PKCS7 = 2

_SEQUENCE, _SET, _INTEGER, _OCTETS, _OID = 0x30, 0x31, 0x02, 0x04, 0x06
_SIGNED_DATA = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"  # 1.2.840.113549.1.7.2
_COMMON_NAME = b"\x55\x04\x03"  # 2.5.4.3
_CONTEXT = 0xA0
_LONGEST_OID = 64  # bytes: the numbers of a longer one would take time without end

# Digest algorithms by OID, named as OpenSSL does.
DIGESTS = {
    "1.2.840.113549.2.4": "md4",
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "1.3.36.3.2.1": "ripemd160",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.5": "sha512-224",
    "2.16.840.1.101.3.4.2.6": "sha512-256",
    "2.16.840.1.101.3.4.2.7": "sha3-224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
    "1.2.156.10197.1.401": "sm3",
}


class Signer:
    """What is said of a signature.

    id_type    PGP, X509 or PKCS#7
    name       of the signer: of PKCS#7 the issuer's common name, else the last part of its name
    key_id     of PKCS#7 the certificate's serial number
    digest     the digest algorithm, as `sha256`, or its OID
    signature  the signature itself, without what is around it
    """

    __slots__ = ("digest", "id_type", "key_id", "name", "signature")

    def __init__(self, id_type: str, *, name: bytes, key_id: bytes, digest: str, signature: bytes) -> None:
        self.id_type, self.name, self.key_id = id_type, name, key_id
        self.digest, self.signature = digest, signature


def parse_signer(read: Read, size: int, known: dict[bytes, Signer] | None = None) -> Signer | None:
    """The signer of a module of `size` bytes; None for one that is not signed, or not soundly.

    `read` gives the bytes at (offset, length). The signatures of one build differ in their last bytes alone:
    `known` keeps what stands before them, and spares reading that again.
    """
    start = max(size - _EXPECTED, 0)
    tail = read(start, size - start)
    end = len(tail) - len(MARKER) - TRAILER.size
    if end < 0 or not tail.endswith(MARKER):
        return None
    algo, digest, id_type, name_len, key_len, length = TRAILER.unpack_from(tail, end)
    if algo >= _ALGORITHMS or digest >= len(_HASHES) or id_type >= len(_TYPES) or not length:
        return None
    at = end - length - key_len - name_len
    if at < 0:
        missing = -at
        if missing > start:
            return None
        tail = read(start - missing, missing) + tail
        at, end = 0, end + missing
    if id_type == _PKCS7:
        return _parse_pkcs7(tail[end - length : end], {} if known is None else known)
    key_at = at + name_len
    return Signer(
        _TYPES[id_type],
        name=tail[at:key_at],
        key_id=tail[key_at : key_at + key_len],
        digest=_HASHES[digest],
        signature=tail[key_at + key_len : end],
    )


def _parse_pkcs7(message: bytes, known: dict[bytes, Signer]) -> Signer | None:
    for head, like in known.items():
        if message.startswith(head) and len(message) == len(head) + len(like.signature):
            signature = message[len(head) :]
            return Signer(
                like.id_type, name=like.name, key_id=like.key_id, digest=like.digest, signature=signature
            )
    try:
        signer, end = _read_signer(message)
    except (IndexError, ValueError):
        return None
    if end == len(message):
        known[message[: end - len(signer.signature)]] = signer
    return signer


def signer_info(message: bytes) -> Der:
    """The values in the first SignerInfo of a message. IndexError or ValueError if it is another."""
    content = Der(message).enter(_SEQUENCE)
    if content.take(_OID) != _SIGNED_DATA:
        raise ValueError("no signed data")
    signed = content.enter(_CONTEXT).enter(_SEQUENCE)
    signed.take(_INTEGER)
    signed.take(_SET)
    signed.take(_SEQUENCE)
    while signed.tag() & 0xE0 == _CONTEXT:  # certificates, revocation lists
        signed.take()
    return signed.enter(_SET).enter(_SEQUENCE)


def _read_signer(message: bytes) -> tuple[Signer, int]:
    """The first signer, and where its signature ends. IndexError or ValueError if the message is another."""
    signer = signer_info(message)
    signer.take(_INTEGER)
    who = signer.enter(_SEQUENCE)
    name = _common_name(who.enter(_SEQUENCE))
    serial = who.take(_INTEGER)
    digest = dotted(signer.enter(_SEQUENCE).take(_OID))
    if signer.tag() == _CONTEXT:  # signed attributes
        signer.take()
    signer.take(_SEQUENCE)
    found = Signer(
        _TYPES[_PKCS7],
        name=name,
        key_id=_magnitude(serial),
        digest=DIGESTS.get(digest, digest),
        signature=signer.take(_OCTETS),
    )
    return found, signer.place()


def _common_name(name: Der) -> bytes:
    text = b""
    while name.more():
        parts = name.enter(_SET)
        while parts.more():
            part = parts.enter(_SEQUENCE)
            kind = part.take(_OID)
            text = part.take().split(b"\0", 1)[0]
            if kind == _COMMON_NAME:
                return text
    return text


def _magnitude(number: bytes) -> bytes:
    value = abs(int.from_bytes(number, "big", signed=True))
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def dotted(oid: bytes) -> str:
    """An object identifier as it is written: `2.5.4.3`. IndexError or ValueError for what is none."""
    if len(oid) > _LONGEST_OID:
        raise ValueError(f"an object identifier of {len(oid)} bytes")
    parts, value = [], 0
    for byte in oid:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(value)
            value = 0
    first = min(parts[0] // 40, 2)
    return ".".join(map(str, [first, parts[0] - 40 * first, *parts[1:]]))


class Der:
    """Values of DER, one after the other. ValueError for another tag or a length beyond the end."""

    def __init__(self, data: bytes, base: int = 0) -> None:
        self._data, self._base = data, base
        self._at = 0

    def place(self) -> int:
        """Where the next value begins in the outermost data."""
        return self._base + self._at

    def more(self) -> bool:
        """Whether there is another value."""
        return self._at < len(self._data)

    def tag(self) -> int:
        """Of the next value. IndexError if there is none."""
        return self._data[self._at]

    def take(self, tag: int | None = None) -> bytes:
        """The content of the next value."""
        data, at = self._data, self._at
        if tag is not None and data[at] != tag:
            raise ValueError(f"expected tag {tag:#x}, found {data[at]:#x}")
        length = data[at + 1]
        at += 2
        if length & 0x80:
            more = length & 0x7F
            if not 0 < more <= 4:
                raise ValueError("a length of a form that no signature has")
            length = int.from_bytes(data[at : at + more], "big")
            at += more
        if at + length > len(data):
            raise ValueError(f"a value of {length} bytes where {len(data) - at} are left")
        self._at = at + length
        return data[at : at + length]

    def whole(self) -> bytes:
        """The next value with its tag and length."""
        start = self._at
        self.take()
        return self._data[start : self._at]

    def enter(self, tag: int) -> Der:
        """The values in the next one."""
        content = self.take(tag)
        return Der(content, self.place() - len(content))
